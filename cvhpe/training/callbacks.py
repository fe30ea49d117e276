"""The state of a run's progress, and the callbacks and files that it is reported to."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cvhpe.errors import UserError
from cvhpe.io.atomic import write_error, write_text

if TYPE_CHECKING:
    from cvhpe.models.vae import CrossModalVAE
    from cvhpe.runs.run_dir import Metadata


@dataclass
class TrainProgress:
    """How far a run is; part of every checkpoint.

    Args:
        step: optimizer steps done.
        best: lowest validation score so far.
        best_step: the step of that score; -1 before the first validation.
        seconds: training time, over all resumptions.
        validated: the last step whose validation is part of ``best``; behind ``step`` if a signal interrupted it.
    """

    step: int = 0
    best: float = math.inf
    best_step: int = -1
    seconds: float = 0.0
    validated: int = 0


@dataclass
class Reporter:
    """Callbacks of a run, called on rank 0. The command line and the loggers show what they get.

    Args:
        note: called with a line for the user.
        step: called with every training record of ``metrics.jsonl``.
        validation: called with every validation record.
        model: called at every validation with the step, the validated model and its metadata.
    """

    note: Callable[[str], None] = lambda text: None
    step: Callable[[dict[str, Any]], None] = lambda record: None
    validation: Callable[[dict[str, Any]], None] = lambda record: None
    model: Callable[[int, CrossModalVAE, Metadata], None] = lambda step, model, metadata: None


class MetricsFile:
    """``metrics.jsonl``: one JSON object a line, each with its ``kind`` and ``step``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, record: Mapping[str, Any]) -> None:
        """Append a line.

        Args:
            record: its ``kind``, its ``step`` and anything that JSON can hold.

        Raises:
            UserError: If it cannot be written.
        """
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        except OSError as error:
            raise UserError(write_error(self.path, error)) from None

    def drop_after(self, step: int) -> None:
        """Drop lines of later steps, which a resumed run writes again, and a line that a kill left incomplete."""
        if not self.path.is_file():
            return
        lines = []
        for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                keep = json.loads(line)["step"] <= step
            except (ValueError, KeyError, TypeError):
                continue
            if keep:
                lines.append(line + "\n")
        write_text(self.path, "".join(lines))
