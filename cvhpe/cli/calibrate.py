"""``cvhpe calibrate``: find anew how wide a run's uncertainty must be."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cvhpe.config.lists import comma_list


def calibrate(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    cv_folds: Annotated[
        int, typer.Option(min=0, help="Hold out the training hands in so many folds; 0: the validation hands tell.")
    ] = 4,
    data: Annotated[list[str] | None, typer.Option(help="NAME or NAME:PATH; by default the run's own.")] = None,
) -> None:
    """Calibrate a run's uncertainty on training hands that are held out in turn, so that validation hands may judge it.

    For each fold a network like the run's own is trained on the other hands for its share of the run's steps: all
    together take as long as the run did. What is found is written beside the run's weights.

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
    found = calibration_of(done.metadata.training)
    if found is None:
        typer.echo(f"{run}: no input beside the 3D joints, or nothing decoded to 3D; there is nothing to calibrate")
        return
    for names, width in found.widths.items():
        tails = f"tails of {width.dof:g} degrees of freedom" if width.dof else "Gaussian"
        told = found.told_by(comma_list(names))
        typer.echo(f"{names}: samples {width.scale:.2f} times as wide, {tails}; told by {told} hands")
    for names, how in found.fusions.items():
        weights = ", ".join(f"{name} {weight:g}" for name, weight in how["weights"].items())
        said = "precisions measured in each dimension" if how["precisions"] else f"weights {weights}"
        typer.echo(f"{names}, fused: {said}; told by validation hands")
