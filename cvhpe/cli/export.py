"""``cvhpe export``: a trained model as ONNX or as a torch program, checked against the model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cvhpe.config.lists import comma_list


def export(
    run: Annotated[str, typer.Argument(help="A run folder, or 'default': the model that ships with cvhpe.")],
    out: Annotated[Path, typer.Option(help="File to write, ending in .onnx or .pt2.")],
    source: Annotated[str, typer.Option("--from", help="Input modality, or several to fuse, as in rgb,joints2d.")],
    target: Annotated[str, typer.Option("--to", help="Target modality.")] = "joints3d",
    root: Annotated[
        str, typer.Option(help="Root joint of the 2D joints that the exported model is given: wrist or palm.")
    ] = "wrist",
) -> None:
    """Export a model with its normalisation to a file that runs without cvhpe, and compare the outputs with the run's.

    Example: cvhpe export default --from joints2d --to joints3d --out lifter.onnx
    """
    from cvhpe.errors import UserError
    from cvhpe.inference.export import export as write
    from cvhpe.runs.run_dir import load_run
    from cvhpe.uncertainty.fusion import calibration_of, uncalibrated_warning

    if root not in ("wrist", "palm"):
        raise UserError(f"--root {root}: wrist or palm")
    names = list(dict.fromkeys(comma_list(source)))
    opened = load_run(run)
    largest = write(opened, names, target, out, root)
    if warning := uncalibrated_warning(calibration_of(opened.metadata.training), names):
        typer.echo(f"export: {warning}", err=True)
    unit = "mm" if target == "joints3d" else "of the target's units"
    size = out.stat().st_size / 2**20
    typer.echo(f"{out}: {size:.1f} MiB, {', '.join(names)} to {target}, within {largest:.1e} {unit} of the run")
