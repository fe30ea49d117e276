"""Figure 5 of the supplement: triplets of a depth picture, the true hand and the predicted one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cvhpe.evaluation.eval_set import EvalSet, Lacking
from cvhpe.viz.figures.axes import axes_at, caption, chosen, mean_errors, show, tighten
from cvhpe.viz.figures.predictions import needs_3d
from cvhpe.viz.figures.style import PREDICTION, TRUTH, blank
from cvhpe.viz.skeleton import draw3d, frame3d

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROWS, TRIPLETS = 4, 2
GAP = 0.25
"""Between triplets, in widths of a picture: a prediction must not seem to belong to the next picture."""


def figure(held: EvalSet, rows: int = ROWS, triplets: int = TRIPLETS) -> tuple[Figure, str]:
    """The figure and its caption."""
    if "depth" not in held.inputs:
        raise Lacking(f"this run encodes {', '.join(held.inputs)}, not depth")
    needs_3d(held)
    at = chosen(held, "depth", rows * triplets)
    triplets = min(triplets, len(at))
    rows = -(-len(at) // triplets)
    pictures, truth, predicted = (
        held.to_network_input("depth", at).float().numpy(),
        held.truth(at),
        held.predict("depth", at),
    )
    error = mean_errors(truth, predicted, held.visible(at))
    across = [1.0, 1.0, 1.0, GAP] * triplets
    drawn = blank(1.25 * sum(across[:-1]), 1.3 * rows)
    grid = drawn.add_gridspec(rows, len(across) - 1, width_ratios=across[:-1])
    for n in range(len(at)):
        line, column = divmod(n, triplets)
        axes = axes_at(drawn, held, "depth", grid[line, 4 * column])
        show(axes, held, "depth", pictures[n])
        pair = []
        for k, (hand, colour) in enumerate(((truth[n], TRUTH), (predicted[n], PREDICTION))):
            pair.append(axes_at(drawn, held, "joints3d", grid[line, 4 * column + 1 + k]))
            draw3d(pair[-1], hand, colour=colour)
        for one in pair:
            frame3d(one, truth[n], predicted[n])
        caption(pair[1], f"{error[n]:.1f} mm")
        if line == 0:
            for one, title in zip((axes, *pair), ("depth", "ground truth", "prediction"), strict=True):
                # A title of 3D axes may stand below them already; a text beside it does not push it away.
                one.annotate(title, (0.5, 1.03), xycoords="axes fraction", ha="center")
    tighten(drawn, above=0.2)
    text = (
        "Depth to 3D joints on held-out hands, from the best to nearly the worst predicted of a random draw: the "
        "picture, the true hand (blue), the predicted one (red) and the mean distance of their joints."
    )
    return drawn, text
