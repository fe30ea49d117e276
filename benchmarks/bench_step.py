"""Speed of training: cost of the loop around the networks, naive loops, ``torch.compile``.

    python benchmarks/bench_step.py [--parts loop,images,ceiling,joints,compile,compile-images] [--threads 1]
      [--write]

``--write`` puts the tables into ``benchmarks/RESULTS.md``. Contestants alternate in rounds; the time of a step is the
median over rounds. With one thread it is the CPU time of all threads and processes, so that other work on the machine
costs all contestants alike. With more threads it is the wall clock, on an otherwise idle machine. ``bench_jmvae.py``
has the time to an accuracy.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from naive_loop import ImageFolder, train_images, train_joints
from PIL import Image
from torch import Tensor, nn

from cvhpe.config.schema import checked
from cvhpe.data.loader import Batches
from cvhpe.ops import kernel_state
from cvhpe.synthetic import poses
from cvhpe.training.batching import TrainBatch, make_batch, step_generator
from cvhpe.training.callbacks import Reporter
from cvhpe.training.datamodule import open_data
from cvhpe.training.device import autocast_type
from cvhpe.training.distributed import ProcessGroup
from cvhpe.training.loss_tracker import LossTracker
from cvhpe.training.run_writer import RunWriter
from cvhpe.training.step import train_step
from cvhpe.training.trainer import batches_from, build_state, data_metadata, train_loader

RESULTS = Path(__file__).parent / "RESULTS.md"
BEGIN, END = "<!-- training: begin -->", "<!-- training: end -->"
Table = tuple[str, list[str], list[list[str]]]


def spent() -> float:
    """CPU seconds of this process and its finished children; wall-clock seconds with several threads."""
    if torch.get_num_threads() > 1:
        return time.perf_counter()
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def time_steps(contestants: Mapping[str, Callable[[], object]], steps: int, rounds: int) -> dict[str, float]:
    """Seconds a step of each contestant: medians over rounds, after a warm-up round."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds + 1):
        for name, step in contestants.items():
            began = spent()
            for _ in range(steps):
                step()
            if number:
                seconds[name].append((spent() - began) / steps)
    return {name: statistics.median(times) for name, times in seconds.items()}


class Loop:
    """A training run without its folder, one step at a time."""

    def __init__(self, data: str, **settings: object) -> None:
        fixed = {"device": "cpu", "min_steps": 0, "epochs": 100000, "num_validations": 1}
        self.config = checked({**fixed, "data": [data], **settings})
        self.data, device = open_data(self.config), torch.device("cpu")
        self.loader = train_loader(self.config, self.data, device, ProcessGroup())
        self.state, self.context = build_state(self.config, self.loader, device)
        self.batches = batches_from(self.loader, 0)

    def next_batch(self) -> TrainBatch:
        return make_batch(next(self.batches), step_generator(self.config.seed, self.state.step), self.context)

    def step(self) -> None:
        train_step(self.state, self.next_batch())


def bare_step(loop: Loop) -> Callable[[], None]:
    """The same networks and optimizer on one prepared batch: forward, mean squared error, backward, update."""
    model, optimizer = loop.state.model, loop.state.optimizer
    batch = loop.next_batch().micro_batches[0].batch
    inputs = {n: m.augment(batch.stored[n], batch.view) for n, m in model.modalities.items()}

    def step() -> None:
        total = torch.zeros(())
        for source in model.encoders:
            z = model.encode(source, inputs[source], batch.side).mu
            for pair in model.pairs:
                if pair.source == source:
                    total = total + nn.functional.mse_loss(model.decode(pair.target, z).float(), inputs[pair.target])
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        optimizer.step()

    return step


def time_once(work: Callable[[], object], before: Callable[[], object] = lambda: None, times: int = 5) -> float:
    """Median seconds of ``work``, each time after ``before``, which is not timed."""
    seconds = []
    for _ in range(times):
        before()
        began = spent()
        work()
        seconds.append(spent() - began)
    return statistics.median(seconds)


