"""Test-time augmentation (TTA): rotated and flipped views of a hand, and how to undo them on 3D joints."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cvhpe.config.schema import Augmentation
from cvhpe.errors import UserError

IDENTITY_VIEW = (0.0, False)
"""Angle and flip of the view that changes nothing."""


def tta_views(augmentation: Augmentation, num_angles: int) -> list[tuple[float, bool]]:
    """The views for test-time augmentation, inside the range of the training's augmentation.

    Args:
        augmentation: Of the training. Rotations up to 180 degrees give angles all around the circle, smaller ones
            angles from one end of the range to the other; views are flipped too if training flipped.
        num_angles: Number of angles.

    Returns:
        (angle in radians, flip) of each view.

    Raises:
        UserError: Training neither rotated nor flipped, which leaves one view.

    Example:
        >>> [(round(angle, 2), flip) for angle, flip in tta_views(Augmentation(rotation_deg=180, flip=0), 4)]
        [(0.0, False), (1.57, False), (3.14, False), (4.71, False)]
    """
    limit = math.radians(augmentation.rotation_deg)
    if augmentation.rotation_deg >= 180:
        angles = [2 * math.pi * k / num_angles for k in range(num_angles)]
    elif limit and num_angles > 1:
        angles = [limit * (2 * k / (num_angles - 1) - 1) for k in range(num_angles)]
    else:
        angles = [0.0]
    views = [(angle, flip) for angle in angles for flip in ((False, True) if augmentation.flip else (False,))]
    if len(views) < 2:
        raise UserError("test-time augmentation needs a run that was trained with rotation or flip; this one was not")
    return views


def undo_view(joints: Tensor, angle: float, flip: bool) -> Tensor:
    """Undo a view on 3D joints: rotate back, then flip back.

    Args:
        joints: ``[..., 3]`` of a hand that was flipped, if ``flip`` is set, and then rotated by ``angle``.
        angle: Radians, positive from x to y.
        flip: Whether x was negated.

    Returns:
        ``[..., 3]``.

    Example:
        >>> undo_view(torch.tensor([0.0, 1.0, 5.0]), math.pi / 2, True).round(decimals=3)
        tensor([-1.,  0.,  5.])
    """
    cos, sin = math.cos(angle), math.sin(angle)
    x, y, z = joints.unbind(-1)
    x, y = cos * x + sin * y, cos * y - sin * x
    return torch.stack([-x if flip else x, y, z], -1)
