"""Reconstruction losses per sample, ``-log p(x|z)`` up to scale: mean squares (paper section 3)."""

from __future__ import annotations

from torch import Tensor

from cvhpe.modality import View
from cvhpe.ops import Palm, joints_loss


def image_loss(pred: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of every sample's pixels: ``[B, C, H, W]`` twice -> ``[B]`` float32."""
    return (pred.float() - target.float()).square().flatten(1).mean(1)


def points_loss(pred: Tensor, target: Tensor) -> Tensor:
    """Mean squared error over the labelled joints: ``[B, J, k]`` twice -> ``[B]``; NaN is not labelled."""
    return joints_loss(pred, target, skip_nan=True)


def fused_points_loss(pred: Tensor, stored: Tensor, view: View, *, root: int, toward: int, relative: bool) -> Tensor:
    """:func:`points_loss` against the stored joints seen under ``view``, in one kernel -> ``[B]``."""
    return joints_loss(pred, stored, None, view, Palm(root, toward), relative=relative, skip_nan=True)