def log_and_save(loop: Loop, out: Path) -> tuple[float, float]:
    """Seconds of a log record and of a checkpoint."""
    tracker, metadata = LossTracker(loop.state.model.pairs, ProcessGroup()), data_metadata(loop.loader)
    writer = RunWriter(out, loop.config, metadata, {}, len(loop.loader), ProcessGroup(), Reporter())
    writer.open(loop.state, resume=False)

    def step() -> None:
        tracker.add(loop.state.step, train_step(loop.state, loop.next_batch()))

    log = time_once(lambda: writer.log_step(loop.state, tracker.read().means), step)
    return log, time_once(lambda: writer.save_checkpoint(loop.state, tracker), step)


def loop_cost(folder: Path) -> Table:
    """Cost of everything but the networks: data, augmentation, losses, logging, checkpoints."""
    rows = []
    cases = {
        "rgb,joints3d, 256 px, batch 8": ({"modalities": ["rgb", "joints3d"], "pairs": ["rgb:joints3d", "rgb:rgb"],
            "image_size": 256, "batch_size": 8, "synthetic_count": 120}, "synthetic", 1, 4),
        "joints2d,joints3d, batch 64": ({"modalities": ["joints2d", "joints3d"],
            "pairs": ["joints2d:joints3d", "joints2d:joints2d"]}, f"joints:{hands(folder)}", 40, 9),
        "joints2d,joints3d, batch 512": ({"modalities": ["joints2d", "joints3d"], "batch_size": 512,
            "pairs": ["joints2d:joints3d", "joints2d:joints2d"]}, f"joints:{hands(folder)}", 10, 9),
    }  # fmt: skip
    for name, (settings, data, steps, rounds) in cases.items():
        loop = Loop(data, **settings)
        times = time_steps({"bare": bare_step(loop), "loop": loop.step}, steps, rounds)
        log, save = log_and_save(loop, folder / name.replace(",", "").replace(" ", "_"))
        config = loop.config
        whole = times["loop"] + log / config.log_every + save * times["loop"] / config.checkpoint_every_s
        rows.append([name, ms(times["bare"]), ms(whole), f"{whole / times['bare'] - 1:+.1%}", ms(log), ms(save)])
    title = f"The loop's own cost: ms a step, networks alone and the whole loop ({clock()})"
    return title, ["", "bare networks", "whole loop", "cost", "a log line", "a checkpoint"], rows


def images(folder: Path) -> Table:
    """Against a naive loop that decodes and augments in its data loader."""
    settings = {
        "modalities": ["rgb", "joints3d"],
        "pairs": ["rgb:joints3d", "rgb:rgb"],
        "image_size": 256,
        "batch_size": 8,
        "synthetic_count": 120,
    }
    fast, exact = Loop("synthetic", precision="auto", **settings), Loop("synthetic", **settings)
    pack = fast.data.train[0]
    (folder / "png").mkdir()
    rows_of = np.arange(len(pack))
    for i, pixels in zip(rows_of, pack.take("rgb", rows_of), strict=True):
        Image.fromarray(pixels).save(folder / "png" / f"{i}.png")
    xyz = pack["joints3d_mm"]
    joints = ((xyz - xyz[:, :1]) / pack["scale_mm"][:, None, None]).astype(np.float32)
    naive = ImageFolder(folder / "png", joints, pack["side"], 256, pack.margin)
    pair, both = train_images(naive, 8, shared=False), train_images(naive, 8, shared=True)
    contestants: dict[str, Callable[[], object]] = {
        "pair": lambda: next(pair), "both": lambda: next(both), "float32": exact.step, "bfloat16": fast.step
    }  # fmt: skip
    times = time_steps(contestants, 1, 5)
    kind = str(autocast_type("auto", torch.device("cpu"))).removeprefix("torch.")
    names = {
        "pair": "naive loop, PIL, float32, a pair at a time",
        "both": "the same, both pairs from one encoding",
        "float32": "cvhpe, float32",
        "bfloat16": f"cvhpe, precision=auto ({kind})",
    }
    rows = [
        [names[n], f"{8 / t:.2f}", f"{times['pair'] / t:.2f}", f"{times['both'] / t:.2f}"] for n, t in times.items()
    ]
    columns = ["", "images/s", "over a pair at a time", "over one encoding"]
    return f"`rgb,joints3d` at 256, batch 8: images a second ({clock()})", columns, rows


