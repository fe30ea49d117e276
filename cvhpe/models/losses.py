"""Reconstruction losses per sample: ``-log p(x|z)`` up to scale (paper, section 3)."""

from __future__ import annotations

import torch
from torch import Tensor

from cvhpe.ops import Palm, joints_loss
from cvhpe.plugin.contract import View

SMOOTHING = 0.01
"""Length below which :func:`distance_loss` becomes quadratic, in the joints' own units."""


def image_loss(pred: Tensor, target: Tensor) -> Tensor:
    """Mean squared error over a sample's pixels.

    Args:
        pred: ``[B, C, H, W]``.
        target: ``[B, C, H, W]``.

    Returns:
        ``[B]`` float32.
    """
    return (pred.float() - target.float()).square().flatten(1).mean(1)


def points_loss(pred: Tensor, target: Tensor) -> Tensor:
    """Mean squared error over a sample's labelled joints.

    Args:
        pred: ``[B, J, k]``.
        target: ``[B, J, k]``; NaN where a joint is not labelled.

    Returns:
        ``[B]`` float32.
    """
    return joints_loss(pred, target, skip_nan=True)


def distance_loss(pred: Tensor, target: Tensor) -> Tensor:
    """Mean Euclidean distance over a sample's labelled joints, the quantity that the end-point error measures.

    The gradient does not grow with the error, so a few bad frames do not dominate. It is the pseudo-Huber loss
    ``sqrt(d^2 + s^2) - s`` with ``s`` = :data:`SMOOTHING`.

    Args:
        pred: ``[B, J, k]``.
        target: ``[B, J, k]``; NaN where a joint is not labelled.

    Returns:
        ``[B]`` float32, in the joints' own units.

    Example:
        >>> distance_loss(torch.zeros(1, 2, 3), torch.tensor([[[2.0, 3.0, 6.0], [float("nan"), 0.0, 0.0]]]))
        tensor([6.9900])
    """
    labelled = target.isfinite().all(-1)
    mask = labelled[..., None]
    difference = torch.where(mask, pred.float() - torch.where(mask, target, 0.0).float(), 0.0)
    distance = torch.where(labelled, (difference.square().sum(-1) + SMOOTHING**2).sqrt() - SMOOTHING, 0.0)
    return distance.sum(1) / labelled.sum(1).clamp_min(1)


def fused_points_loss(
    pred: Tensor, stored: Tensor, view: View, *, root: int, root_shift_joint: int, relative: bool
) -> Tensor:
    """:func:`points_loss` against the stored joints augmented by ``view``, in one kernel.

    Args:
        pred: ``[B, J, k]``.
        stored: ``[B, J, k]`` joints before augmentation; NaN where not labelled.
        view: One view a sample.
        root: Index of the root joint.
        root_shift_joint: Index of the joint that the root moves towards to become a palm.
        relative: Whether joints are relative to the root (3D) or not (2D).

    Returns:
        ``[B]`` float32.
    """
    return joints_loss(pred, stored, None, view, Palm(root, root_shift_joint), relative=relative, skip_nan=True)
