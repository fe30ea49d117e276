"""Whether memory stays flat while a run goes on and on: every kind of network, validations, checkpoints, logging.

    python benchmarks/soak.py --minutes 30 [--stretch 4]

One process trains images and joints together on a few synthetic hands, validates and draws predictions for
TensorBoard every 100 steps, writes a state every 20 s, and every ``--stretch`` minutes is sent SIGTERM and goes on with
``--resume``. A thread samples what the process holds once glibc has given back what was freed: without that, a run
whose memory is flat seems to grow by what allocators keep. It ends with the median of every window, a slope and a
verdict; the exit code is 1 where memory, open files or threads grow.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import itertools
import os
import resource
import signal
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from cvhpe.config.schema import Config, checked
from cvhpe.training.datamodule import open_data
from cvhpe.training.trainer import Reporter, Stopped, train
from cvhpe.viz.tensorboard import add_logger

MOST_GROWTH = 0.01
"""Of the median, over the whole time by the fitted slope."""
WARM_UP = 1 / 6
"""Share of the time that is left out, because caches fill then."""
WINDOWS = 10
EVERY = 3.0
"""Seconds between two samples."""
MANY = 10_000_000


@dataclass(frozen=True)
class Sample:
    """At ``seconds`` since the start the process held ``megabytes``, and so many open files and threads."""

    seconds: float
    megabytes: float
    files: int
    threads: int


def sample(began: float) -> Sample:
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    held = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6
    open_files = len(os.listdir("/proc/self/fd"))
    return Sample(time.monotonic() - began, held, open_files, len(os.listdir("/proc/self/task")))


class Watch(threading.Thread):
    """Samples this process, and asks it to stop every ``stretch`` seconds until ``whole`` are over."""

    def __init__(self, whole: float, stretch: float) -> None:
        super().__init__(daemon=True)
        self.began, self.whole, self.stretch = time.monotonic(), whole, stretch
        self.samples: list[Sample] = []

    @property
    def over(self) -> bool:
        return bool(self.samples) and self.samples[-1].seconds >= self.whole

    def run(self) -> None:
        stops = self.stretch
        while not self.over:
            time.sleep(EVERY)
            self.samples.append(sample(self.began))
            if self.samples[-1].seconds >= min(stops, self.whole):
                stops += self.stretch
                os.kill(os.getpid(), signal.SIGTERM)


def config() -> Config:
    return checked(
        {
            "modalities": ["rgb", "joints2d", "joints3d"],
            "pairs": ["rgb:joints3d", "rgb:rgb", "joints2d:joints3d", "joints3d:joints3d"],
            "image_size": 64, "hidden_dim": 64, "num_hidden_layers": 2, "batch_size": 8, "synthetic_count": 80,
            "lr": 1e-5, "min_steps": MANY, "num_validations": MANY // 100, "log_every": 10, "checkpoint_every_s": 20,
            "ema_decay": 0.99, "precision": "auto", "workers": 2, "device": "cpu", "threads": 1, "clip_norm": 1.0,
        }
    )  # fmt: skip


def verdict(samples: list[Sample]) -> tuple[str, bool]:
    """A table of windows and a sentence; whether all is flat."""
    whole = samples[-1].seconds
    warm = [s for s in samples if s.seconds >= WARM_UP * whole]
    edges = np.linspace(warm[0].seconds, whole, WINDOWS + 1)
    lines = [f"{'from s':>8}{'to s':>8}{'median MB':>11}{'most MB':>9}{'files':>7}{'threads':>9}"]
    middles, medians, counts = [], [], []
    for start, end in itertools.pairwise(edges):
        inside = [s for s in warm if start <= s.seconds <= end]
        held = [s.megabytes for s in inside]
        files, threads = (statistics.median(getattr(s, name) for s in inside) for name in ("files", "threads"))
        middles.append((start + end) / 2)
        medians.append(statistics.median(held))
        counts.append((files, threads))
        lines.append(f"{start:>8.0f}{end:>8.0f}{medians[-1]:>11.1f}{max(held):>9.1f}{files:>7.0f}{threads:>9.0f}")
    slope = float(np.polyfit(middles, medians, 1)[0])
    growth = slope * (edges[-1] - edges[0]) / statistics.median(medians)
    flat = growth <= MOST_GROWTH and all(last <= first + 2 for first, last in zip(counts[0], counts[-1], strict=True))
    lines.append(
        f"slope {slope * 3600:+.1f} MB/h, {growth:+.2%} of {statistics.median(medians):.0f} MB after warming up: "
        f"{'flat' if flat else 'GROWS'}"
    )
    return "\n".join(lines), flat


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--stretch", type=float, default=4, help="minutes between a stop and a resumption")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    settings, steps, resumptions = config(), 0, 0
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        os.environ.setdefault("CVHPE_CACHE", str(Path(folder) / "cache"))
        open_data(settings)  # rendered and packed once, before the clock starts
        watch = Watch(asked.minutes * 60, asked.stretch * 60)
        watch.start()
        while not watch.over:
            packs = open_data(settings)
            # The kind of logger that holds most: it draws figures.
            with add_logger(Reporter(), "tensorboard", out, settings, packs.validation) as report:
                try:
                    train(settings, packs, out, resume=steps > 0, report=report)
                except Stopped:
                    resumptions += 1
            # In use a stopped run ends its process; here what its objects hold of one another must not pile up.
            gc.collect()
            steps = int(sorted((out / "checkpoints").iterdir())[-1].stem.removeprefix("step_"))
        watch.join()
    text, flat = verdict(watch.samples)
    print(text)
    print(f"{steps} steps, {steps // 100} validations, stopped {resumptions} times; {asked.minutes:g} minutes")
    sys.exit(not flat)


if __name__ == "__main__":
    main()
