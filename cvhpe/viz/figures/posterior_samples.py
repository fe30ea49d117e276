"""Figure 4 of the supplement: samples of the predicted posterior (red) and the truth (blue)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from cvhpe.evaluation.eval_set import EvalSet
from cvhpe.models.fusion import sample_latents
from cvhpe.plugin.contract import Posterior
from cvhpe.uncertainty.fusion import calibration_of
from cvhpe.viz.figures.axes import (
    add_axes,
    add_legend,
    caption,
    plot_comparison,
    plot_sample,
    primary_input,
    require_3d,
    select_examples,
    set_margins,
)
from cvhpe.viz.style import display_name, empty_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HANDS, SAMPLES = 6, 25


def decode_samples(eval_set: EvalSet, posterior: Posterior, rows: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Decode samples ``z ~ N(mu, sigma^2)`` of posteriors to 3D joints.

    Args:
        eval_set: The held-out samples.
        posterior: Posteriors ``[n, D]`` of the rows.
        rows: The hands ``(n,)``.
        count: Samples of each posterior.
        seed: Seed of the samples.

    Returns:
        Joints ``(count, n, J, 3)`` mm, relative to the root.
    """
    return eval_set.decode_joints(sample_latents(posterior, count, torch.Generator().manual_seed(seed)), rows)


def posterior_samples_figure(eval_set: EvalSet) -> tuple[Figure, str]:
    """Plot the inputs of some hands, each above its posterior samples.

    Args:
        eval_set: The held-out samples.

    Returns:
        The figure and its caption.

    Raises:
        MissingDataError: The run or its data lack what the figure shows.
    """
    require_3d(eval_set)
    source = primary_input(eval_set)
    rows = select_examples(eval_set, source, HANDS)
    inputs, truth = eval_set.to_network_input(source, rows).float().numpy(), eval_set.true_joints(rows)
    samples = decode_samples(eval_set, eval_set.encode(source, rows), rows, SAMPLES)
    figure = empty_figure(1.3 * len(rows), 2.75)
    grid = figure.add_gridspec(2, len(rows))
    for n in range(len(rows)):
        if eval_set.run.model.modalities[source].draw is not None:
            plot_sample(add_axes(figure, eval_set, source, grid[0, n]), eval_set, source, inputs[n])
        axes = add_axes(figure, eval_set, "joints3d", grid[1, n])
        plot_comparison(axes, truth[n], samples[:, n])
        deviation = np.sqrt(((samples[:, n] - samples[:, n].mean(0)) ** 2).sum(-1).mean())
        caption(axes, f"± {deviation:.1f} mm")
    add_legend(figure, "posterior samples")
    set_margins(figure, above=0.3)
    text = (
        f"{SAMPLES} samples of the posterior given {display_name(source)}, decoded to 3D joints (red), and the ground "
        f"truth (blue); below: standard deviation of the samples. {_calibration_note(eval_set, source)}"
    )
    return figure, text


def _calibration_note(eval_set: EvalSet, source: str) -> str:
    """How the samples relate to the error to expect."""
    calibration = calibration_of(eval_set.run.metadata.training)
    width = calibration.scaling([source]) if calibration else None
    if width is None:
        return "The samples are not calibrated."
    return f"The samples are not calibrated; calibration scales them by {width.scale:.1f}."
