"""Figure 2 of the supplement: the straight line between two latents, decoded to every modality."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from cvhpe.evaluation.eval_set import EvalSet, MissingDataError
from cvhpe.viz.figures.axes import add_axes, hand_errors, plot_sample, primary_input, set_margins
from cvhpe.viz.skeleton import crop_to_pixels, fit_axes_3d, plot_hand_2d
from cvhpe.viz.style import display_name, empty_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STEPS = 7


@dataclass(frozen=True)
class Interpolation:
    """Latents ``z`` ``[n, D]`` on the line between the rows ``ends`` ``(2,)``, encoded from the modality ``source``."""

    source: str
    ends: np.ndarray
    z: Tensor


def interpolate_latents(eval_set: EvalSet, steps: int, ends: tuple[int, int] | None = None) -> Interpolation:
    """Interpolate linearly between the latent means of two held-out hands.

    Args:
        eval_set: The held-out samples.
        steps: How many latents, both ends included.
        ends: The two rows; None chooses two hands of one side, far apart and well predicted.

    Returns:
        The latents and what they lie between.

    Raises:
        MissingDataError: Fewer than two samples have the input.
    """
    source = primary_input(eval_set)
    rows = np.array(ends) if ends else _select_ends(eval_set, source)
    mu = eval_set.encode(source, rows).mu
    t = torch.linspace(0, 1, steps)[:, None]
    return Interpolation(source, rows, (1 - t) * mu[:1] + t * mu[1:])


def _select_ends(eval_set: EvalSet, source: str) -> np.ndarray:
    """Two rows of one hand side whose latents are farthest apart, among the better predicted half of 256."""
    rows = eval_set.sample_rows(256, source, *(["joints3d"] if "joints3d" in eval_set.outputs else []))
    if len(rows) < 2:
        raise MissingDataError(f"fewer than two held-out samples have {source}")
    if "joints3d" in eval_set.outputs and len(eval_set.mostly_visible(rows)) >= 8:
        rows = eval_set.mostly_visible(rows)
        errors_mm = hand_errors(eval_set.true_joints(rows), eval_set.predict(source, rows), eval_set.visible(rows))
        rows = rows[np.argsort(errors_mm, kind="stable")[: len(rows) // 2]]
    mu = eval_set.encode(source, rows).mu.numpy()
    distance = np.linalg.norm(mu[:, None] - mu[None], axis=-1)
    side = eval_set.arrays["side"].numpy()[rows]
    distance = np.where(side[:, None] == side[None], distance, 0)
    return rows[list(np.unravel_index(int(distance.argmax()), distance.shape))]


def interpolation_figure(eval_set: EvalSet, ends: tuple[int, int] | None = None) -> tuple[Figure, str]:
    """Plot a row for every decoded modality, a column for every step, and the two inputs at the sides.

    As in the paper, 2D joints lie over the RGB image where the run decodes both.

    Args:
        eval_set: The held-out samples.
        ends: The two rows; None chooses them as :func:`interpolate_latents` does.

    Returns:
        The figure and its caption.

    Raises:
        MissingDataError: Nothing that the run decodes can be plotted.
    """
    line = interpolate_latents(eval_set, STEPS, ends)
    modalities = eval_set.run.model.modalities
    decoded = {name: eval_set.decode(name, line.z) for name in eval_set.outputs}
    order = ("rgb", "depth", "joints2d", "joints3d")
    shown = [n for n in decoded if modalities[n].draw is not None]
    shown.sort(key=lambda n: order.index(n) if n in order else 2)
    if not shown:
        raise MissingDataError("nothing that this run decodes can be plotted")
    joints_on_rgb = "rgb" in shown and "joints2d" in shown
    figure = empty_figure(1.15 * (STEPS + 2), 1.22 * len(shown))
    grid = figure.add_gridspec(len(shown), STEPS + 2)
    for i, name in enumerate(shown):
        values = decoded[name]
        for k in range(STEPS):
            axes = add_axes(figure, eval_set, name, grid[i, k + 1])
            if joints_on_rgb and name == "joints2d":
                size = decoded["rgb"].shape[-1]
                plot_sample(axes, eval_set, "rgb", decoded["rgb"][k])
                plot_hand_2d(axes, crop_to_pixels(values[k], size), width=1.2)
                axes.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5))
            else:
                plot_sample(axes, eval_set, name, values[k])
            if name == "joints3d":
                half_side = 1.02 * float(np.abs(values - values.mean(1, keepdims=True)).max())
                fit_axes_3d(axes, values[k], half_side=half_side)
            if i == 0:
                axes.set_title(f"{k / (STEPS - 1):.2f}", color="#6b7280", pad=3)
        if i > 0:  # the first row has the inputs at its sides
            axes = figure.add_subplot(grid[i, 0])
            axes.set_axis_off()
            title = "RGB and\n2D joints" if joints_on_rgb and name == "joints2d" else display_name(name)
            axes.text(0.97, 0.5, title, ha="right", va="center", color="#4b5563")
    if modalities[line.source].draw is not None:
        inputs = eval_set.to_network_input(line.source, line.ends).float().numpy()
        for sample, column, title in ((inputs[0], 0, "input A"), (inputs[1], STEPS + 1, "input B")):
            axes = add_axes(figure, eval_set, line.source, grid[0, column])
            plot_sample(axes, eval_set, line.source, sample)
            axes.set_title(title, pad=3)
    set_margins(figure, above=0.2, below=0.0)
    text = (
        f"Latent interpolation: two held-out hands (outermost) are encoded from {display_name(line.source)}; {STEPS} "
        f"points on the straight line between their latent means are decoded to "
        f"{', '.join(display_name(n) for n in shown)}. Each column is one point."
    )
    hidden = [display_name(n) for n in decoded if n not in shown]
    return figure, text + (f" Not plotted: {', '.join(hidden)}." if hidden else "")
