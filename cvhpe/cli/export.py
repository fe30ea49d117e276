"""``cvhpe export``: a trained model as ONNX or as a torch program, checked against the model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cvhpe.config.lists import comma_list


def export(
    run: Annotated[str, typer.Argument(help="A run folder, or 'default': the model that ships with cvhpe.")],
    out: Annotated[Path, typer.Option(help="File to write, ending in .onnx or .pt2.")],
    source: Annotated[str, typer.Option("--from", help="Input, or several to fuse, as in rgb,joints2d.")],
    target: Annotated[str, typer.Option("--to", help="Target modality.")] = "joints3d",
    root: Annotated[
        str, typer.Option(help="What the root of 2D joints given to the file is: wrist or palm.")
    ] = "wrist",
) -> None:
    """Write a model as a file that runs without cvhpe, normalisation included, and check it against the run.

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
    worst = write(opened, names, target, out, root)
    if told := uncalibrated_warning(calibration_of(opened.metadata.training), names):
        typer.echo(f"export: {told}", err=True)
    unit = "mm" if target == "joints3d" else "of the target's units"
    size = out.stat().st_size / 2**20
    typer.echo(f"{out}: {size:.1f} MiB, {', '.join(names)} to {target}, within {worst:.1e} {unit} of the run")
