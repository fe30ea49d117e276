"""FusionParams fast training is: the loop around the networks, naive loops, ``torch.compile``; one command, one run.

    python benchmarks/bench_step.py [--parts loop,pictures,ceiling,joints,compile,compile-pictures] [--threads 1]
      [--write]

``--write`` puts the tables into ``benchmarks/RESULTS.md``. Contestants take turns within a run, and the time of a
step is the median over turns. With one thread it is CPU seconds of all threads and processes: other work on the
machine then costs all alike. With more it is the wall clock, and the machine should have nothing else to do.
``bench_jmvae.py`` has the time to an accuracy.
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
from naive_loop import Pictures, train_joints, train_pictures
from PIL import Image
from torch import Tensor, nn

from cvhpe.config.schema import checked
from cvhpe.data.loader import Batches
from cvhpe.data.splits import Data
from cvhpe.ops import kernel_state
from cvhpe.synthetic import poses
from cvhpe.training.datamodule import open_data
from cvhpe.training.trainer import Reporter, Trainer

RESULTS = Path(__file__).parent / "RESULTS.md"
BEGIN, END = "<!-- training: begin -->", "<!-- training: end -->"
Table = tuple[str, list[str], list[list[str]]]


def spent() -> float:
    """CPU seconds of this process and of those it has waited for; seconds of the wall clock with several threads."""
    if torch.get_num_threads() > 1:
        return time.perf_counter()
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def take_turns(contestants: Mapping[str, Callable[[], object]], steps: int, turns: int) -> dict[str, float]:
    """Seconds a step of each: medians over turns, after one turn that nobody counts."""
    found: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(turns + 1):
        for name, step in contestants.items():
            began = spent()
            for _ in range(steps):
                step()
            if turn:
                found[name].append((spent() - began) / steps)
    return {name: statistics.median(times) for name, times in found.items()}


def make_trainer(out: Path, data: str, **settings: object) -> tuple[Trainer, Data]:
    config = checked(
        {"device": "cpu", "min_steps": 0, "data": [data], "epochs": 100000, "num_validations": 1, **settings}
    )
    packs = open_data(config)
    out.mkdir()
    return Trainer(config, packs, out, Reporter()), packs


def looped(trainer: Trainer) -> Callable[[], None]:
    """One turn of the loop: the next batch, a step."""
    batches = trainer._batches_from(0)
    trainer.model.train()

    def step() -> None:
        trainer._step(next(batches), trainer.progress.step)
        trainer.progress.step += 1

    return step


def bare(trainer: Trainer) -> Callable[[], None]:
    """The same networks and optimiser on one batch that is ready: forward, a mean square, backward, update."""
    model, fields = trainer.model, next(trainer.batches.epoch(0))
    (part,), _ = trainer.feed(fields, torch.Generator().manual_seed(0))
    ready = {n: m.augment(part.batch.stored[n], part.batch.view) for n, m in model.modalities.items()}
    side, optimiser = part.batch.side, trainer.learner.optimiser

    def step() -> None:
        total = torch.zeros(())
        for source, encoder in model.encoders.items():
            del encoder
            z = model.encode(source, ready[source], side).mu
            for pair in model.pairs:
                if pair.source == source:
                    total = total + nn.functional.mse_loss(model.decode(pair.target, z).float(), ready[pair.target])
        optimiser.zero_grad(set_to_none=True)
        total.backward()
        optimiser.step()

    return step


def once(work: Callable[[], object], before: Callable[[], object] = lambda: None, times: int = 5) -> float:
    """Seconds of ``work``, each time after ``before``, which does not count; the median."""
    found = []
    for _ in range(times):
        before()
        began = spent()
        work()
        found.append(spent() - began)
    return statistics.median(found)


def loop_cost(folder: Path) -> Table:
    """What surrounds the networks: data, augmentation, losses, logging, checkpoints."""
    rows = []
    cases = {
        "rgb,joints3d, 256 px, batch 8": ({"modalities": ["rgb", "joints3d"], "pairs": ["rgb:joints3d", "rgb:rgb"],
            "image_size": 256, "batch_size": 8, "synthetic_count": 120}, "synthetic", 1, 4),
        "joints2d,joints3d, batch 64": ({"modalities": ["joints2d", "joints3d"],
            "pairs": ["joints2d:joints3d", "joints2d:joints2d"]}, f"joints:{hands(folder)}", 40, 9),
        "joints2d,joints3d, batch 512": ({"modalities": ["joints2d", "joints3d"], "batch_size": 512,
            "pairs": ["joints2d:joints3d", "joints2d:joints2d"]}, f"joints:{hands(folder)}", 10, 9),
    }  # fmt: skip
    for name, (settings, data, steps, turns) in cases.items():
        trainer, _ = make_trainer(folder / name.replace(",", "").replace(" ", "_"), data, **settings)
        loop = looped(trainer)
        times = take_turns({"bare": bare(trainer), "loop": loop}, steps, turns)
        log, save = once(trainer._log, loop), once(trainer._save)
        each = trainer.config.checkpoint_every_s
        whole = times["loop"] + log / trainer.config.log_every + save * times["loop"] / each
        rows.append([name, ms(times["bare"]), ms(whole), f"{whole / times['bare'] - 1:+.1%}", ms(log), ms(save)])
    title = f"The loop's own cost: ms a step, networks alone and the whole loop ({clock()})"
    return title, ["", "bare networks", "whole loop", "cost", "a log line", "a checkpoint"], rows


def pictures(folder: Path) -> Table:
    """Against a naive loop that decodes and augments in its loader."""
    settings = {
        "modalities": ["rgb", "joints3d"],
        "pairs": ["rgb:joints3d", "rgb:rgb"],
        "image_size": 256,
        "batch_size": 8,
        "synthetic_count": 120,
    }
    fast, data = make_trainer(folder / "bf16", "synthetic", precision="auto", **settings)
    exact, _ = make_trainer(folder / "fp32", "synthetic", **settings)
    pack = data.train[0]
    (folder / "png").mkdir()
    rows_of = np.arange(len(pack))
    for i, picture in zip(rows_of, pack.take("rgb", rows_of), strict=True):
        Image.fromarray(picture).save(folder / "png" / f"{i}.png")
    xyz = pack["joints3d_mm"]
    joints = ((xyz - xyz[:, :1]) / pack["scale_mm"][:, None, None]).astype(np.float32)
    naive = Pictures(folder / "png", joints, pack["side"], 256, pack.margin)
    pair, both = train_pictures(naive, 8, shared=False), train_pictures(naive, 8, shared=True)
    contestants: dict[str, Callable[[], object]] = {
        "pair": lambda: next(pair), "both": lambda: next(both), "float32": looped(exact), "bfloat16": looped(fast)
    }  # fmt: skip
    times = take_turns(contestants, 1, 5)
    kind = str(fast.model.precision).removeprefix("torch.")
    names = {
        "pair": "naive loop, PIL, float32, a pair at a time",
        "both": "the same, both pairs from one encoding",
        "float32": "cvhpe, float32",
        "bfloat16": f"cvhpe, precision=auto ({kind})",
    }
    rows = [
        [names[n], f"{8 / t:.2f}", f"{times['pair'] / t:.2f}", f"{times['both'] / t:.2f}"] for n, t in times.items()
    ]
    columns = ["", "pictures/s", "over a pair at a time", "over one encoding"]
    return f"`rgb,joints3d` at 256, batch 8: pictures a second ({clock()})", columns, rows


def ceiling(folder: Path) -> Table:
    """How near the picture step is to what the core can do: its operations a second beside a large matmul's."""
    from torch.utils.flop_counter import FlopCounterMode

    settings = {"modalities": ["rgb", "joints3d"], "pairs": ["rgb:joints3d", "rgb:rgb"], "image_size": 256}
    settings |= {"batch_size": 8, "synthetic_count": 120}
    rows, loops = [], {}
    for precision in ("float32", "bfloat16"):
        trainer, _ = make_trainer(folder / precision, "synthetic", precision=precision, **settings)
        loops[precision] = looped(trainer)
    with FlopCounterMode(display=False) as counter:
        loops["bfloat16"]()
    work = counter.get_total_flops()
    times = take_turns(loops, 1, 5)
    for precision, seconds in times.items():
        a, b = (torch.randn(2048, 2048, dtype=getattr(torch, precision)) for _ in "ab")
        best = 2 * 2048**3 / once(lambda a=a, b=b: a @ b, times=7)  # type: ignore[misc]
        found = [f"{v / 1e9:.0f}" for v in (best, work / seconds)] + [f"{8 / t:.1f}" for t in (seconds, work / best)]
        rows.append([precision, *found])
    title = f"`rgb,joints3d` at 256, batch 8, {work / 1e9:.0f} Gflop a step ({clock()})"
    return title, ["", "matmul 2048, Gflop/s", "the step, Gflop/s", "pictures/s", "all of it as a matmul"], rows


