"""Rotations of a camera about its centre."""

from __future__ import annotations

import numpy as np

Array = np.ndarray


def rotation_to_axis(direction: Array) -> Array:
    """The smallest rotations that take directions to the optical axis.

    Args:
        direction: unit vectors ``(N, 3)``, camera frame, z above 0.

    Returns:
        Rotation matrices ``(N, 3, 3)``.

    Example:
        >>> np.allclose(rotation_to_axis(np.array([[0.6, 0.0, 0.8]])) @ [0.6, 0.0, 0.8], [0.0, 0.0, 1.0])
        True
    """
    x, y, z = direction.T
    rows = [1 - x * x / (1 + z), -x * y / (1 + z), -x, -x * y / (1 + z), 1 - y * y / (1 + z), -y, x, y, z]
    return np.stack(rows, 1).reshape(-1, 3, 3)


def pixel_rays(uv: Array, K_inv: Array) -> Array:
    """The directions of pixels.

    Args:
        uv: pixels ``(N, J, 2)``.
        K_inv: inverse intrinsics ``(N, 3, 3)``.

    Returns:
        Directions ``(N, J, 3)``, camera frame, with z 1.

    Example:
        >>> pixel_rays(np.array([[[30.0, 20.0]]]), np.linalg.inv([[[10.0, 0, 20], [0, 10, 20], [0, 0, 1]]]))
        array([[[1., 0., 1.]]])
    """
    return np.concatenate([uv, np.ones_like(uv[..., :1])], 2) @ K_inv.transpose(0, 2, 1)
