"""Coverage of the credible regions of posterior samples.

The credible region of a joint is the ball about the mean of its samples whose radius is a quantile of their distances
from it. A calibrated posterior's region contains the true joint as often as the quantile says.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

LEVELS = (0.5, 0.8, 0.95)
NUM_SAMPLES = 64


def normalised_radius(samples: Tensor, truth: Tensor, levels: Sequence[float]) -> Tensor:
    """Distance of the truth from the centre of each credible region, in units of its radius.

    Args:
        samples: ``[N, B, J, 3]``.
        truth: ``[B, J, 3]``, in the same unit.
        levels: ``L`` quantiles.

    Returns:
        ``[L, B, J]``, at most 1 inside the region; NaN where the truth is.

    Example:
        >>> line = torch.arange(-10.0, 11)[:, None, None, None] * torch.tensor([1.0, 0, 0])
        >>> normalised_radius(line, torch.tensor([[[4.0, 0, 0]]]), [0.5, 0.8]).flatten()
        tensor([0.8000, 0.5000])
    """
    mean = samples.mean(0)
    distances = (samples - mean).norm(dim=-1)
    radii = torch.quantile(distances, torch.tensor(list(levels), dtype=distances.dtype), dim=0)
    return (truth - mean).norm(dim=-1) / radii.clamp_min(1e-9)


def coverage(samples: Tensor, truth: Tensor, counted: Tensor, levels: Sequence[float] = LEVELS) -> list[float]:
    """Share of joints inside their credible regions.

    Args:
        samples: ``[N, B, J, 3]``.
        truth: ``[B, J, 3]``, in the same unit.
        counted: ``[B, J]`` bool; leave out the root, which is always at 0.
        levels: ``L`` quantiles.

    Returns:
        ``L`` shares.
    """
    return [float((radius[counted] <= 1).float().mean()) for radius in normalised_radius(samples, truth, levels)]
