"""Damage every reader's files and see what comes out: good samples, or one :class:`UserError`; nothing else.

    python benchmarks/fuzz.py --inputs 20000 [--seed 0] [--reader rhd]

An input is a data set in miniature (written byte for byte in its own layout, as the tests write them) of which one
file was mutated, packed by the same function that ``cvhpe data prepare`` calls. It fails where it ends in anything
but samples or a ``UserError`` of one line, takes more than :data:`MOST_SECONDS` of processor time, or needs more
than :data:`MOST_BYTES` of memory beside what the process had.
"""

from __future__ import annotations

import argparse
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

sys.path[:0] = [str(Path(__file__).parents[1] / "tests" / part) for part in ("data", ".")]

import writers  # noqa: E402
from hands import joints_file  # noqa: E402
from rhd_writer import write_rhd  # noqa: E402

from cvhpe import checkpoint  # noqa: E402
from cvhpe.data.prepare import prepare  # noqa: E402
from cvhpe.errors import UserError  # noqa: E402
from cvhpe.registry import registry  # noqa: E402

MOST_SECONDS = 20.0
MOST_BYTES = 2 << 30
POINTS = ("joints2d", "joints3d", "rgb", "depth", "mask")


def _joints(root: Path, rng: np.random.Generator) -> None:
    joints_file(root / "hands.npz", 8, 3)


def _rhd(root: Path, rng: np.random.Generator) -> None:
    write_rhd(root, 2, 1)


def _weights(root: Path, rng: np.random.Generator) -> None:
    tensors = {"model.a": torch.randn(30, 20), "model.b": torch.arange(7), "optim.a.step": torch.ones(())}
    checkpoint.save(root / "model.safetensors", tensors, {"config": {"lr": 0.1}, "facts": {}})


Writer = Callable[[Path, np.random.Generator], object]
READERS: dict[str, tuple[Writer, str, str, str]] = {
    "rhd": (_rhd, "rhd", "", "train"),
    "stb": (lambda r, g: writers.write_stb(r, g, 1, depth=False), "stb", "", "test"),
    "stb-sk": (lambda r, g: writers.write_stb(r, g, 1), "stb-sk", "", "test"),
    "icvl": (writers.write_icvl, "icvl", "", "train"),
    "nyu": (writers.write_nyu, "nyu", "", "train"),
    "msra": (lambda r, g: writers.write_msra(r, g, 1, gestures=("1",)), "msra", "", "test"),
    "freihand": (writers.write_freihand, "freihand", "", "train"),
    "coco": (writers.write_coco, "coco", "annotations/mine_train.json", "train"),
    "interhand": (writers.write_interhand, "coco", "test_interhand_data.json", "test"),
    "joints": (_joints, "joints", "hands.npz", "train"),
    "weights": (_weights, "", "", ""),
}
"""Name -> what writes it, the data set that reads it, where that looks, and the split that is read."""


class Hang(Exception):
    """An input took too long."""


class Subject:
    """One reader and its miniature, whole until :meth:`read` is given something else."""

    def __init__(self, name: str, root: Path) -> None:
        write, self.dataset, place, self.split = READERS[name]
        self.name, self.root = name, root
        root.mkdir(parents=True)
        write(root, np.random.default_rng(1))
        self.path = root / place
        self.files = sorted(p for p in root.rglob("*") if p.is_file())
        self.whole = {p: p.read_bytes() for p in self.files}
        self.cache = root.with_name(root.name + "-cache")
        if self.read() is not None:
            raise RuntimeError(f"{name}: its own undamaged miniature is refused")

    def read(self, file: Path | None = None, raw: bytes = b"") -> UserError | None:
        """Read with ``file`` replaced by ``raw``; the fault that the user is told, None where it reads well."""
        if file is not None:
            file.write_bytes(raw)
        try:
            with bounded():
                if self.dataset:
                    spec = registry().dataset(self.dataset)
                    prepare(
                        spec, self.path, self.split, image_size=64, fields=POINTS, workers=1, limit=3, cache=self.cache
                    )
                else:
                    checkpoint.load(self.root / "model.safetensors")
        except UserError as error:
            if "\n" in str(error):
                raise RuntimeError(f"{self.name}: more than a line: {error}") from error
            return error
        finally:
            if file is not None:
                file.write_bytes(self.whole[file])
            shutil.rmtree(self.cache, ignore_errors=True)
        return None

    def mutated(self, chance: random.Random) -> tuple[Path, bytes]:
        """One of its files, damaged; small files (labels, calibration) as often as pictures."""
        kinds = sorted({p.suffix for p in self.files})
        kind = chance.choice(kinds)
        file = chance.choice([p for p in self.files if p.suffix == kind])
        return file, mutate(self.whole[file], chance)


