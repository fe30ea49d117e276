"""One hand in one modality on one pair of axes, drawn by the modality's own plugin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cvhpe.evaluation.eval_set import EvalSet, Lacking
from cvhpe.viz.figures.style import PREDICTION, TRUTH
from cvhpe.viz.skeleton import draw2d, draw3d, frame3d, in_picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

IMAGE_MODALITIES = ("rgb", "depth")
"""What an input is shown as, if the samples have it: the first of these; joints are drawn otherwise."""


def axes_at(figure: Figure, held: EvalSet, modality: str, *place: Any) -> Any:
    """Axes of the kind that a modality is drawn on; ``place``: rows, columns and number, or a cell of a grid."""
    solid = modality == "joints3d" or held.run.model.modalities[modality].geometry == "points3d"
    axes = figure.add_subplot(*place, projection="3d" if solid else None)
    return axes


def show(axes: Any, held: EvalSet, modality: str, sample: np.ndarray) -> None:
    """Draw a network-ready sample ``shape`` of a modality."""
    draw = held.run.model.modalities[modality].draw
    if draw is None:
        raise Lacking(f"modality {modality} has no way to be drawn")
    draw(axes, sample)
    axes.set(xticks=[], yticks=[])
    if held.run.model.modalities[modality].geometry == "points2d":
        axes.set(xlim=(-0.62, 0.62), ylim=(0.62, -0.62))
        for spine in axes.spines.values():
            spine.set_visible(True)
            spine.set_color("#c5c9d3")


def over(axes: Any, points: np.ndarray, size: int) -> None:
    """Draw 2D joints, crop fractions ``(J, 2)``, over the picture that the axes show."""
    draw2d(axes, in_picture(points, size), width=1.2)
    axes.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5))


def compare(axes: Any, truth: np.ndarray, predictions: np.ndarray, *, reach: float | None = None) -> None:
    """Draw true joints ``(J, 3)`` in blue and predictions ``(K, J, 3)`` in red on 3D axes."""
    faint = 1.0 if len(predictions) == 1 else max(0.06, 1.6 / len(predictions))
    for joints in predictions:
        draw3d(axes, joints, colour=PREDICTION, width=1.5 if len(predictions) == 1 else 0.8, alpha=faint)
    draw3d(axes, truth, colour=TRUTH, width=1.5)
    frame3d(axes, truth, *predictions, reach=reach)


def chosen(held: EvalSet, modality: str, count: int) -> np.ndarray:
    """Rows to show predictions of: at even steps from the best to nearly the worst of a random draw.

    Neither picked nor lucky: the hands shown are as well predicted as all are.
    """
    rows = held.judged(held.some(400, modality, "joints3d"))
    if not len(rows):
        raise Lacking(f"no held-out sample has both {modality} and all 3D joints")
    error = mean_errors(held.truth(rows), held.predict(modality, rows), held.visible(rows))
    order = rows[np.argsort(error, kind="stable")]
    last = int(0.99 * (len(order) - 1))
    return order[np.unique(np.linspace(0, last, min(count, last + 1)).round().astype(int))]


def mean_errors(truth: np.ndarray, predicted: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Mean distances ``(n,)`` mm of hands ``(n, J, 3)`` over their visible joints ``(n, J)``.

    >>> mean_errors(np.zeros((1, 2, 3)), np.full((1, 2, 3), [[0.0, 3, 4], [9, 9, 9]]), np.array([[True, False]]))
    array([5.])
    """
    distance = np.where(visible, np.linalg.norm(predicted - truth, axis=-1), 0)
    return distance.sum(-1) / visible.sum(-1).clip(1)


def tighten(drawn: Figure, *, above: float = 0.0, below: float = 0.16) -> None:
    """Close the gaps between pictures; ``above``, ``below``: inches left free for a key and a last line of words."""
    height = drawn.get_figheight()
    bottom, top = below / height, 1 - above / height
    drawn.subplots_adjust(left=0.01, right=0.99, bottom=bottom, top=top, wspace=0.04, hspace=0.1)


def caption(axes: Any, text: str) -> None:
    """A word under a picture; a 3D axes' own labels would be put elsewhere at every angle."""
    axes.annotate(text, (0.5, 0.0), xycoords="axes fraction", ha="center", va="top", color="#4b5563")
