"""All figures of a run: each is written, or left out with the reason."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cvhpe.errors import UserError, nearest
from cvhpe.evaluation.eval_set import EvalSet, MissingDataError
from cvhpe.io.atomic import write_text
from cvhpe.runs.run_dir import Run
from cvhpe.viz.figures.depth import depth_figure
from cvhpe.viz.figures.latent_interpolation import interpolation_figure
from cvhpe.viz.figures.posterior_samples import posterior_samples_figure
from cvhpe.viz.figures.predictions import predictions_figure
from cvhpe.viz.figures.tsne import tsne_figure
from cvhpe.viz.style import plot_style, save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURES = ("tsne", "interpolation", "predictions", "samples", "depth")
"""The supplement's figures 1 to 5."""


@dataclass(frozen=True)
class RenderedFigure:
    """One figure: its files and caption, or why it was left out (``files`` is empty then)."""

    name: str
    files: tuple[str, ...] = ()
    caption: str = ""
    left_out: str = ""


def select_figures(only: Sequence[str]) -> list[str]:
    """The figures to render, in the order of :data:`FIGURES`.

    Args:
        only: Names of figures; empty means all.

    Returns:
        The names.

    Raises:
        UserError: A name is unknown.
    """
    for name in only:
        if name not in FIGURES:
            raise UserError(f"--only {name}: {nearest(name, FIGURES)}")
    return [n for n in FIGURES if not only or n in only]


def render_figures(
    eval_set: EvalSet,
    out: Path,
    unimodal: Callable[[], Run],
    only: Sequence[str] = (),
    ends: tuple[int, int] | None = None,
    on_figure: Callable[[RenderedFigure], None] = lambda figure: None,
) -> list[RenderedFigure]:
    """Write the figures of a run as PNG and PDF, and their captions as ``figures.json``.

    Args:
        eval_set: The held-out samples.
        out: Folder to write.
        unimodal: Gives the unimodal run; called if ``tsne`` is rendered.
        only: Names of figures; empty means all.
        ends: The two rows of the latent interpolation; None chooses them.
        on_figure: Called after each figure.

    Returns:
        What was rendered and what was left out.

    Raises:
        UserError: A figure of ``only`` cannot be rendered. Without ``only`` it is left out.
    """
    results = []
    for name in select_figures(only):
        for stem, plot in _plots(name, eval_set, unimodal, ends).items():
            try:
                with plot_style():
                    figure, caption = plot()
                    files = save_figure(figure, out / stem)
                result = RenderedFigure(stem, tuple(f.name for f in files), caption)
            except MissingDataError as lacking:
                result = RenderedFigure(stem, left_out=str(lacking))
            except UserError as error:
                if only:
                    raise
                result = RenderedFigure(stem, left_out=str(error))
            on_figure(result)
            results.append(result)
    write_text(out / "figures.json", json.dumps([asdict(r) for r in results], indent=1) + "\n")
    return results


def _plots(
    name: str, eval_set: EvalSet, unimodal: Callable[[], Run], ends: tuple[int, int] | None
) -> dict[str, Callable[[], tuple[Figure, str]]]:
    """File stem -> function that plots it; predictions have a figure for every input but depth and 3D joints."""
    if name == "predictions":
        inputs = [s for s in eval_set.inputs if s not in ("depth", "joints3d")]
        if len(inputs) == 1:
            return {name: lambda: predictions_figure(eval_set, inputs[0])}
        return {f"{name}_{s}": lambda s=s: predictions_figure(eval_set, s) for s in inputs}  # type: ignore[misc]
    plots: dict[str, Callable[[], tuple[Figure, str]]] = {
        "tsne": lambda: tsne_figure(eval_set, unimodal),
        "interpolation": lambda: interpolation_figure(eval_set, ends),
        "samples": lambda: posterior_samples_figure(eval_set),
        "depth": lambda: depth_figure(eval_set),
    }
    return {name: plots[name]}