def joints(folder: Path) -> Table:
    """Against a loop written by hand for two joint modalities and nothing else."""
    points, xyz, side = canonical(folder)
    rows = []
    for batch, steps in ((64, 30), (512, 10)):
        settings = {"modalities": ["joints2d", "joints3d"], "pairs": ["joints2d:joints3d", "joints2d:joints2d"]}
        trainer, _ = make_trainer(
            folder / f"hand{batch}", f"joints:{hands(folder)}", lr=1e-3, batch_size=batch, **settings
        )
        by_hand = train_joints(points, xyz, side, batch)
        times = take_turns({"hand": lambda it=by_hand: next(it), "cvhpe": looped(trainer)}, steps, 11)  # type: ignore[misc,dict-item]
        rows.append([str(batch), ms(times["hand"]), ms(times["cvhpe"]), f"{times['hand'] / times['cvhpe']:.2f}"])
    return f"`joints2d,joints3d`: ms a step ({clock()})", ["batch", "written by hand", "cvhpe", "ratio"], rows


Case = tuple[dict[str, object], str, int, int]


def compiled_joints(folder: Path) -> Table:
    """What ``torch.compile`` brings joint networks."""
    settings = {"modalities": ["joints2d", "joints3d"], "pairs": ["joints2d:joints3d", "joints2d:joints2d"]}
    cases: dict[str, Case] = {
        "joints2d,joints3d, batch 64": ({**settings}, f"joints:{hands(folder)}", 40, 9),
        "joints2d,joints3d, batch 512": ({**settings, "batch_size": 512}, f"joints:{hands(folder)}", 10, 9),
    }
    return compiled(folder, cases)