def ceiling(folder: Path) -> Table:
    """Operations a second of the image step, compared with a large matmul."""
    from torch.utils.flop_counter import FlopCounterMode

    settings = {"modalities": ["rgb", "joints3d"], "pairs": ["rgb:joints3d", "rgb:rgb"], "image_size": 256}
    settings |= {"batch_size": 8, "synthetic_count": 120}
    rows, loops = [], {}
    for precision in ("float32", "bfloat16"):
        loops[precision] = Loop("synthetic", precision=precision, **settings).step
    with FlopCounterMode(display=False) as counter:
        loops["bfloat16"]()
    work = counter.get_total_flops()
    times = time_steps(loops, 1, 5)
    for precision, seconds in times.items():
        a, b = (torch.randn(2048, 2048, dtype=getattr(torch, precision)) for _ in "ab")
        best = 2 * 2048**3 / time_once(lambda a=a, b=b: a @ b, times=7)  # type: ignore[misc]
        rates = [f"{v / 1e9:.0f}" for v in (best, work / seconds)] + [f"{8 / t:.1f}" for t in (seconds, work / best)]
        rows.append([precision, *rates])
    title = f"`rgb,joints3d` at 256, batch 8, {work / 1e9:.0f} Gflop a step ({clock()})"
    return title, ["", "matmul 2048, Gflop/s", "the step, Gflop/s", "images/s", "at the speed of the matmul"], rows


def joints(folder: Path) -> Table:
    """Against a loop written for these two joint modalities alone."""
    points, xyz, side = canonical(folder)
    rows = []
    for batch, steps in ((64, 30), (512, 10)):
        settings = {"modalities": ["joints2d", "joints3d"], "pairs": ["joints2d:joints3d", "joints2d:joints2d"]}
        loop = Loop(f"joints:{hands(folder)}", lr=1e-3, batch_size=batch, **settings)
        by_hand = train_joints(points, xyz, side, batch)
        times = time_steps({"hand": lambda it=by_hand: next(it), "cvhpe": loop.step}, steps, 11)  # type: ignore[misc,dict-item]
        rows.append([str(batch), ms(times["hand"]), ms(times["cvhpe"]), f"{times['hand'] / times['cvhpe']:.2f}"])
    return f"`joints2d,joints3d`: ms a step ({clock()})", ["batch", "written by hand", "cvhpe", "ratio"], rows


Case = tuple[dict[str, object], str, int, int]


def compiled_joints(folder: Path) -> Table:
    """Gain of ``torch.compile`` for joint networks."""
    settings = {"modalities": ["joints2d", "joints3d"], "pairs": ["joints2d:joints3d", "joints2d:joints2d"]}
    cases: dict[str, Case] = {
        "joints2d,joints3d, batch 64": ({**settings}, f"joints:{hands(folder)}", 40, 9),
        "joints2d,joints3d, batch 512": ({**settings, "batch_size": 512}, f"joints:{hands(folder)}", 10, 9),
    }
    return compiled(folder, cases)


def compiled_images(folder: Path) -> Table:
    """Gain of ``torch.compile`` for image networks."""
    settings: dict[str, object] = {"modalities": ["rgb", "joints3d"], "pairs": ["rgb:joints3d", "rgb:rgb"]}
    settings |= {"batch_size": 8, "image_size": 256, "synthetic_count": 120, "precision": "auto"}
    return compiled(folder, {"rgb,joints3d, 256 px, batch 8, bfloat16": (settings, "synthetic", 1, 5)})


