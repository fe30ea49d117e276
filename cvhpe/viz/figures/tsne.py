"""Figure 1 of the supplement: t-SNE of the latent means, cross-trained beside separately trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from cvhpe.evaluation.eval_set import EvalSet, Lacking
from cvhpe.evaluation.latent_space import Mixing, Space, embed, mixing, sklearn, tsne
from cvhpe.runs.run_dir import Run
from cvhpe.viz.figures.style import blank, colours, label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POINTS = 400
"""Hands of each modality."""


def draw_spaces(panels: list[tuple[str, Space, Mixing]]) -> Figure:
    """One panel a space, each with what the eye should see as a number under it."""
    figure = blank(3.4 * len(panels), 3.7)
    for k, (title, space, mixed) in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), k + 1)
        at, colour = tsne(space), colours(space.names)
        # In a fixed random order, so that no modality lies on top of all others.
        order = np.random.default_rng(0).permutation(len(at))
        axes.scatter(
            at[order, 0],
            at[order, 1],
            s=7,
            c=[colour[space.names[m]] for m in space.modality[order]],
            alpha=0.85,
            linewidths=0,
        )
        axes.set(xticks=[], yticks=[], xlim=(-1.08, 1.08), ylim=(-1.08, 1.08))
        axes.set_aspect("equal")
        for spine in axes.spines.values():
            spine.set_visible(True)
            spine.set_color("#b8bdc9")
        axes.set_xlabel(f"({chr(97 + k)}) {title}\ntold apart: {mixed} (mixed: {mixed.chance:.2f})", labelpad=6)
    handles = [
        axes.scatter([], [], s=28, color=colour, label=label(n)) for n, colour in colours(panels[0][1].names).items()
    ]
    figure.legend(handles=handles, loc="upper center", ncols=len(handles), handletextpad=0.1, columnspacing=1.4)
    figure.subplots_adjust(wspace=0.06, top=0.92)
    return figure


def figure(held: EvalSet, counterpart: Callable[[], Run], points: int = POINTS) -> tuple[Figure, str]:
    """The figure and its caption, which tells the numbers; ``counterpart`` gives the separately trained run."""
    if len(held.inputs) < 2:
        raise Lacking(f"this run encodes {held.inputs[0]} alone; --variant 2 or 4 encodes the target as well")
    sklearn("manifold")  # before minutes of training, not after
    separate = counterpart()
    mine, theirs = embed(held, points), embed(held, points, separate)
    a, b = mixing(mine), mixing(theirs)
    drawn = draw_spaces([("Cross-trained", mine, a), ("Separately trained", theirs, b)])
    steps = separate.metadata.training.get("step", 0)
    text = (
        f"t-SNE of the latent means of {len(np.unique(mine.row))} held-out hands in {len(held.inputs)} modalities. "
        f"By their neighbours, modalities are told apart with an accuracy of {a} where they were cross-trained and "
        f"of {b} where each autoencoder was trained by itself ({steps} steps); {a.chance:.2f} is perfectly mixed. A "
        f"plane in all {mine.means.shape[1]} dimensions tells them apart with {a.linear:.2f} and {b.linear:.2f}."
    )
    return drawn, text
