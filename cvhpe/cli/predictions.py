"""``cvhpe evaluate --predictions``: score a text file of somebody's predictions, no model needed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import typer


def evaluate_predictions(file: Path, sources: Sequence[str], split: str, as_json: bool) -> None:
    """Score ``file`` on the one data set that ``sources`` names, and print a table or one JSON object."""
    from cvhpe.cli.console import print_line, print_table, within
    from cvhpe.data.source import parse_source
    from cvhpe.errors import UserError
    from cvhpe.evaluation.predictions import score_predictions

    if len(sources) != 1:
        raise UserError("--predictions needs one data set to score them on, as in --data icvl:PATH")
    spec, path = parse_source(sources[0])
    result = score_predictions(file, spec, path, split or "test")
    for note in result.notes:
        typer.echo(note, err=True)
    if as_json:
        typer.echo(json.dumps(result.as_dict() | {"predictions": str(file)}))
        return
    s = result.metrics
    cells = [f"{s.epe_mean:.3f}", f"{s.epe_median:.3f}", f"{s.pa_mpjpe:.2f}", f"{s.auc_0_50:.3f}", f"{s.auc_20_50:.3f}"]
    columns = ["", "mean EPE mm", "median EPE mm", "PA-MPJPE mm", "AUC 0-50", "AUC 20-50"]
    print_table(f"{sources[0]}, {s.frames} frames", columns, [[file.name, *cells]])
    print_line(within(s))
