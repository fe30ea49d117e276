"""Damage the files of every reader: the result must be samples or one :class:`UserError`.

    python tests/helpers/fuzz.py --inputs 20000 [--seed 0] [--reader rhd]

An input is a miniature data set of which one file is mutated, packed by the function that ``cvhpe data prepare`` calls.
It fails if it ends in anything but samples or a ``UserError`` of one line, if it warns, or if it takes more than
:data:`MAX_SECONDS` of processor time or :data:`MAX_BYTES` of address space.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import pickle
import random
import re
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import scipy.io
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from helpers import dataset_writers as writers
from helpers.hands import joints_file
from helpers.rhd_writer import write_rhd

from cvhpe.data.loader import Batches
from cvhpe.data.packing.prepare import prepare
from cvhpe.errors import UserError
from cvhpe.plugin.registry import registry
from cvhpe.runs import serialization

MAX_SECONDS = 20.0
MAX_BYTES = 2 << 30
POINTS = ("joints2d", "joints3d", "rgb", "depth", "mask")


def _joints(root: Path, rng: np.random.Generator) -> None:
    joints_file(root / "hands.npz", 8, 3)


def _rhd(root: Path, rng: np.random.Generator) -> None:
    write_rhd(root, 2, 1)


def _weights(root: Path, rng: np.random.Generator) -> None:
    tensors = {"model.a": torch.randn(30, 20), "model.b": torch.arange(7), "optim.a.step": torch.ones(())}
    serialization.save(root / "model.safetensors", tensors, {"config": {"lr": 0.1}, "metadata": {}})


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
"""Name -> its writer, the data set that reads it, the path below the root, and the split."""


class Hang(Exception):
    """An input took too long."""


class Subject:
    """One reader and its miniature data set."""

    def __init__(self, name: str, root: Path) -> None:
        write, self.dataset, place, self.split = READERS[name]
        self.name, self.root = name, root
        root.mkdir(parents=True)
        write(root, np.random.default_rng(1))
        self.path = root / place
        self.files = sorted(p for p in root.rglob("*") if p.is_file())
        self.originals = {p: p.read_bytes() for p in self.files}
        self.cache = root.with_name(root.name + "-cache")
        if self.read() is not None:
            raise RuntimeError(f"{name}: the undamaged miniature is refused")

    def read(self, file: Path | None = None, raw: bytes = b"") -> UserError | None:
        """Read with ``file`` replaced by ``raw``; the error for the user, None if it reads well."""
        if file is not None:
            file.write_bytes(raw)
        try:
            with bounded(), no_warnings(self.name):
                if self.dataset:
                    spec = registry().dataset(self.dataset)
                    pack = prepare(
                        spec, self.path, self.split, image_size=64, fields=POINTS, workers=1, limit=3, cache=self.cache
                    )
                    check_finite(Batches([pack], [f for f in POINTS if f in pack or f in POINTS[:2]], 2))
                else:
                    serialization.read_tensors(self.root / "model.safetensors")
        except UserError as error:
            if "\n" in str(error):
                raise RuntimeError(f"{self.name}: more than a line: {error}") from error
            return error
        finally:
            if file is not None:
                file.write_bytes(self.originals[file])
            shutil.rmtree(self.cache, ignore_errors=True)
        return None

    def mutated(self, chance: random.Random) -> tuple[Path, bytes]:
        """One of its files, damaged; small files (labels, calibration) as often as images."""
        kinds = sorted({p.suffix for p in self.files})
        kind = chance.choice(kinds)
        file = chance.choice([p for p in self.files if p.suffix == kind])
        change = corrupt_numbers if kind in FORMATS and chance.random() < 1 / 3 else mutate_bytes
        return file, change(self.originals[file], chance, kind)


def check_finite(batches: Batches) -> None:
    """Refuse infinite values in a batch; NaN is a joint without a label."""
    for batch in batches.epoch(0):
        for name in ("joints3d", "joints2d", "scale_mm", "crop"):
            if batch[name].isinf().any():
                raise RuntimeError(f"{name} is infinite in a batch")


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
    b"1e300",
    *(struct.pack(kind, value) for kind, value in (("<d", 1e300), ("<d", float("nan")), ("<f", 3e38), ("<f", 1e20))),
)


def mutate_bytes(raw: bytes, chance: random.Random, kind: str = "") -> bytes:
    """Damage bytes: cut, flip, repeat, move, overwrite, change digits."""
    out = bytearray(raw)
    for _ in range(chance.choice((1, 1, 1, 2, 4, 16))):
        # headers and trailers are where lengths and offsets stand
        at = chance.randrange(len(out) + 1) if chance.random() < 0.6 else min(len(out), chance.randrange(64))
        span = chance.choice((1, 2, 4, 8, 64, 1024))
        damage = chance.randrange(8)
        if damage == 0:
            del out[at:]
        elif damage == 1:
            del out[at : at + span]
        elif damage == 2:
            out[at : at + span] = chance.randbytes(min(span, 64))
        elif damage == 3 and at < len(out):
            out[at] ^= 1 << chance.randrange(8)
        elif damage == 4:
            token = chance.choice(TOKENS)
            out[at : at + chance.choice((0, len(token)))] = token
        elif damage == 5:
            other = chance.randrange(len(out) + 1)
            out[at:at] = out[other : other + span]
        elif damage == 6:
            out[at : at + span] = bytes(len(out[at : at + span]))
        else:
            digits = [i for i in range(at, min(at + 200, len(out))) if 48 <= out[i] <= 57]
            if digits:
                i = chance.choice(digits)
                out[i : i + 1] = chance.choice((b"0", b"9", b"-", b".", b"e9", b"99999999999"))
    return bytes(out)


ODD = (math.nan, math.inf, -math.inf, 1e300, -1e300, 1e39, 1e20, 3e11, -3e11, 1e-300, 0.0, -1.0, 0.5, 2.0**63)


def corrupt_numbers(raw: bytes, chance: random.Random, kind: str) -> bytes:
    """A valid file in which a few numbers are implausible."""
    odd = chance.choice(ODD)
    if kind in (".json", ".txt"):
        numbers = list(re.finditer(rb"-?\d+(\.\d+)?(e[-+]?\d+)?", raw))
        for match in sorted(
            chance.sample(numbers, min(len(numbers), chance.choice((1, 1, 5)))), key=lambda m: -m.start()
        ):
            text = json.dumps(odd) if kind == ".json" else repr(odd)
            raw = raw[: match.start()] + text.encode() + raw[match.end() :]
        return raw
    into = io.BytesIO()
    if kind == ".pickle":
        content = pickle.loads(raw)
        frame = chance.choice(list(content))
        _corrupt(chance.choice(list(content[frame].values())), odd, chance)
        return pickle.dumps(content)
    if kind == ".mat":
        content = {n: v for n, v in scipy.io.loadmat(io.BytesIO(raw)).items() if not n.startswith("__")}
        _corrupt(chance.choice(list(content.values())), odd, chance)
        scipy.io.savemat(into, content, do_compression=chance.random() < 0.5)
        return into.getvalue()
    content = dict(np.load(io.BytesIO(raw)))
    name = chance.choice([n for n, v in content.items() if v.dtype.kind in "biuf"])
    content[name] = content[name].astype(np.float64 if chance.random() < 0.5 or name == "is_left" else np.float32)
    _corrupt(content[name], odd, chance)
    np.savez(into, **content)
    return into.getvalue()


def _corrupt(array: np.ndarray, odd: float, chance: random.Random) -> None:
    with np.errstate(all="ignore"):
        for _ in range(chance.choice((1, 1, 5, 1000))):
            array.flat[chance.randrange(array.size)] = array.dtype.type(odd) if array.dtype.kind == "f" else 7


FORMATS = (".json", ".txt", ".pickle", ".mat", ".npz")


@contextmanager
def no_warnings(name: str) -> Iterator[None]:
    """Raise for any warning of what is inside."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        finally:
            if caught:
                first = caught[0]
                place = f"{Path(first.filename).name}:{first.lineno}"
                raise RuntimeError(f"{name}: warned: {first.category.__name__}: {first.message} ({place})")


