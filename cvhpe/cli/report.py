"""``cvhpe report``: a run on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    data: Annotated[list[str] | None, typer.Option(help="NAME or NAME:PATH; by default the run's own.")] = None,
    split: Annotated[str, typer.Option(help="Which split; by default what was held out.")] = "",
    out: Annotated[Path | None, typer.Option(help="File to write; by default RUN/report.html.")] = None,
    separate: Annotated[
        Path | None, typer.Option(help="Separately trained run beside it; by default RUN/separate, if it is there.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Write a run's report: one HTML file with metrics, curves, predictions, latent space and a latent walk.

    It needs no network and can be mailed. The latent space needs scikit-learn, which the extra
    'figures' brings.

    Example: cvhpe report runs/rgb-joints3d
    """
    from cvhpe.cli.console import Console, its_data
    from cvhpe.evaluation.eval_set import EvalSet
    from cvhpe.runs.run_dir import load_run
    from cvhpe.training.datamodule import open_held_out
    from cvhpe.training.device import pick_device
    from cvhpe.viz.figures.unimodal_baseline import FOLDER, given
    from cvhpe.viz.report.gather import collect
    from cvhpe.viz.report.page import write

    opened = load_run(run, pick_device(device))
    beside = opened.path / FOLDER
    if separate is None and (beside / "model.safetensors").is_file():
        separate = beside
    with Console() as console:
        packs = open_held_out(opened.config, its_data(opened, data, out, writes=True), split, console.preparing)
        counterpart = given(opened, separate) if separate else None
        path = out or opened.path / "report.html"
        size = write(collect(EvalSet(opened, packs), counterpart), path)
    typer.echo(f"{path} ({size / 1e6:.1f} MB)")
