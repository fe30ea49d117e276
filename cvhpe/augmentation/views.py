"""Drawing the view of every sample of a batch: the paper's augmentation (supplementary, 1.1)."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from cvhpe.config.schema import Augmentation
from cvhpe.plugin.contract import View


def draw_views(palm: Tensor, augmentation: Augmentation, generator: Generator, margin: float = 1.0) -> View:
    """One view for each of ``palm``'s samples ``[B]``, on the CPU, out of ``generator`` alone."""
    n = palm.shape[0]
    u = torch.rand(n, 5, generator=generator)
    sym = 2 * u - 1
    return View(
        angle=sym[:, 0] * math.radians(augmentation.rotation_deg),
        scale=torch.exp(sym[:, 1] * math.log1p(augmentation.scale)),
        shift=sym[:, 2:4] * augmentation.shift,
        flip=u[:, 4] < augmentation.flip,
        root_shift_weight=palm.float(),
        margin=margin,
    )


def blur(
    joints2d: Tensor, crop: Tensor, keypoint_noise_px: float, generator: Generator, n: int, first: int = 0
) -> Tensor:
    """2D joints ``[m, J, 2]`` (crop fractions) with Gaussian noise, as a detector's would have.

    Half of the samples stay clean, the others get a standard deviation uniform in [0, ``keypoint_noise_px``] pixels of
    their frame; ``crop`` ``[m, 3]`` says how many pixels a fraction is. They are the samples ``first`` to ``first +
    m`` of
    a batch of ``n``, for all of which is drawn.
    """
    sigma = (2 * torch.rand(n, generator=generator) - 1).clamp_min(0) * keypoint_noise_px
    noise = torch.randn(n, *joints2d.shape[1:], generator=generator) * sigma[:, None, None]
    return joints2d + noise[first : first + len(joints2d)] / crop[:, None, 2:]
