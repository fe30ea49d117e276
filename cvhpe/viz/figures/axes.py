"""What the figures have in common: axes for any modality, the choice of examples, legends and captions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cvhpe.evaluation.eval_set import EvalSet, MissingDataError
from cvhpe.viz.skeleton import fit_axes_3d, plot_hand_3d
from cvhpe.viz.style import PREDICTION, TRUTH

if TYPE_CHECKING:
    from matplotlib.figure import Figure

IMAGE_MODALITIES = ("rgb", "depth")
"""The modalities that can stand for a hand as its image, the preferred one first."""


def primary_input(eval_set: EvalSet) -> str:
    """The input modality to show: an image if the run encodes one, else any other than 3D joints."""
    order = [*IMAGE_MODALITIES, *(m for m in eval_set.inputs if m != "joints3d"), "joints3d"]
    return next(m for m in order if m in eval_set.inputs)


def require_3d(eval_set: EvalSet) -> None:
    """Check that a run predicts 3D joints.

    Args:
        eval_set: Samples of the run.

    Raises:
        MissingDataError: It decodes other modalities only.
    """
    if "joints3d" not in eval_set.outputs:
        raise MissingDataError(f"this run decodes {', '.join(eval_set.outputs)}, not joints3d")


def select_examples(eval_set: EvalSet, modality: str, count: int) -> np.ndarray:
    """Choose hands at even steps of error, from the best to nearly the worst of 400 random ones.

    Args:
        eval_set: The held-out samples.
        modality: The input of the predictions.
        count: How many hands, at most.

    Returns:
        Rows ``(n,)`` by ascending error.

    Raises:
        MissingDataError: No sample has both the input and all 3D joints.
    """
    rows = eval_set.mostly_visible(eval_set.sample_rows(400, modality, "joints3d"))
    if not len(rows):
        raise MissingDataError(f"no held-out sample has both {modality} and all 3D joints")
    errors_mm = hand_errors(eval_set.true_joints(rows), eval_set.predict(modality, rows), eval_set.visible(rows))
    order = rows[np.argsort(errors_mm, kind="stable")]
    last = int(0.99 * (len(order) - 1))
    return order[np.unique(np.linspace(0, last, min(count, last + 1)).round().astype(int))]


def hand_errors(truth: np.ndarray, predicted: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Mean end-point error of each hand over its visible joints.

    Args:
        truth: ``(n, J, 3)`` mm.
        predicted: ``(n, J, 3)`` mm.
        visible: ``(n, J)`` bool.

    Returns:
        ``(n,)`` mm.

    Example:
        >>> hand_errors(np.zeros((1, 2, 3)), np.full((1, 2, 3), [[0.0, 3, 4], [9, 9, 9]]), np.array([[True, False]]))
        array([5.])
    """
    distance = np.where(visible, np.linalg.norm(predicted - truth, axis=-1), 0)
    return distance.sum(-1) / visible.sum(-1).clip(1)


def add_axes(figure: Figure, eval_set: EvalSet, modality: str, *place: Any) -> Any:
    """Add 2D or 3D axes, as a modality needs them.

    Args:
        figure: The figure.
        eval_set: Samples of the run.
        modality: What will be plotted.
        place: Rows, columns and number, or a cell of a grid, as ``Figure.add_subplot`` takes them.

    Returns:
        Matplotlib axes.
    """
    is_3d = modality == "joints3d" or eval_set.run.model.modalities[modality].geometry == "points3d"
    return figure.add_subplot(*place, projection="3d" if is_3d else None)


def plot_sample(axes: Any, eval_set: EvalSet, modality: str, sample: np.ndarray) -> None:
    """Plot a sample with the modality's own function.

    Args:
        axes: Axes of :func:`add_axes`.
        eval_set: Samples of the run.
        modality: The sample's modality.
        sample: Network input or output ``(*shape)``.

    Raises:
        MissingDataError: The modality has no function that plots it.
    """
    draw = eval_set.run.model.modalities[modality].draw
    if draw is None:
        raise MissingDataError(f"modality {modality} cannot be plotted")
    draw(axes, sample)
    axes.set(xticks=[], yticks=[])
    if eval_set.run.model.modalities[modality].geometry == "points2d":
        axes.set(xlim=(-0.62, 0.62), ylim=(0.62, -0.62))
        for spine in axes.spines.values():
            spine.set_visible(True)
            spine.set_color("#c5c9d3")


def plot_comparison(axes: Any, truth: np.ndarray, predictions: np.ndarray) -> None:
    """Plot true joints in blue and predicted ones in red.

    Args:
        axes: 3D axes.
        truth: ``(J, 3)`` mm.
        predictions: ``(K, J, 3)`` mm.
    """
    several = len(predictions) > 1
    alpha = max(0.06, 1.6 / len(predictions)) if several else 1.0
    for joints in predictions:
        plot_hand_3d(axes, joints, colour=PREDICTION, width=0.8 if several else 1.5, alpha=alpha)
    plot_hand_3d(axes, truth, colour=TRUTH)
    fit_axes_3d(axes, truth, *predictions)


def set_margins(figure: Figure, *, above: float = 0.0, below: float = 0.16) -> None:
    """Close the gaps between the axes of a figure.

    Args:
        figure: The figure.
        above: Free space for a legend, in inches.
        below: Free space for a last line of captions, in inches.
    """
    height = figure.get_figheight()
    bottom, top = below / height, 1 - above / height
    figure.subplots_adjust(left=0.01, right=0.99, bottom=bottom, top=top, wspace=0.04, hspace=0.1)


def caption(axes: Any, text: str) -> None:
    """Write a text centred below 2D or 3D axes.

    Args:
        axes: The axes.
        text: The text.
    """
    axes.annotate(text, (0.5, 0.0), xycoords="axes fraction", ha="center", va="top", color="#4b5563")


def add_legend(figure: Figure, predicted: str = "prediction") -> None:
    """Add the legend of truth and prediction.

    Args:
        figure: The figure.
        predicted: What is red.
    """
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=TRUTH), Line2D([], [], color=PREDICTION)]
    figure.legend(handles, ["ground truth", predicted], loc="upper center", bbox_to_anchor=(0.5, 1.0), ncols=2)
