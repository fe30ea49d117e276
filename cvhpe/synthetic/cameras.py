"""Cameras of synthetic frames.

Orientation is uniform over SO(3): an upright prior costs several mm on real labels. Distance and off-axis angle decide
how strong perspective is; both are ranges of :class:`CameraRanges`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cvhpe.synthetic.counter_rng import CounterRng

Array = np.ndarray


@dataclass(frozen=True)
class CameraRanges:
    """What cameras are sampled from.

    Attributes:
        distance: From the camera to the middle of the hand, hand lengths; log-uniform.
        off_axis: Largest tangent of the angle between the optical axis and the middle of the hand.
        length_px: Image length of a hand parallel to the image, px; log-uniform.
        shift_px: Largest distance from the middle of the hand to the middle of the frame, px; None for no limit.
    """

    distance: tuple[float, float] = (3.0, 20.0)
    off_axis: float = 0.125
    length_px: tuple[float, float] = (110.0, 170.0)
    shift_px: float | None = None


POSE_CAMERAS = CameraRanges()


def sample_rotations(rng: CounterRng) -> Array:
    """``[N, 3, 3]`` rotations, uniform over SO(3) (a normalised 4D normal is a uniform quaternion)."""
    q = rng.normal(4)
    w, x, y, z = (q / np.sqrt((q * q).sum(1, keepdims=True))).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, 1) for row in rows], 1)


def rotate(rotation: Array, vectors: Array) -> Array:
    """Rotate vectors, with the same bits in any batch: BLAS may sum in another order for another batch size.

    Args:
        rotation: ``[N, 3, 3]``.
        vectors: ``[N, ..., 3]``.

    Returns:
        ``[N, ..., 3]``.
    """
    shape = vectors.shape
    v = vectors.reshape(len(vectors), int(np.prod(shape[1:-1])), 3)
    r = rotation[:, None]
    return (r[..., 0] * v[..., 0:1] + r[..., 1] * v[..., 1:2] + r[..., 2] * v[..., 2:3]).reshape(shape)


def sample_cameras(rng: CounterRng, length: Array, ranges: CameraRanges, size: int) -> tuple[Array, Array]:
    """Sample intrinsics and the position of the hand.

    Args:
        rng: Source of randomness.
        length: ``[N]`` hand lengths, mm.
        ranges: What to sample from.
        size: Side of the square frame, px; the principal point is (size / 2, size / 2), as in RHD.

    Returns:
        Intrinsics ``[N, 3, 3]`` and the middle of the hand ``[N, 3]``, camera frame, mm.
    """
    low, high = np.log(ranges.distance)
    distance = np.exp(rng.uniform(low=low, high=high))
    low, high = np.log(ranges.length_px)
    focal = np.exp(rng.uniform(low=low, high=high)) * distance
    limit = np.full(len(distance), ranges.off_axis)
    if ranges.shift_px is not None:
        limit = np.minimum(limit, ranges.shift_px / focal)
    radius, angle = limit * np.sqrt(rng.uniform()), 2 * np.pi * rng.uniform()
    ray = np.stack([radius * np.cos(angle), radius * np.sin(angle), np.ones_like(radius)], 1)
    K = np.zeros((len(distance), 3, 3))
    K[:, 0, 0] = K[:, 1, 1] = focal
    K[:, :2, 2] = size / 2
    K[:, 2, 2] = 1
    return K, ray * (distance * length)[:, None]


def project_pinhole(K: Array, points: Array) -> Array:
    """:func:`cvhpe.geometry.camera.project` without skew and checks, with the same bits in any batch.

    Args:
        K: ``[N, 3, 3]`` intrinsics.
        points: ``[N, J, 3]`` camera frame.

    Returns:
        ``[N, J, 2]`` px.
    """
    focal = K[:, None, [0, 1], [0, 1]]
    return points[..., :2] / points[..., 2:] * focal + K[:, None, :2, 2]
