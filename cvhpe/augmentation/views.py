"""Random views and keypoint noise: the paper's augmentation (supplementary, 1.1), and a detector's errors."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from cvhpe.config.schema import Augmentation
from cvhpe.plugin.contract import View


def sample_views(
    root_shift_weight: Tensor, augmentation: Augmentation, generator: Generator, margin: float = 1.0
) -> View:
    """Sample one view for each sample of a batch.

    Args:
        root_shift_weight: ``[B]`` how far each sample's root joint moves towards the palm.
        augmentation: Ranges of rotation, scale, shift and flip.
        generator: On the CPU; the only source of randomness.
        margin: Side of the stored crop over that of the network's.

    Returns:
        Views of B samples.
    """
    u = torch.rand(len(root_shift_weight), 5, generator=generator)
    symmetric = 2 * u - 1
    return View(
        angle=symmetric[:, 0] * math.radians(augmentation.rotation_deg),
        scale=torch.exp(symmetric[:, 1] * math.log1p(augmentation.scale)),
        shift=symmetric[:, 2:4] * augmentation.shift,
        flip=u[:, 4] < augmentation.flip,
        root_shift_weight=root_shift_weight.float(),
        margin=margin,
    )


def add_keypoint_noise(
    joints2d: Tensor, crop: Tensor, max_sigma_px: float, generator: Generator, batch_size: int, first: int = 0
) -> Tensor:
    """Add Gaussian noise to 2D joints, as a detector makes it.

    Half of the samples stay clean; the others get a standard deviation uniform in [0, ``max_sigma_px``]. Noise is
    sampled for the whole batch, so that a part of it gets what it gets in the whole.

    Args:
        joints2d: ``[m, J, 2]`` crop fractions of the samples ``first`` to ``first + m`` of a batch.
        crop: ``[m, 3]`` centre x, centre y and side of their crops, px.
        max_sigma_px: Largest standard deviation, pixels of the frame.
        generator: On the CPU.
        batch_size: Samples in the whole batch.
        first: Place of the first sample in the batch.

    Returns:
        ``[m, J, 2]`` crop fractions.
    """
    sigma = (2 * torch.rand(batch_size, generator=generator) - 1).clamp_min(0) * max_sigma_px
    noise = torch.randn(batch_size, *joints2d.shape[1:], generator=generator) * sigma[:, None, None]
    return joints2d + noise[first : first + len(joints2d)] / crop[:, None, 2:]
