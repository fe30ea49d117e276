"""Where a step's time goes: ``--profile`` records a few steps, and writes a trace and a table."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from cvhpe.io import atomic

FIRST = 5
"""Steps left out: their allocations and lazy initialisation are not what a run spends its time on."""
STEPS = 10
PHASES = ("data", "feed", "forward", "backward", "optimiser", "log")


class Profile:
    """Records steps :data:`FIRST` to ``FIRST + STEPS`` of a process into a folder; None records nothing."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.recorder: profile | None = None
        self.seen = 0

    def phase(self, name: str) -> AbstractContextManager[Any]:
        """Name what is done inside; costs nothing where nothing is recorded."""
        return nullcontext() if self.recorder is None else record_function(f"cvhpe: {name}")

    def step(self) -> str | None:
        """Count a finished step; what was written, at the last one that is recorded."""
        if self.folder is None:
            return None
        self.seen += 1
        if self.seen == FIRST:
            os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # it talks of absent GPUs otherwise
            kinds = [ProfilerActivity.CPU]
            if torch.cuda.is_available():
                kinds.append(ProfilerActivity.CUDA)
            self.recorder = profile(activities=kinds)
            self.recorder.__enter__()
        return self.close() if self.seen == FIRST + STEPS else None

    def close(self) -> str | None:
        """End the recording, where one is under way, and write it."""
        if self.recorder is None or self.folder is None:
            return None
        recorder, self.recorder = self.recorder, None
        recorder.__exit__(None, None, None)
        text = table(recorder, self.seen - FIRST)
        with atomic.atomic_file(self.folder / "trace.json") as temporary:
            recorder.export_chrome_trace(str(temporary))
        atomic.write_text(self.folder / "table.txt", text)
        return (
            f"{text}\nprofile: {self.folder / 'table.txt'}, {self.folder / 'trace.json'} (open it in ui.perfetto.dev)"
        )


def table(recorder: profile, steps: int) -> str:
    """Phases and the operators that cost most, in ms a step; a phase is host time, an operator its own time."""
    averages = recorder.key_averages()
    by_name = {e.key: e for e in averages}
    lines = [f"{'phase':<60}{'ms/step':>10}{'share':>8}"]
    phases = {p: by_name[f"cvhpe: {p}"].cpu_time_total / 1e3 for p in PHASES if f"cvhpe: {p}" in by_name}
    whole = sum(phases.values()) or 1.0
    lines += [f"{name:<60}{ms / max(steps, 1):>10.3f}{ms / whole:>8.1%}" for name, ms in phases.items()]

    def own(event: Any) -> float:
        return max(event.self_cpu_time_total, getattr(event, "self_device_time_total", 0.0)) / 1e3

    lines.append(f"{'operator':<60}{'ms/step':>10}{'share':>8}")
    heaviest = sorted((e for e in averages if not e.key.startswith("cvhpe: ")), key=own, reverse=True)[:20]
    lines += [f"{e.key[:59]:<60}{own(e) / max(steps, 1):>10.3f}{own(e) / whole:>8.1%}" for e in heaviest]
    return "\n".join(lines) + "\n"
