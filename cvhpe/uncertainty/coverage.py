"""Regions that posterior samples say hold the truth, and how often they do.

A region belongs to one joint of one hand. It is the ball about the mean of that joint's samples whose radius is a
quantile of the samples' own distances from it: the 80 % region of 64 samples reaches as far as 51 of them do. Of an
honest posterior it holds the true joint as often as its quantile says. The root joint, which predictions and truth
both have at zero, is left out, as is every joint that is not labelled.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

LEVELS = (0.5, 0.8, 0.95)
SAMPLES = 64


def reach(samples: Tensor, truth: Tensor, levels: Sequence[float]) -> Tensor:
    """FusionParams far the truth is away, in radii of each region: ``[L, B, J]``, at most 1 inside.

    samples: ``[N, B, J, 3]`` and truth: ``[B, J, 3]``, in the same unit. A joint whose truth is NaN is NaN.

    >>> line = torch.arange(-10.0, 11)[:, None, None, None] * torch.tensor([1.0, 0, 0])
    >>> reach(line, torch.tensor([[[4.0, 0, 0]]]), [0.5, 0.8]).flatten()
    tensor([0.8000, 0.5000])
    """
    mean = samples.mean(0)
    away = (samples - mean).norm(dim=-1)
    radii = torch.quantile(away, torch.tensor(list(levels), dtype=away.dtype), dim=0)
    return (truth - mean).norm(dim=-1) / radii.clamp_min(1e-9)


def coverage(samples: Tensor, truth: Tensor, counted: Tensor, levels: Sequence[float] = LEVELS) -> list[float]:
    """Share of the joints ``counted`` ``[B, J]`` that are inside their regions, for each level."""
    return [float((one[counted] <= 1).float().mean()) for one in reach(samples, truth, levels)]
