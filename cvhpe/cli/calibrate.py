"""``cvhpe calibrate``: calibrate the uncertainty of a run again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cvhpe.config.lists import comma_list


def calibrate(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    cv_folds: Annotated[
        int, typer.Option(min=0, help="Cross-validation folds of the training hands; 0: use the validation hands.")
    ] = 4,
    data: Annotated[list[str] | None, typer.Option(help="NAME or NAME:PATH; default: the run's own.")] = None,
) -> None:
    """Calibrate a run's uncertainty by cross-validation on training hands, so that validation hands can judge it.

    For each fold, a model with the run's settings is trained on the other folds for its share of the run's steps: all
    folds together take as long as the run did. The calibration is saved with the run's weights.

    Example: cvhpe calibrate runs/lift

    Example: cvhpe calibrate runs/lift --cv-folds 0
    """
    from cvhpe.cli.console import Console
    from cvhpe.errors import UserError
    from cvhpe.io.locking import run_lock
    from cvhpe.runs.run_dir import load_run
    from cvhpe.training.calibration import calibrate_trained_run
    from cvhpe.training.datamodule import open_data
    from cvhpe.uncertainty.fusion import calibration_of

    if not run.is_dir():
        raise UserError(f"{run}: no run folder; `cvhpe train --out {run}` makes one")
    opened = load_run(run)
    changes = {"calibration_num_folds": cv_folds, **({"data": tuple(data)} if data else {})}
    config = opened.config.model_copy(update=changes)
    with Console() as console, run_lock(opened.path):
        packs = open_data(config, console.preparing)
        done = calibrate_trained_run(opened, config, packs, console.reporter())
    calibration = calibration_of(done.metadata.training)
    if calibration is None:
        typer.echo(f"{run}: nothing to calibrate: no input other than 3D joints, or no 3D joints decoded")
        return
    for names, scaling in calibration.scalings.items():
        tails = f"tails of {scaling.dof:g} degrees of freedom" if scaling.dof else "Gaussian"
        hands = calibration.fitted_on(comma_list(names))
        typer.echo(f"{names}: samples scaled by {scaling.scale:.2f}, {tails}; fitted on {hands} hands")
    for names, how in calibration.fusions.items():
        weights = ", ".join(f"{name} {weight:g}" for name, weight in how["weights"].items())
        params = "precision fitted for each dimension" if how["precisions"] else f"weights {weights}"
        typer.echo(f"{names}, fused: {params}; fitted on validation hands")