@contextmanager
def bounded() -> Iterator[None]:
    """Let what is inside take :data:`MAX_SECONDS` of processor time and :data:`MAX_BYTES` of address space more."""

    def stop(number: int, frame: object) -> None:
        raise Hang(f"more than {MAX_SECONDS} s")

    old_limit = resource.getrlimit(resource.RLIMIT_AS)
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    old = signal.signal(signal.SIGVTALRM, stop)
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MAX_BYTES, old_limit[1]))
    signal.setitimer(signal.ITIMER_VIRTUAL, MAX_SECONDS)
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
        print("reader      inputs  read well  refused  failed  CPU s  slowest s", flush=True)
        for number, name in enumerate(names):
            subject, count, slowest = Subject(name, Path(folder) / name), [0, 0, 0], 0.0
            began = time.process_time()
            for i in range(number, asked.inputs, len(names)):
                file, raw = subject.mutated(random.Random(f"{asked.seed} {i}"))
                start = time.process_time()
                try:
                    count[subject.read(file, raw) is not None] += 1
                except Exception as error:
                    count[2] += 1
                    print(f"{name}: input {i}, {file.name}: {type(error).__name__}: {str(error)[:300]}", flush=True)
                slowest = max(slowest, time.process_time() - start)
            failures += count[2]
            taken = time.process_time() - began
            figures = f"{count[0]:>11}{count[1]:>9}{count[2]:>8}{taken:>7.0f}{slowest:>11.2f}"
            print(f"{name:<12}{sum(count):>6}{figures}", flush=True)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
