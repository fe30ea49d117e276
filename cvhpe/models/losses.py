"""Reconstruction losses per sample, ``-log p(x|z)`` up to scale: mean squares (paper section 3)."""

from __future__ import annotations

import torch
from torch import Tensor

from cvhpe.ops import Palm, joints_loss
from cvhpe.plugin.contract import View

ROUNDED = 0.01
"""Where a distance stops being one and becomes a square, in the joints' own units."""


def image_loss(pred: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of every sample's pixels: ``[B, C, H, W]`` twice -> ``[B]`` float32."""
    return (pred.float() - target.float()).square().flatten(1).mean(1)


def points_loss(pred: Tensor, target: Tensor) -> Tensor:
    """Mean squared error over the labelled joints: ``[B, J, k]`` twice -> ``[B]``; NaN is not labelled."""
    return joints_loss(pred, target, skip_nan=True)


def distance_loss(pred: Tensor, target: Tensor) -> Tensor:
    """Mean distance over the labelled joints, ``[B, J, k]`` twice -> ``[B]``; NaN is not labelled.

    What the end-point error is made of. Its gradient does not grow with the error, so that few bad frames do not
    lead; within 0.01 of the target it falls smoothly to zero.

    >>> distance_loss(torch.zeros(1, 2, 3), torch.tensor([[[2.0, 3.0, 6.0], [float("nan"), 0.0, 0.0]]]))
    tensor([6.9900])
    """
    known = target.isfinite().all(-1)
    d = torch.where(known[..., None], pred.float() - torch.where(known[..., None], target, 0.0).float(), 0.0)
    each = torch.where(known, (d.square().sum(-1) + ROUNDED**2).sqrt() - ROUNDED, 0.0)
    return each.sum(1) / known.sum(1).clamp_min(1)


def fused_points_loss(
    pred: Tensor, stored: Tensor, view: View, *, root: int, root_shift_joint: int, relative: bool
) -> Tensor:
    """:func:`points_loss` against the stored joints seen under ``view``, in one kernel -> ``[B]``."""
    return joints_loss(pred, stored, None, view, Palm(root, root_shift_joint), relative=relative, skip_nan=True)
