"""Reconstruction losses per sample, ``-log p(x|z)`` up to scale: mean squares (paper section 3)."""

from __future__ import annotations

from torch import Tensor

from cvhpe.modality import View
from cvhpe.ops import Palm, joints_loss


def image_loss(pred: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of every sample's pixels: ``[B, C, H, W]`` twice -> ``[B]`` float32."""
    return (pred.float() - target.float()).square().flatten(1).mean(1)


def labelled(target: Tensor) -> tuple[Tensor, Tensor]:
    """Joints ``[B, J, k]`` with NaN where not labelled -> (joints with zeros there, weight ``[B, J]``)."""
    known = target.isfinite().all(-1)
    return target.masked_fill(~known[..., None], 0.0), known.to(target.dtype)


def points_loss(pred: Tensor, target: Tensor) -> Tensor:
    """Mean squared error over the labelled joints: ``[B, J, k]`` twice -> ``[B]``; NaN is not labelled."""
    target, weight = labelled(target)
    return joints_loss(pred, target, weight)


def fused_points_loss(pred: Tensor, stored: Tensor, view: View, *, root: int, toward: int, relative: bool) -> Tensor:
    """:func:`points_loss` against the stored joints seen under ``view``, in one kernel -> ``[B]``."""
    stored, weight = labelled(stored)
    return joints_loss(pred, stored, weight, view, Palm(root, toward), relative=relative)
