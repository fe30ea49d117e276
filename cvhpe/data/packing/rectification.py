"""Cameras that look at the hand: every sample turned about its camera until the root joint is on the optical axis.

The same hand in the same pose looks different in the corner of a wide picture and in its middle, by as much as the
directions differ. Where the camera is known, that difference is too: turning the camera about its own centre moves
every pixel to a place that follows from the intrinsics alone. What is left to learn is a hand seen head-on.

The new camera has the old one's intrinsics. Its axis goes through the palm as it is labelled in 2D, so that nothing
is used that an input does not have.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cvhpe.data.packing.crops import FARTHEST
from cvhpe.data.packing.pack import Pack
from cvhpe.errors import UserError
from cvhpe.geometry.camera import crop_around
from cvhpe.geometry.skeleton import layout
from cvhpe.plugin.sample import Array

STEEPEST = 0.05
"""Cosine of the angle from the axis beyond which a joint has no place in the new picture."""


def towards(direction: Array) -> Array:
    """The smallest rotations ``(N, 3, 3)`` that take unit vectors ``(N, 3)``, z above 0, to the z axis.

    >>> np.allclose(towards(np.array([[0.6, 0.0, 0.8]])) @ [0.6, 0.0, 0.8], [0.0, 0.0, 1.0])
    True
    """
    x, y, z = direction.T
    turn = np.stack([1 - x * x / (1 + z), -x * y / (1 + z), -x, -x * y / (1 + z), 1 - y * y / (1 + z), -y, x, y, z], 1)
    return turn.reshape(-1, 3, 3)


def rectified(pack: Pack) -> Pack:
    """The samples of a pack as cameras see them that look at the palm; UserError where that cannot be.

    A sample without a camera, or whose palm is not labelled in 2D, has neither 2D nor 3D joints then.
    """
    return rectified_by(pack)[0]


def rectified_by(pack: Pack) -> tuple[Pack, Array]:
    """:func:`rectified`, and the rotations ``(N, 3, 3)`` that took every sample's old frame to its new one."""
    if pack.image_fields:
        raise UserError(
            f"{', '.join(pack.image_fields)}: pictures cannot be turned to look at the root; leave them out"
        )
    arrays = {name: np.array(pack[name]) for name in pack.arrays}
    crop, K, uv = arrays["crop"], arrays["K"], pixels(pack)
    skeleton = layout(pack.layout)
    root, root_shift_joint = skeleton.root_shift
    shift = arrays["root_shift_weight"][:, None]
    palm = uv[:, root] + np.where(shift > 0, shift * (uv[:, root_shift_joint] - uv[:, root]), 0.0)
    able = np.isfinite(K).all((1, 2)) & np.isfinite(palm).all(1) & arrays["has_joints2d"]
    if not able.any():
        raise UserError(f"data set {pack.meta.name!r}: no sample has a camera (K) and a palm in 2D to turn it to")
    K = np.where(able[:, None, None], K, np.eye(3))
    back = np.linalg.inv(K)
    axis = rays(np.where(able[:, None], palm, 0.0)[:, None], back)[:, 0]
    turn = towards(axis / np.linalg.norm(axis, axis=1, keepdims=True))
    seen = rays(uv, back) @ turn.transpose(0, 2, 1)
    ahead = seen[..., 2:] > STEEPEST * np.linalg.norm(seen, axis=2, keepdims=True)
    px = seen @ K.transpose(0, 2, 1)
    uv = np.where(ahead & able[:, None, None], px[..., :2] / np.where(ahead, px[..., 2:], 1.0), np.nan)
    for row in np.flatnonzero(able):
        crop[row] = crop_around(uv[row], pack.meta.crop_factor).packed
    arrays["joints2d"] = ((uv - crop[:, None, :2]) / crop[:, None, 2:]).clip(-FARTHEST, FARTHEST).astype(np.float32)
    arrays["joints3d_mm"] = (arrays["joints3d_mm"] @ turn.transpose(0, 2, 1)).astype(np.float32)
    arrays["has_joints2d"], arrays["has_joints3d"] = able, able & arrays["has_joints3d"]
    return replace(pack, arrays=arrays, rows=None, meta=replace(pack.meta, count=len(able))), turn


def pixels(pack: Pack) -> Array:
    """2D joints ``(N, J, 2)`` of a pack in pixels of the frame; NaN beyond the farthest fraction that is stored."""
    fractions = pack["joints2d"].astype(np.float64)
    known = (np.abs(fractions) < FARTHEST).all(2, keepdims=True)
    return np.where(known, fractions, np.nan) * pack["crop"][:, None, 2:] + pack["crop"][:, None, :2]


def rays(uv: Array, back: Array) -> Array:
    """Directions ``(N, J, 3)``, z 1, of pixels ``(N, J, 2)`` through inverse intrinsics ``(N, 3, 3)``."""
    return np.concatenate([uv, np.ones_like(uv[..., :1])], 2) @ back.transpose(0, 2, 1)
