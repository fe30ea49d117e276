"""Where a step's time goes: ``--profile`` records a few steps, and writes a trace and a table."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from cvhpe.io.atomic import atomic_file, write_text

FIRST = 5
"""Steps that are not recorded: their allocations and lazy initialisation are not typical."""
STEPS = 10
PHASES = ("data", "batch", "forward", "backward", "optimizer", "log")
NUM_OPERATORS = 20


class StepProfiler:
    """Records the steps :data:`FIRST` to ``FIRST + STEPS`` of a process.

    Args:
        folder: where to write; None records nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.recorder: profile | None = None
        self.num_steps = 0

    def phase(self, name: str) -> AbstractContextManager[Any]:
        """Name a part of a step; costs nothing while nothing is recorded."""
        return nullcontext() if self.recorder is None else record_function(f"cvhpe: {name}")

    def step(self, note: Callable[[str], None]) -> None:
        """Count a step; start the recording before the first one to record, write it after the last."""
        if self.folder is None:
            return
        self.num_steps += 1
        if self.num_steps == FIRST:
            os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # no messages about absent GPUs
            activities = [ProfilerActivity.CPU]
            if torch.cuda.is_available():
                activities.append(ProfilerActivity.CUDA)
            self.recorder = profile(activities=activities)
            self.recorder.__enter__()
        elif self.num_steps == FIRST + STEPS and self.recorder is not None:
            recorder, self.recorder = self.recorder, None
            recorder.__exit__(None, None, None)
            table, trace = self.folder / "table.txt", self.folder / "trace.json"
            text = time_table(recorder, STEPS)
            with atomic_file(trace) as temporary:
                recorder.export_chrome_trace(str(temporary))
            write_text(table, text)
            note(f"{text}\nprofile: {table}, {trace} (open it in ui.perfetto.dev)")


def time_table(recorder: profile, num_steps: int) -> str:
    """The phases and the most expensive operators, in ms a step.

    Args:
        recorder: a finished recording.
        num_steps: steps that it recorded.

    Returns:
        A text table. A phase is host time; an operator is its own time, without what it calls.
    """
    averages = recorder.key_averages()
    by_name = {e.key: e for e in averages}
    phases = {p: by_name[f"cvhpe: {p}"].cpu_time_total / 1e3 for p in PHASES if f"cvhpe: {p}" in by_name}
    total = sum(phases.values()) or 1.0

    def self_ms(event: Any) -> float:
        return max(event.self_cpu_time_total, getattr(event, "self_device_time_total", 0.0)) / 1e3

    operators = sorted((e for e in averages if not e.key.startswith("cvhpe: ")), key=self_ms, reverse=True)
    lines = []
    for title, rows in (
        ("phase", list(phases.items())),
        ("operator", [(e.key[:59], self_ms(e)) for e in operators[:NUM_OPERATORS]]),
    ):
        lines.append(f"{title:<60}{'ms/step':>10}{'share':>8}")
        lines += [f"{name:<60}{ms / num_steps:>10.3f}{ms / total:>8.1%}" for name, ms in rows]
    return "\n".join(lines) + "\n"
