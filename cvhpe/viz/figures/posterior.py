"""Figure 4 of the supplement: repeated samples of the predicted posterior (red) against the truth (blue)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from cvhpe.evaluation.eval_set import EvalSet
from cvhpe.models.fusion import sample_latents
from cvhpe.plugin.contract import Posterior
from cvhpe.uncertainty.fusion import calibration_of
from cvhpe.viz.figures.axes import axes_at, caption, chosen, compare, show, tighten
from cvhpe.viz.figures.latent_interpolation import source_of
from cvhpe.viz.figures.predictions import key, needs_3d
from cvhpe.viz.figures.style import blank, label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HANDS, SAMPLES = 6, 25


def sampled(held: EvalSet, source: str, rows: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Joints ``(count, n, J, 3)`` mm decoded from samples ``z ~ N(mu, sigma^2)`` of every row's posterior."""
    return decoded(held, held.encode(source, rows), rows, count, seed)


def decoded(held: EvalSet, posterior: Posterior, rows: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """What :func:`sampled` gives, of posteriors ``[n, D]`` that were encoded already."""
    return held.joints(sample_latents(posterior, count, torch.Generator().manual_seed(seed)), rows)


def widened(held: EvalSet, source: str) -> str:
    """A sentence for whoever takes the spread for the error to expect."""
    calibration = calibration_of(held.run.metadata.training)
    width = calibration.width([source]) if calibration else None
    if width is None:
        return " They are as the encoder was trained to give them, and were not calibrated."
    return f" They are as trained; what is predicted is said to be uncertain by {width.scale:.1f} times as wide ones."


def figure(held: EvalSet, hands: int = HANDS, samples: int = SAMPLES) -> tuple[Figure, str]:
    """The figure and its caption: a column a hand, its input above, all samples in one picture below."""
    needs_3d(held)
    source = source_of(held)
    rows = chosen(held, source, hands)
    inputs, truth, drawn_from = (
        held.to_network_input(source, rows).float().numpy(),
        held.truth(rows),
        sampled(held, source, rows, samples),
    )
    drawn = blank(1.3 * len(rows), 2.75)
    for n in range(len(rows)):
        if held.run.model.modalities[source].draw is not None:
            show(axes_at(drawn, held, source, 2, len(rows), n + 1), held, source, inputs[n])
        axes = axes_at(drawn, held, "joints3d", 2, len(rows), len(rows) + n + 1)
        compare(axes, truth[n], drawn_from[:, n])
        spread = np.sqrt(((drawn_from[:, n] - drawn_from[:, n].mean(0)) ** 2).sum(-1).mean())
        caption(axes, f"± {spread:.1f} mm")
    key(drawn, samples=True)
    tighten(drawn, above=0.3)
    text = (
        f"Sampling from the prediction: {samples} samples of the posterior that the encoder of {label(source)} gives, "
        "decoded to 3D joints (red), and the truth (blue); below, the samples' spread about their mean."
        + widened(held, source)
    )
    return drawn, text
