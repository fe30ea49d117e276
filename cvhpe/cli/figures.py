"""``cvhpe figures``: the paper's figures of a run, as PNG and PDF."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cvhpe.config.lists import comma_list

if TYPE_CHECKING:
    from cvhpe.runs.run_dir import Run
    from cvhpe.viz.figures.render import Made


def figures(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    data: Annotated[list[str] | None, typer.Option(help="NAME or NAME:PATH; by default the run's own.")] = None,
    split: Annotated[str, typer.Option(help="Which split; by default what was held out.")] = "",
    only: Annotated[str, typer.Option(help="Some of tsne, walk, predictions, samples, depth.")] = "",
    out: Annotated[Path | None, typer.Option(help="Folder to write; by default RUN/figures.")] = None,
    unimodal_run: Annotated[Path | None, typer.Option(help="A run of X:X pairs alone, for tsne.")] = None,
    unimodal_run_steps: Annotated[
        int | None, typer.Option(min=1, help="Else, steps to train one in RUN/separate; 2000, or 300 with pictures.")
    ] = None,
    interpolate: Annotated[str, typer.Option(metavar="A,B", help="Two held-out hands, as in 3,17.")] = "",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Draw the paper's figures of a run: latent space, latent walk, predictions, posterior samples, depth.

    What a run lacks is left out with a word why. Everything is drawn of held-out hands. tsne needs scikit-learn,
    which the extra 'figures' brings.

    Example: cvhpe figures runs/rgb-joints3d

    Example: cvhpe figures runs/lift --only walk,predictions --out paper/
    """
    from cvhpe.cli.console import Console, its_data
    from cvhpe.evaluation.eval_set import EvalSet
    from cvhpe.runs.run_dir import load_run
    from cvhpe.training.datamodule import open_held_out
    from cvhpe.training.device import pick_device
    from cvhpe.training.trainer import Stopped
    from cvhpe.viz.figures.render import make, wanted
    from cvhpe.viz.figures.unimodal_baseline import given, separately_trained

    names = comma_list(only)
    wanted(names)
    opened = load_run(run, pick_device(device))
    with Console() as console:
        packs = open_held_out(opened.config, its_data(opened, data, out, writes=True), split, console.preparing)
        held = EvalSet(opened, packs)
        ends = ends_between(interpolate, held.batches.samples)

        def counterpart() -> Run:
            if unimodal_run is not None:
                return given(opened, unimodal_run)
            return separately_trained(opened, unimodal_run_steps, console.reporter())

        folder = out or opened.path / "figures"
        try:
            make(held, folder, counterpart, names, ends, lambda made: tell(made, folder))
        except Stopped as stopped:
            console.note(f"{stopped}; the figures drawn so far are in {folder}")
            raise typer.Exit(stopped.exit_code) from None


def ends_between(text: str, samples: int) -> tuple[int, int] | None:
    """``"3,17"`` -> (3, 17), both below ``samples``; None where nothing is said."""
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


def tell(made: Made, folder: Path) -> None:
    """One line for one figure."""
    if made.left_out:
        typer.echo(f"{made.name}: left out: {made.left_out}")
    else:
        typer.echo(f"{made.name}: {', '.join(str(folder / f) for f in made.files)}")
        typer.echo(f"  {made.caption}")
