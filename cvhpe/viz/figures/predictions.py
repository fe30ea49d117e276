"""Figure 3 of the supplement: predicted 3D joints (red) and the truth (blue), below their input."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cvhpe.evaluation.eval_set import EvalSet
from cvhpe.viz.figures.axes import (
    add_axes,
    add_legend,
    caption,
    hand_errors,
    plot_comparison,
    plot_sample,
    require_3d,
    select_examples,
    set_margins,
)
from cvhpe.viz.style import display_name, empty_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS, HANDS = 6, 12


def predictions_figure(
    eval_set: EvalSet, source: str, columns: int = COLUMNS, rows: np.ndarray | None = None
) -> tuple[Figure, str]:
    """Plot inputs, each above the 3D joints predicted from it.

    Args:
        eval_set: The held-out samples.
        source: The input modality.
        columns: Hands side by side.
        rows: The hands; None chooses :data:`HANDS` with :func:`select_examples`.

    Returns:
        The figure and its caption.

    Raises:
        MissingDataError: The run or its data lack what the figure shows.
    """
    require_3d(eval_set)
    rows = select_examples(eval_set, source, HANDS) if rows is None else rows
    columns = min(columns, len(rows))
    lines = -(-len(rows) // columns)
    inputs, truth = eval_set.to_network_input(source, rows).float().numpy(), eval_set.true_joints(rows)
    predicted = eval_set.predict(source, rows)
    errors_mm = hand_errors(truth, predicted, eval_set.visible(rows))
    figure = empty_figure(1.3 * columns, 2.75 * lines)
    grid = figure.add_gridspec(2 * lines, columns)
    for n in range(len(rows)):
        line, column = divmod(n, columns)
        if eval_set.run.model.modalities[source].draw is not None:
            plot_sample(add_axes(figure, eval_set, source, grid[2 * line, column]), eval_set, source, inputs[n])
        axes = add_axes(figure, eval_set, "joints3d", grid[2 * line + 1, column])
        plot_comparison(axes, truth[n], predicted[n : n + 1])
        caption(axes, f"{errors_mm[n]:.1f} mm")
    add_legend(figure)
    set_margins(figure, above=0.3)
    text = (
        f"{display_name(source)} to 3D joints on held-out hands, from the best to nearly the worst prediction of a "
        "random sample. Blue: ground truth; red: prediction; below: mean end-point error."
    )
    return figure, text
