"""``cvhpe figures``: the paper's figures of a run, as PNG and PDF."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cvhpe.config.lists import comma_list

if TYPE_CHECKING:
    from cvhpe.runs.run_dir import Run
    from cvhpe.viz.figures.render import RenderedFigure


def figures(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    data: Annotated[list[str] | None, typer.Option(help="NAME or NAME:PATH; default: the run's own.")] = None,
    split: Annotated[str, typer.Option(help="Split of the data; default: what was held out.")] = "",
    only: Annotated[
        str, typer.Option(help="Some of tsne, interpolation, predictions, samples, depth; comma-separated.")
    ] = "",
    out: Annotated[Path | None, typer.Option(help="Folder to write; default: RUN/figures.")] = None,
    unimodal_run: Annotated[Path | None, typer.Option(help="Unimodal run for tsne: a run with X:X pairs only.")] = None,
    unimodal_steps: Annotated[
        int | None,
        typer.Option(min=1, help="Without --unimodal-run, steps to train one; default: 2000, or 300 with images."),
    ] = None,
    interpolate: Annotated[
        str, typer.Option(metavar="A,B", help="Held-out hands to interpolate between, as in 3,17.")
    ] = "",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Plot the paper's figures of a run: latent space, latent interpolation, predictions, posterior samples, depth.

    All show held-out hands. A figure that the run cannot fill is left out with the reason. tsne needs
    scikit-learn (pip install 'cvhpe[figures]') and trains a unimodal run into RUN/unimodal.

    Example: cvhpe figures runs/rgb-joints3d

    Example: cvhpe figures runs/lift --only interpolation,predictions --out paper/
    """
    from cvhpe.cli.console import Console, data_of
    from cvhpe.evaluation.eval_set import EvalSet
    from cvhpe.runs.run_dir import load_run
    from cvhpe.training.datamodule import open_held_out
    from cvhpe.training.device import pick_device
    from cvhpe.training.signals import Stopped
    from cvhpe.viz.figures.render import render_figures, select_figures
    from cvhpe.viz.figures.unimodal_baseline import load_unimodal, train_unimodal

    names = comma_list(only)
    select_figures(names)
    opened = load_run(run, pick_device(device))
    with Console() as console:
        packs = open_held_out(opened.config, data_of(opened, data, out, writes=True), split, console.preparing)
        eval_set = EvalSet(opened, packs)
        ends = parse_ends(interpolate, eval_set.batches.samples)

        def unimodal() -> Run:
            if unimodal_run is not None:
                return load_unimodal(opened, unimodal_run)
            return train_unimodal(opened, unimodal_steps, console.reporter())

        folder = out or opened.path / "figures"
        try:
            render_figures(eval_set, folder, unimodal, names, ends, lambda figure: _print(figure, folder))
        except Stopped as stopped:
            console.note(f"{stopped}; the figures so far are in {folder}")
            raise typer.Exit(stopped.exit_code) from None


def parse_ends(text: str, samples: int) -> tuple[int, int] | None:
    """``"3,17"`` as (3, 17), both below ``samples``; "" as None."""
    from cvhpe.errors import UserError

    if not text:
        return None
    try:
        a, b = (int(part) for part in comma_list(text))
    except ValueError:
        raise UserError(f"--interpolate {text}: write two numbers of held-out hands, as in 3,17") from None
    if not (0 <= a < samples and 0 <= b < samples):
        raise UserError(f"--interpolate {text}: the held-out hands are 0 to {samples - 1}")
    return a, b


def _print(figure: RenderedFigure, folder: Path) -> None:
    if figure.left_out:
        typer.echo(f"{figure.name}: left out: {figure.left_out}")
    else:
        typer.echo(f"{figure.name}: {', '.join(str(folder / f) for f in figure.files)}")
        typer.echo(f"  {figure.caption}")
