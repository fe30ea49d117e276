"""``cvhpe report``: a run on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    data: Annotated[list[str] | None, typer.Option(help="NAME or NAME:PATH; default: the run's own.")] = None,
    split: Annotated[str, typer.Option(help="Split of the data; default: what was held out.")] = "",
    out: Annotated[Path | None, typer.Option(help="File to write; default: RUN/report.html.")] = None,
    unimodal_run: Annotated[
        Path | None, typer.Option(help="Unimodal run to compare with; default: RUN/unimodal if it exists.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Write a run's report: one HTML file with metrics, curves, predictions, latent space and interpolation.

    The file is self-contained and needs no network. The latent space needs scikit-learn
    (pip install 'cvhpe[figures]').

    Example: cvhpe report runs/rgb-joints3d
    """
    from cvhpe.cli.console import Console, data_of
    from cvhpe.evaluation.eval_set import EvalSet
    from cvhpe.runs.run_dir import load_run
    from cvhpe.training.datamodule import open_held_out
    from cvhpe.training.device import pick_device
    from cvhpe.viz.figures.unimodal_baseline import FOLDER, load_unimodal
    from cvhpe.viz.report.gather import gather_report
    from cvhpe.viz.report.page import write_report

    opened = load_run(run, pick_device(device))
    if unimodal_run is None and (opened.path / FOLDER / "model.safetensors").is_file():
        unimodal_run = opened.path / FOLDER
    with Console() as console:
        packs = open_held_out(opened.config, data_of(opened, data, out, writes=True), split, console.preparing)
        unimodal = load_unimodal(opened, unimodal_run) if unimodal_run else None
        path = out or opened.path / "report.html"
        size = write_report(gather_report(EvalSet(opened, packs), unimodal), path)
    typer.echo(f"{path} ({size / 1e6:.1f} MB)")
