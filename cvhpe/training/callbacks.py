"""Where a run stands, and whom it tells: the command line, tests, ``metrics.jsonl``."""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cvhpe.errors import UserError
from cvhpe.io import atomic

if TYPE_CHECKING:
    from cvhpe.models.vae import CrossModalVAE
    from cvhpe.runs.run_dir import Metadata


class Stopped(Exception):
    """A signal asked the run to end; it ends after the step under way, with everything saved."""

    def __init__(self, number: int) -> None:
        super().__init__(
            "stopped by Ctrl-C" if number == signal.SIGINT else f"stopped by {signal.Signals(number).name}"
        )
        self.exit_code = 128 + number


@dataclass
class Progress:
    """Where a run stands; all of it is in every checkpoint.

    validated: the last step whose validation is part of ``best``; it lags behind ``step`` where a signal cut it short.
    """

    step: int = 0
    best: float = math.inf
    best_step: int = -1
    seconds: float = 0.0
    validated: int = 0


@dataclass
class Reporter:
    """Where a run tells how it goes; the command line shows it, tests collect it."""

    note: Callable[[str], None] = lambda text: None
    step: Callable[[dict[str, Any]], None] = lambda record: None
    validation: Callable[[dict[str, Any]], None] = lambda record: None
    model: Callable[[int, CrossModalVAE, Metadata], None] = lambda step, model, metadata: None


class Metrics:
    """``metrics.jsonl``: one JSON object a line, each with its ``kind`` and ``step``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, record: Mapping[str, Any]) -> None:
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        except OSError as error:
            raise UserError(atomic.write_error(self.path, error)) from None

    def forget_after(self, step: int) -> None:
        """Drop the lines that a run resumed at ``step`` writes again, and half a line from a kill in mid-write."""
        if not self.path.is_file():
            return
        kept = []
        for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                known = json.loads(line)["step"] <= step
            except (ValueError, KeyError, TypeError):
                continue
            if known:
                kept.append(line + "\n")
        atomic.write_text(self.path, "".join(kept))