def compiled(folder: Path, cases: dict[str, Case]) -> Table:
    """The same loop with and without compilation, and the time of compiling with an empty cache."""
    # In this process: the CPU time of a pool of compilers counts only once the pool ends.
    os.environ |= {"TORCHINDUCTOR_COMPILE_THREADS": "1", "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor")}
    rows = []
    for name, (settings, data, steps, rounds) in cases.items():
        loops = {}
        for mode in ("off", "default"):
            loops[mode] = Loop(data, compile=mode, **settings).step
        took = time_once(loops["default"], times=1)
        print(f"{name}: compiled in {took:.0f} s", flush=True)
        times = time_steps(loops, steps, rounds)
        rows.append(
            [name, ms(times["off"]), ms(times["default"]), f"{times['off'] / times['default']:.2f}", f"{took:.0f}"]
        )
    title = f"`torch.compile` (`--set compile=default`): ms a step of the whole loop ({clock()})"
    return title, ["", "off", "compiled", "ratio", "s to compile"], rows


def hands(folder: Path) -> Path:
    """4,000 synthetic hands to train on and 500 held out, as a ``joints`` file."""
    path = folder / "hands.npz"
    if not path.exists():
        made = poses(4500, 7)
        np.savez(
            path, joints3d_mm=made["joints3d_mm"], joints2d_px=made["joints2d_px"], K=made["K"],
            is_left=made["is_left"], layout=np.array("freihand"),
            split=np.where(np.arange(4500) < 4000, "train", "val"),
        )  # fmt: skip
    return path


def canonical(folder: Path) -> tuple[Tensor, Tensor, Tensor]:
    """The training hands as tensors: 2D crop fractions, root-relative 3D in bones, side."""
    config = checked({"modalities": ["joints2d", "joints3d"], "data": [f"joints:{hands(folder)}"]})
    arrays = Batches(open_data(config).train, ("joints2d", "joints3d"), 64).arrays()
    return arrays["joints2d"], arrays["joints3d"], arrays["side"]


def clock() -> str:
    """Unit of the times."""
    threads = torch.get_num_threads()
    return "one thread, CPU time" if threads == 1 else f"{threads} threads, wall clock"


def ms(seconds: float) -> str:
    return f"{seconds * 1e3:.2f}"


def machine() -> str:
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        "?",
    )
    load = os.getloadavg()[0]
    return (
        f"{model}, {os.cpu_count()} virtual cores, load {load:.1f}; Python {platform.python_version()}, torch "
        f"{torch.__version__}, threads: {torch.get_num_threads()}; {kernel_state().reason}; "
        f"{time.strftime('%Y-%m-%d')}"
    )


def as_text(tables: list[Table]) -> Iterator[str]:
    for title, columns, rows in tables:
        yield f"**{title}**\n"
        yield "| " + " | ".join(columns) + " |"
        yield "|" + "---|" * len(columns)
        yield from ("| " + " | ".join(row) + " |" for row in rows)
        yield ""


def write(text: str) -> None:
    """Replace the tables in RESULTS.md, or append them."""
    old = RESULTS.read_text() if RESULTS.exists() else "# What was measured\n"
    if BEGIN in old:
        before, after = old[: old.index(BEGIN)], old[old.index(END) + len(END) :]
    else:
        before, after = old.rstrip() + "\n\n## Training\n\n    python benchmarks/bench_step.py --write\n\n", "\n"
    RESULTS.write_text(f"{before}{BEGIN}\n{text}{END}{after}")


PARTS = {"loop": loop_cost, "images": images, "ceiling": ceiling, "joints": joints}
PARTS |= {"compile": compiled_joints, "compile-images": compiled_images}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    tables = []
    with tempfile.TemporaryDirectory() as folder:
        for part in asked.parts.split(","):
            place = Path(folder) / part
            place.mkdir()
            tables.append(PARTS[part](place))
            print("\n".join(as_text(tables[-1:])), flush=True)
            if asked.write:  # after every part, in case the run is interrupted
                write(f"{machine()}.\n\n" + "\n".join(as_text(tables)) + "\n")
    print(machine())


if __name__ == "__main__":
    main()
