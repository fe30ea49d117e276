"""Where the camera of a synthetic frame stands.

Orientation is uniform over SO(3): an upright prior costs several mm on real labels. Distance and off-axis
angle are what decides how strong perspective is; both are ranges of :class:`Shot`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cvhpe.synthetic.counter_rng import Draws

Array = np.ndarray


@dataclass(frozen=True)
class Shot:
    """FusionParams hands are photographed.

    distance: from the camera, in hand lengths, log-uniform between the two.
    off_axis: largest tangent between the optical axis and the middle of the hand.
    length_px: how long a hand parallel to the image would be there, log-uniform between the two.
    shift_px: largest distance of the middle of the hand from the middle of the frame, None for no limit.
    """

    distance: tuple[float, float] = (3.0, 20.0)
    off_axis: float = 0.125
    length_px: tuple[float, float] = (110.0, 170.0)
    shift_px: float | None = None


POSES = Shot()


def rotations(draw: Draws) -> Array:
    """``[N, 3, 3]`` rotations, uniform over SO(3) (a normalised 4D normal is a uniform quaternion)."""
    q = draw.normal(4)
    w, x, y, z = (q / np.sqrt((q * q).sum(1, keepdims=True))).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, 1) for row in rows], 1)


def turn(rotation: Array, vectors: Array) -> Array:
    """``[N, ..., 3]`` vectors of the palm frame turned into the camera's, by ``[N, 3, 3]``.

    Written out by hand because BLAS may sum in another order for another batch size.
    """
    shape = vectors.shape
    v = vectors.reshape(len(vectors), int(np.prod(shape[1:-1])), 3)
    r = rotation[:, None]
    return (r[..., 0] * v[..., 0:1] + r[..., 1] * v[..., 1:2] + r[..., 2] * v[..., 2:3]).reshape(shape)


def place(draw: Draws, length: Array, shot: Shot, size: int) -> tuple[Array, Array]:
    """Intrinsics ``[N, 3, 3]`` and the middle of the hand ``[N, 3]`` (camera frame, mm).

    length: ``[N]`` hand lengths, mm. size: side of the square frame, px; the principal point is its middle,
    (size / 2, size / 2), as in RHD.
    """
    low, high = np.log(shot.distance)
    distance = np.exp(draw.uniform(low=low, high=high))
    low, high = np.log(shot.length_px)
    focal = np.exp(draw.uniform(low=low, high=high)) * distance
    limit = np.full(len(distance), shot.off_axis)
    if shot.shift_px is not None:
        limit = np.minimum(limit, shot.shift_px / focal)
    radius, angle = limit * np.sqrt(draw.uniform()), 2 * np.pi * draw.uniform()
    ray = np.stack([radius * np.cos(angle), radius * np.sin(angle), np.ones_like(radius)], 1)
    intrinsics = np.zeros((len(distance), 3, 3))
    intrinsics[:, 0, 0] = intrinsics[:, 1, 1] = focal
    intrinsics[:, :2, 2] = size / 2
    intrinsics[:, 2, 2] = 1
    return intrinsics, ray * (distance * length)[:, None]


def project(intrinsics: Array, points: Array) -> Array:
    """Pixels ``[N, J, 2]`` of points ``[N, J, 3]`` in the camera frame."""
    focal = intrinsics[:, None, [0, 1], [0, 1]]
    return points[..., :2] / points[..., 2:] * focal + intrinsics[:, None, :2, 2]
