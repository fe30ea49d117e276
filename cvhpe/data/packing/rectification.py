"""Rectify packs of joints: rotate every sample about its camera until the root joint is on the optical axis.

The same hand in the same pose looks different in the corner of a wide image and in its middle. If the camera is known,
so is that difference: rotating the camera about its centre moves every pixel to a place that follows from the
intrinsics. What is left to learn is a hand seen along the optical axis.

The new camera has the intrinsics of the old one. Its axis goes through the palm as labelled in 2D, so that nothing is
used that an input lacks.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cvhpe.data.packing.crops import MAX_FRACTION
from cvhpe.data.packing.pack import Pack
from cvhpe.errors import UserError
from cvhpe.geometry.camera import crop_around
from cvhpe.geometry.rectification import pixel_rays, rotation_to_axis
from cvhpe.geometry.skeleton import layout
from cvhpe.plugin.sample import Array

MIN_COS_ANGLE = 0.05
"""Cosine of the angle from the axis beyond which a joint has no pixel in the new image."""


def rectify_pack(pack: Pack) -> tuple[Pack, Array]:
    """The samples of a pack as seen by cameras that look at the palm.

    A sample without a camera, or without a palm labelled in 2D, has neither 2D nor 3D joints in the result.

    Args:
        pack: of joints, without images.

    Returns:
        The new pack, and the rotations ``(N, 3, 3)`` from every sample's old camera frame to its new one.

    Raises:
        UserError: If the pack has images, or no sample with a camera and a palm.
    """
    if pack.image_fields:
        names = ", ".join(pack.image_fields)
        raise UserError(f"{names}: images cannot be rotated to look at the root; leave them out")
    arrays = {name: np.array(pack[name]) for name in pack.arrays}
    crop, K, uv = arrays["crop"], arrays["K"], joint_pixels(pack)
    root, root_shift_joint = layout(pack.layout).root_shift
    shift = arrays["root_shift_weight"][:, None]
    palm = uv[:, root] + np.where(shift > 0, shift * (uv[:, root_shift_joint] - uv[:, root]), 0.0)
    valid = np.isfinite(K).all((1, 2)) & np.isfinite(palm).all(1) & arrays["has_joints2d"]
    if not valid.any():
        raise UserError(f"data set {pack.meta.name!r}: no sample has a camera (K) and a palm in 2D to rotate it to")
    K = np.where(valid[:, None, None], K, np.eye(3))
    K_inv = np.linalg.inv(K)
    axis = pixel_rays(np.where(valid[:, None], palm, 0.0)[:, None], K_inv)[:, 0]
    rotation = rotation_to_axis(axis / np.linalg.norm(axis, axis=1, keepdims=True))
    rays = pixel_rays(uv, K_inv) @ rotation.transpose(0, 2, 1)
    in_front = rays[..., 2:] > MIN_COS_ANGLE * np.linalg.norm(rays, axis=2, keepdims=True)
    px = rays @ K.transpose(0, 2, 1)
    uv = np.where(in_front & valid[:, None, None], px[..., :2] / np.where(in_front, px[..., 2:], 1.0), np.nan)
    for row in np.flatnonzero(valid):
        crop[row] = crop_around(uv[row], pack.meta.crop_factor).packed
    fractions = (uv - crop[:, None, :2]) / crop[:, None, 2:]
    arrays["joints2d"] = fractions.clip(-MAX_FRACTION, MAX_FRACTION).astype(np.float32)
    arrays["joints3d_mm"] = (arrays["joints3d_mm"] @ rotation.transpose(0, 2, 1)).astype(np.float32)
    arrays["has_joints2d"], arrays["has_joints3d"] = valid, valid & arrays["has_joints3d"]
    return replace(pack, arrays=arrays, rows=None, meta=replace(pack.meta, count=len(valid))), rotation


def joint_pixels(pack: Pack) -> Array:
    """2D joints ``(N, J, 2)`` of a pack in pixels of the frame; NaN if their stored fraction is clipped."""
    fractions = pack["joints2d"].astype(np.float64)
    known = (np.abs(fractions) < MAX_FRACTION).all(2, keepdims=True)
    return np.where(known, fractions, np.nan) * pack["crop"][:, None, 2:] + pack["crop"][:, None, :2]