TOKENS = (
    b"\x00",
    b"\xff" * 4,
    b"\xff\xff\xff\x7f",
    b"-1",
    b"1e999",
    b"NaN",
    b"null",
    b"[]",
    b"{}",
    b'"',
    b"\n",
    b"9" * 30,
)


def mutate(raw: bytes, chance: random.Random) -> bytes:
    """Damage that disks, copies and people do: cut, flipped, repeated, moved, overwritten, other people's numbers."""
    out = bytearray(raw)
    for _ in range(chance.choice((1, 1, 1, 2, 4, 16))):
        # headers and trailers are where lengths and offsets stand
        at = chance.randrange(len(out) + 1) if chance.random() < 0.6 else min(len(out), chance.randrange(64))
        span = chance.choice((1, 2, 4, 8, 64, 1024))
        kind = chance.randrange(8)
        if kind == 0:
            del out[at:]
        elif kind == 1:
            del out[at : at + span]
        elif kind == 2:
            out[at : at + span] = chance.randbytes(min(span, 64))
        elif kind == 3 and at < len(out):
            out[at] ^= 1 << chance.randrange(8)
        elif kind == 4:
            token = chance.choice(TOKENS)
            out[at : at + chance.choice((0, len(token)))] = token
        elif kind == 5:
            other = chance.randrange(len(out) + 1)
            out[at:at] = out[other : other + span]
        elif kind == 6:
            out[at : at + span] = bytes(len(out[at : at + span]))
        else:
            digits = [i for i in range(at, min(at + 200, len(out))) if 48 <= out[i] <= 57]
            if digits:
                i = chance.choice(digits)
                out[i : i + 1] = chance.choice((b"0", b"9", b"-", b".", b"e9", b"99999999999"))
    return bytes(out)


@contextmanager
def bounded() -> Iterator[None]:
    """Let what is inside take :data:`MOST_SECONDS` of processor time and :data:`MOST_BYTES` of address space more."""

    def stop(number: int, frame: object) -> None:
        raise Hang(f"more than {MOST_SECONDS} s")

    old_limit = resource.getrlimit(resource.RLIMIT_AS)
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    old = signal.signal(signal.SIGVTALRM, stop)
    resource.setrlimit(resource.RLIMIT_AS, (held + MOST_BYTES, old_limit[1]))
    signal.setitimer(signal.ITIMER_VIRTUAL, MOST_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, old_limit)
        signal.signal(signal.SIGVTALRM, old)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reader", choices=list(READERS))
    asked = parser.parse_args()
    names = [asked.reader] if asked.reader else list(READERS)
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        print(f"{'reader':<12}{'inputs':>8}{'read well':>11}{'refused':>9}{'failed':>8}{'CPU s':>8}")
        for number, name in enumerate(names):
            subject, count = Subject(name, Path(folder) / name), [0, 0, 0]
            began = time.process_time()
            for i in range(number, asked.inputs, len(names)):
                file, raw = subject.mutated(random.Random(f"{asked.seed} {i}"))
                try:
                    count[subject.read(file, raw) is not None] += 1
                except Exception as error:
                    count[2] += 1
                    print(f"{name}: input {i}, {file.name}: {type(error).__name__}: {str(error)[:200]}")
            failures += count[2]
            taken = time.process_time() - began
            print(f"{name:<12}{sum(count):>8}{count[0]:>11}{count[1]:>9}{count[2]:>8}{taken:>8.0f}", flush=True)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
