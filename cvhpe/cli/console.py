"""FusionParams a training run shows itself: live bars on a terminal, plain lines elsewhere, a table at the end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console as Rich
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    from cvhpe.evaluation.metrics import Summary
    from cvhpe.runs.run_dir import Run
    from cvhpe.training.callbacks import Reporter

PLAIN_SECONDS = 10.0
WITHIN_SHOWN = (10, 20, 30, 40, 60, 80)
"""mm"""


class Console:
    """Progress of preparing and training; what goes to stdout is the result alone."""

    def __init__(self, silent: bool = False) -> None:
        self.rich = Rich(stderr=True, quiet=silent)
        self.live = self.rich.is_terminal
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[info]}"),
            TimeRemainingColumn(),
            console=self.rich,
            disable=not self.live,
        )
        self.tasks: dict[str, TaskID] = {}
        self.spoken = 0.0

    def __enter__(self) -> Console:
        self.bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.bars.stop()

    def note(self, text: str) -> None:
        self.rich.print(text, highlight=False, soft_wrap=True, markup=False)

    def preparing(self, what: str, done: int, total: int) -> None:
        self._show(what, done, total, "")

    def reporter(self) -> Reporter:
        from cvhpe.training.callbacks import Reporter

        return Reporter(note=self.note, step=self._step, validation=self._validation)

    def _step(self, record: dict[str, Any]) -> None:
        info = f"loss {record['loss']:.4g}  {record['samples_per_second']:.0f} samples/s"
        self._show("training", record["step"], record["total_steps"], info, record["seconds"])

    def _validation(self, record: dict[str, Any]) -> None:
        parts = [f"{k} {v['epe_median_mm']:.2f} mm" for k, v in record.items() if isinstance(v, dict)]
        said = ", ".join(parts) or f"loss {record['score']:.4g}"
        self.note(f"epoch {record['epoch']:.1f}: held-out median EPE {said}" if parts else f"held-out {said}")

    def _show(self, what: str, done: int, total: int, info: str, seconds: float = 0.0) -> None:
        if self.live:
            if what not in self.tasks:
                self.tasks[what] = self.bars.add_task(what, total=total, info="")
            self.bars.update(self.tasks[what], completed=done, total=total, info=info)
            return
        now = time.monotonic()
        if now - self.spoken < PLAIN_SECONDS and done < total:
            return
        self.spoken = now
        left = f", {seconds * (total - done) / done:.0f} s left" if seconds and done else ""
        self.note(f"{what} {done}/{total}{'  ' + info if info else ''}{left}")


def to_stdout() -> Rich:
    """Where results go; a pipe or a file gets whole tables, however narrow a terminal would be."""
    out = Rich()
    return out if out.is_terminal else Rich(width=max(120, out.width))


def within(summary: Summary) -> str:
    """One line: the share of frames whose largest error is within some of the thresholds."""
    at = [i for i, mm in enumerate(summary.within) if mm in WITHIN_SHOWN]
    parts = [f"{summary.within[i]:.0f} mm {summary.within_max[i]:.1%}" for i in at]
    return f"frames whose largest error is within: {', '.join(parts)}"


def plain_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table of text cells, first column left, the others right."""
    table = Table(title=title, title_justify="left")
    for i, name in enumerate(columns):
        table.add_column(name, justify="left" if i == 0 else "right")
    for row in rows:
        table.add_row(*row)
    return table


def data_of(run: Run, data: list[str] | None, out: Path | None = None, writes: bool = False) -> list[str]:
    """What a run is looked at with: ``--data``, or its own. The model that ships has none, and no place for results."""
    from cvhpe.errors import UserError

    if run.bundled and not data:
        raise UserError("default: the hands that made it did not come along; say what to look at with --data NAME:PATH")
    if run.bundled and writes and out is None:
        raise UserError("default: is no folder of yours; say where to write with --out")
    return data or list(run.config.data)
