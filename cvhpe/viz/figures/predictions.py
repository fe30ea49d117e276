"""Figure 3 of the supplement: predicted 3D joints (red) against the truth (blue), beside what they were seen in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cvhpe.evaluation.eval_set import EvalSet, Lacking
from cvhpe.viz.figures.axes import axes_at, caption, chosen, compare, mean_errors, show, tighten
from cvhpe.viz.figures.style import PREDICTION, TRUTH, blank, label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS, PAIRS_OF_ROWS = 6, 2


def needs_3d(held: EvalSet) -> None:
    """Raise :class:`Lacking` where a run predicts no 3D joints."""
    if "joints3d" not in held.outputs:
        raise Lacking(f"this run decodes {', '.join(held.outputs)}, not joints3d")


def figure(
    held: EvalSet, source: str, columns: int = COLUMNS, pairs: int = PAIRS_OF_ROWS, rows: np.ndarray | None = None
) -> tuple[Figure, str]:
    """The figure and its caption: rows of inputs, each above the predictions made of them; ``rows``: of which hands."""
    needs_3d(held)
    rows = chosen(held, source, columns * pairs) if rows is None else rows
    columns = min(columns, len(rows))
    pairs = -(-len(rows) // columns)
    inputs, truth = held.to_network_input(source, rows).float().numpy(), held.truth(rows)
    predicted = held.predict(source, rows)
    error = mean_errors(truth, predicted, held.visible(rows))
    drawn = blank(1.3 * columns, 2.75 * pairs)
    drawable = held.run.model.modalities[source].draw is not None
    for n in range(len(rows)):
        line, column = divmod(n, columns)
        if drawable:
            show(
                axes_at(drawn, held, source, 2 * pairs, columns, 2 * line * columns + column + 1),
                held,
                source,
                inputs[n],
            )
        axes = axes_at(drawn, held, "joints3d", 2 * pairs, columns, (2 * line + 1) * columns + column + 1)
        compare(axes, truth[n], predicted[n : n + 1])
        caption(axes, f"{error[n]:.1f} mm")
    key(drawn)
    tighten(drawn, above=0.3)
    text = (
        f"{label(source)} to 3D joints on held-out hands, from the best to nearly the worst predicted of a random "
        "draw. Blue is the truth, red the prediction; below, the mean distance of their joints."
    )
    return drawn, text


def key(drawn: Figure, samples: bool = False) -> None:
    """Which colour is the truth and which the prediction."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=TRUTH), Line2D([], [], color=PREDICTION)]
    names = ["ground truth", "posterior samples" if samples else "prediction"]
    drawn.legend(handles, names, loc="upper center", bbox_to_anchor=(0.5, 1.0), ncols=2)
