"""Small training runs in processes of their own, which tests stop, kill and resume."""

from __future__ import annotations

import functools
import json
import multiprocessing
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from cvhpe.config.schema import Config, checked
from cvhpe.errors import UserError
from cvhpe.runs import serialization
from cvhpe.training.callbacks import Reporter
from cvhpe.training.datamodule import open_data
from cvhpe.training.signals import Stopped
from cvhpe.training.trainer import train

SETTINGS = {
    "modalities": ["joints2d", "joints3d"],
    "pairs": ["joints2d:joints3d", "joints2d:joints2d", "joints3d:joints3d"],
    "hidden_dim": 16,
    "num_hidden_layers": 2,
    "latent_dim": 4,
    "epochs": 5,
    "min_steps": 0,
    "num_validations": 4,
    "lr": 1e-3,
    "ema_decay": 0.9,
    "schedule": "cosine",
    "device": "cpu",
    "threads": 1,
    "log_every": 1,
    "checkpoint_every_s": 0,
}
"""20 steps, with a checkpoint after every one, so that a kill is likely to hit one."""


def config(data: Path | str, **changes: Any) -> Config:
    """The configuration of a run on a joints file, or on a data set by its name."""
    return checked({**SETTINGS, "data": [data if isinstance(data, str) else f"joints:{data}"], **changes})


def run(data: Path | str, out: Path, *, resume: bool = False, report: Reporter | None = None, **changes: Any):
    c = config(data, **changes)
    return train(c, open_data(c), out, resume=resume, report=report)


def child(data: Path | str, out: Path, resume: bool, kill_at: int, changes: dict[str, Any]) -> None:
    """A run in a process of its own; with ``kill_at`` it kills itself at that file operation.

    Its exit codes are those of ``cvhpe``: 2 for a user's error, 128 plus the signal for a stop.
    """
    if kill_at:
        kill_at_operation(kill_at)
    try:
        run(data, out, resume=resume, report=Reporter(note=lambda text: print(text, file=sys.stderr)), **changes)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except Stopped as stopped:
        sys.exit(stopped.exit_code)


def kill_at_operation(at: int) -> None:
    """``kill -9`` this process just before its ``at``-th sync, rename, write or removal of a file."""
    count = 0

    def counted(function):
        @functools.wraps(function)
        def call(*args, **kwargs):
            nonlocal count
            count += 1
            if count == at:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return call

    for name in ("fsync", "replace", "unlink"):
        setattr(os, name, counted(getattr(os, name)))
    serialization.save_file = counted(serialization.save_file)  # type: ignore[attr-defined]


def start(data: Path | str, out: Path, *, resume: bool = False, kill_at: int = 0, **changes: Any):
    """Start a run in a process forked from one that has imported torch and nothing else."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["cvhpe.training.trainer", "cvhpe.training.datamodule"])
    process = context.Process(target=child, args=(data, out, resume, kill_at, changes))
    process.start()
    return process


def last_checkpoint(out: Path):
    return serialization.read_tensors(sorted((out / "checkpoints").glob("step_*.safetensors"))[-1])


def lines(out: Path, kind: str) -> list[dict[str, Any]]:
    """The lines of a kind in ``metrics.jsonl``, without what depends on the clock."""
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    timed = ("seconds", "samples_per_second")
    return [{k: v for k, v in r.items() if k not in timed} for r in records if r["kind"] == kind]


def run_until(data: Path | str, out: Path, step: int, **changes: Any) -> None:
    """Train until ``step`` steps are saved, then end as an unforeseen error would."""

    def interrupt(record: dict[str, Any]) -> None:
        if record["step"] == step + 1:
            raise InterruptedError

    with suppress(InterruptedError):
        run(data, out, report=Reporter(step=interrupt), **changes)


def assert_same_run(whole: Path, out: Path) -> None:
    """Compare a run with one that was never stopped: weights, moments, averages, every logged loss, to the bit."""
    for load in (last_checkpoint, lambda o: serialization.read_tensors(o / "model.safetensors")):
        a, b = load(whole), load(out)
        assert a.keys() == b.keys()
        assert all(a[n].equal(b[n]) for n in a)
    for kind in ("train", "validation"):
        assert lines(out, kind) == lines(whole, kind)
    assert not list(out.rglob("*.tmp"))
