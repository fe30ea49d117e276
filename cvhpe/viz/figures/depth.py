"""Figure 5 of the supplement: triplets of a depth image, the true hand and the predicted one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cvhpe.evaluation.eval_set import EvalSet, MissingDataError
from cvhpe.viz.figures.axes import (
    add_axes,
    caption,
    hand_errors,
    plot_sample,
    require_3d,
    select_examples,
    set_margins,
)
from cvhpe.viz.skeleton import fit_axes_3d, plot_hand_3d
from cvhpe.viz.style import PREDICTION, TRUTH, empty_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HANDS, TRIPLETS = 8, 2
GAP = 0.25
"""Space between triplets, in widths of an image."""


def depth_figure(eval_set: EvalSet) -> tuple[Figure, str]:
    """Plot depth images beside the true and the predicted 3D joints.

    Args:
        eval_set: The held-out samples.

    Returns:
        The figure and its caption.

    Raises:
        MissingDataError: The run does not encode depth or does not decode 3D joints.
    """
    if "depth" not in eval_set.inputs:
        raise MissingDataError(f"this run encodes {', '.join(eval_set.inputs)}, not depth")
    require_3d(eval_set)
    rows = select_examples(eval_set, "depth", HANDS)
    triplets = min(TRIPLETS, len(rows))
    lines = -(-len(rows) // triplets)
    images, truth = eval_set.to_network_input("depth", rows).float().numpy(), eval_set.true_joints(rows)
    predicted = eval_set.predict("depth", rows)
    errors_mm = hand_errors(truth, predicted, eval_set.visible(rows))
    widths = ([1.0, 1.0, 1.0, GAP] * triplets)[:-1]
    figure = empty_figure(1.25 * sum(widths), 1.3 * lines)
    grid = figure.add_gridspec(lines, len(widths), width_ratios=widths)
    for n in range(len(rows)):
        line, triplet = divmod(n, triplets)
        cells = [
            add_axes(figure, eval_set, modality, grid[line, 4 * triplet + k])
            for k, modality in enumerate(("depth", "joints3d", "joints3d"))
        ]
        plot_sample(cells[0], eval_set, "depth", images[n])
        for axes, joints, colour in ((cells[1], truth[n], TRUTH), (cells[2], predicted[n], PREDICTION)):
            plot_hand_3d(axes, joints, colour=colour)
            fit_axes_3d(axes, truth[n], predicted[n])
        caption(cells[2], f"{errors_mm[n]:.1f} mm")
        if line == 0:
            for axes, title in zip(cells, ("depth", "ground truth", "prediction"), strict=True):
                # set_title would place 2D and 3D titles at different heights
                axes.annotate(title, (0.5, 1.03), xycoords="axes fraction", ha="center")
    set_margins(figure, above=0.2)
    text = (
        "Depth to 3D joints on held-out hands, from the best to nearly the worst prediction of a random sample: depth "
        "image, ground truth (blue), prediction (red) and mean end-point error."
    )
    return figure, text
