"""What commands print: progress on stderr, results as tables and plain lines on stdout."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console as RichConsole
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from cvhpe.errors import UserError

if TYPE_CHECKING:
    from cvhpe.evaluation.metrics import Summary
    from cvhpe.runs.run_dir import Run
    from cvhpe.training.callbacks import Reporter

PLAIN_INTERVAL_S = 10.0
SHOWN_THRESHOLDS_MM = (10, 20, 30, 40, 60, 80)


class Console:
    """Progress on stderr: bars on a terminal, a line every few seconds elsewhere."""

    def __init__(self, silent: bool = False) -> None:
        self.rich = RichConsole(stderr=True, quiet=silent)
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
        self.last_line_s = 0.0

    def __enter__(self) -> Console:
        self.bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.bars.stop()

    def note(self, text: str) -> None:
        """Print a line."""
        print_line(text, self.rich)

    def preparing(self, what: str, done: int, total: int) -> None:
        """Show the progress of a task other than training."""
        self._show(what, done, total, "")

    def reporter(self) -> Reporter:
        """A reporter that shows the progress of a training."""
        from cvhpe.training.callbacks import Reporter

        return Reporter(note=self.note, step=self._step, validation=self._validation)

    def _step(self, record: dict[str, Any]) -> None:
        info = f"loss {record['loss']:.4g}  {record['samples_per_second']:.0f} samples/s"
        self._show("training", record["step"], record["total_steps"], info, record["seconds"])

    def _validation(self, record: dict[str, Any]) -> None:
        errors = ", ".join(f"{k} {v['epe_median_mm']:.2f} mm" for k, v in record.items() if isinstance(v, dict))
        result = f"median EPE {errors}" if errors else f"loss {record['score']:.4g}"
        self.note(f"epoch {record['epoch']:.1f}: held-out {result}")

    def _show(self, what: str, done: int, total: int, info: str, seconds: float = 0.0) -> None:
        if self.live:
            if what not in self.tasks:
                self.tasks[what] = self.bars.add_task(what, total=total, info="")
            self.bars.update(self.tasks[what], completed=done, total=total, info=info)
            return
        now = time.monotonic()
        if now - self.last_line_s < PLAIN_INTERVAL_S and done < total:
            return
        self.last_line_s = now
        left = f", {seconds * (total - done) / done:.0f} s left" if seconds and done else ""
        self.note(f"{what} {done}/{total}{'  ' + info if info else ''}{left}")


def stdout_console() -> RichConsole:
    """The console of results; in a pipe or a file, tables are wide enough not to wrap."""
    console = RichConsole()
    return console if console.is_terminal else RichConsole(width=max(120, console.width))


def print_line(text: str, console: RichConsole | None = None) -> None:
    """Print text as it is, to stdout by default: no markup, no colours, no added line breaks."""
    (console or stdout_console()).print(text, highlight=False, soft_wrap=True, markup=False)


def print_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str | Text]], *, words: bool = False
) -> None:
    """Print a table to stdout: the first column left-aligned, the others right-aligned unless they hold ``words``."""
    table = Table(title=title, title_justify="left")
    for i, name in enumerate(columns):
        table.add_column(name, justify="left" if words or i == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in row))
    stdout_console().print(table)


def within(summary: Summary) -> str:
    """One line: the fraction of frames whose largest error is within some thresholds."""
    at = [i for i, mm in enumerate(summary.within) if mm in SHOWN_THRESHOLDS_MM]
    parts = [f"{summary.within[i]:.0f} mm {summary.within_max[i]:.1%}" for i in at]
    return f"frames whose largest error is within: {', '.join(parts)}"


def data_of(run: Run, data: list[str] | None, out: Path | None = None, writes: bool = False) -> list[str]:
    """The data of a command: ``--data``, or the run's own. The bundled model has neither data nor a folder to write."""
    if run.bundled and not data:
        raise UserError("default: comes without its data; give some with --data NAME:PATH")
    if run.bundled and writes and out is None:
        raise UserError("default: is not a folder of yours; say where to write with --out")
    return data or list(run.config.data)