def compiled_pictures(folder: Path) -> Table:
    """What ``torch.compile`` brings picture networks."""
    settings: dict[str, object] = {"modalities": ["rgb", "joints3d"], "pairs": ["rgb:joints3d", "rgb:rgb"]}
    settings |= {"batch_size": 8, "image_size": 256, "synthetic_count": 120, "precision": "auto"}
    return compiled(folder, {"rgb,joints3d, 256 px, batch 8, bfloat16": (settings, "synthetic", 1, 5)})


def compiled(folder: Path, cases: dict[str, Case]) -> Table:
    """The same loop with the option off and on, and what the compilation takes with nothing in its cache."""
    # In this process: what a pool of compilers spends is not seen before the pool ends.
    os.environ |= {"TORCHINDUCTOR_COMPILE_THREADS": "1", "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor")}
    rows = []
    for number, (name, (settings, data, steps, turns)) in enumerate(cases.items()):
        loops = {}
        for mode in ("off", "default"):
            trainer, _ = make_trainer(folder / f"{number}{mode}", data, compile=mode, **settings)
            loops[mode] = looped(trainer)
        took = once(loops["default"], times=1)
        print(f"{name}: compiled in {took:.0f} s", flush=True)
        times = take_turns(loops, steps, turns)
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
    """What times are measured in."""
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
    """Put the tables where the last ones were, or at the end."""
    old = RESULTS.read_text() if RESULTS.exists() else "# What was measured\n"
    if BEGIN in old:
        before, after = old[: old.index(BEGIN)], old[old.index(END) + len(END) :]
    else:
        before, after = old.rstrip() + "\n\n## Training\n\n    python benchmarks/bench_step.py --write\n\n", "\n"
    RESULTS.write_text(f"{before}{BEGIN}\n{text}{END}{after}")


PARTS = {"loop": loop_cost, "pictures": pictures, "ceiling": ceiling, "joints": joints}
PARTS |= {"compile": compiled_joints, "compile-pictures": compiled_pictures}


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
            if asked.write:  # after every part: a run that is cut short has something to show
                write(f"{machine()}.\n\n" + "\n".join(as_text(tables)) + "\n")
    print(machine())


if __name__ == "__main__":
    main()
