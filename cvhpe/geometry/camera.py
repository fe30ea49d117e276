"""Pinhole cameras, hand crops and the codes of stored depth.

Millimetres; camera frame x right, y down, z forward; pixels with the centre of the top-left pixel at (0, 0). A crop
fraction is measured from the crop's centre in units of its side, so its edges are +-0.5.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Array = np.ndarray

MAX_SLOPE = 1e9
"""Largest |x/z| and |y/z| that is projected; beyond it a ray lies in the camera plane to single precision."""
DEPTH_LEVELS = 65535
"""Codes of stored depth: 1 to 65535 run linearly from -cube to +cube mm; 0 is a hole or background."""


def intrinsics(fx: float, fy: float, cx: float, cy: float) -> Array:
    """Pinhole matrix without skew.

    Args:
        fx: Focal length along x, px.
        fy: Focal length along y, px.
        cx: Principal point, x, px.
        cy: Principal point, y, px.

    Returns:
        ``(3, 3)`` float64.

    Example:
        >>> intrinsics(200, 210, 160, 120)[0]
        array([200.,   0., 160.])
    """
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], np.float64)


def project(xyz: Array, K: Array) -> Array:
    """Pixels of points in the camera frame.

    Args:
        xyz: ``[..., 3]`` points, any unit of length.
        K: ``(3, 3)`` for all points, or ``[..., 3, 3]`` with one axis less than ``xyz`` (one a frame, for points
            ``[..., J, 3]``).

    Returns:
        ``[..., 2]`` float64 px. NaN for points on or behind the camera plane (z <= 0) and for those more than
        :data:`MAX_SLOPE` times as far aside as in front.

    Example:
        >>> project(np.array([[0.0, 10.0, 100.0], [0, 0, -5]]), intrinsics(200, 200, 160, 120))
        array([[160., 140.],
               [ nan,  nan]])
    """
    xyz, K = np.asarray(xyz, np.float64), np.asarray(K, np.float64)
    z = xyz[..., 2:]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        rays = xyz / np.where(z > 0, z, 1.0)
        rays = np.where((z > 0) & (np.abs(rays) < MAX_SLOPE), rays, np.nan)
    return np.einsum("...ij,...j->...i", _per_point(K, rays), rays)[..., :2]


def unproject(uv: Array, z: Array, K: Array) -> Array:
    """Points in the camera frame of pixels at known depth: the inverse of :func:`project`.

    Args:
        uv: ``[..., 2]`` px.
        z: ``[...]`` depth along the optical axis, mm.
        K: ``(3, 3)`` or ``[..., 3, 3]``, as in :func:`project`.

    Returns:
        ``[..., 3]`` float64 mm; NaN where z <= 0, which means no measurement.

    Example:
        >>> unproject(np.array([160.0, 140.0]), 100.0, intrinsics(200, 200, 160, 120))
        array([  0.,  10., 100.])
    """
    uv, z, K = np.asarray(uv, np.float64), np.asarray(z, np.float64), np.asarray(K, np.float64)
    z = np.broadcast_to(z, uv.shape[:-1])
    z = np.where(z > 0, z, np.nan)
    homogeneous = np.concatenate([uv, np.ones((*uv.shape[:-1], 1))], -1)
    rays = np.einsum("...ij,...j->...i", _per_point(np.linalg.inv(K), homogeneous), homogeneous)
    return rays * z[..., None]


def _per_point(K: Array, points: Array) -> Array:
    return K if K.ndim == 2 or K.ndim > points.ndim else K[..., None, :, :]


@dataclass(frozen=True)
class Crop:
    """A square of the frame.

    Attributes:
        centre: x and y, px.
        side: px.

    Example:
        >>> crop = Crop((100.0, 80.0), 50.0)
        >>> crop.fraction(np.array([125.0, 80.0]))
        array([0.5, 0. ])
        >>> crop.pixels(np.array([0.5, 0.0]))
        array([125.,  80.])
    """

    centre: tuple[float, float]
    side: float

    def __post_init__(self) -> None:
        if not (np.all(np.isfinite(self.centre)) and np.isfinite(self.side) and self.side > 0):
            raise ValueError(f"a crop needs a finite centre and a side above 0: {self.centre}, {self.side}")

    @property
    def packed(self) -> Array:
        """``(3,)`` float32: centre x, centre y, side."""
        return np.array([*self.centre, self.side], np.float32)

    def fraction(self, px: Array) -> Array:
        """Crop fractions ``[..., 2]`` of frame pixels ``[..., 2]``."""
        return (np.asarray(px, np.float64) - self.centre) / self.side

    def pixels(self, fraction: Array) -> Array:
        """Frame pixels ``[..., 2]`` of crop fractions ``[..., 2]``."""
        return np.asarray(fraction, np.float64) * self.side + self.centre

    def widened(self, margin: float) -> Crop:
        """The crop about the same centre whose side is ``margin`` times as long."""
        return Crop(self.centre, self.side * margin)


def crop_around(joints2d: Array, factor: float = 1.5, visible: Array | None = None, min_side: float = 8.0) -> Crop:
    """The square about 2D joints: the centre of their bounding box, its longer edge times a factor.

    Args:
        joints2d: ``(J, 2)`` px; a joint with NaN is left out.
        factor: Side of the crop over the longer edge of the box.
        visible: ``(J,)`` bool; joints that are not visible are left out, unless no visible joint is finite.
        min_side: Smallest side, px.

    Returns:
        The crop.

    Raises:
        ValueError: No joint is finite.

    Example:
        >>> crop_around(np.array([[10.0, 20.0], [30.0, 24.0]]))
        Crop(centre=(20.0, 22.0), side=30.0)
    """
    joints2d = np.asarray(joints2d, np.float64)
    finite = np.isfinite(joints2d).all(-1)
    if not finite.any():
        raise ValueError("no finite 2D joint to put a crop around")
    usable = finite if visible is None else finite & np.asarray(visible, bool)
    points = joints2d[usable if usable.any() else finite]
    low, high = points.min(0), points.max(0)
    x, y = (low + high) / 2
    return Crop((float(x), float(y)), max(float((high - low).max()) * factor, min_side))


def crop_cube(centre: Array, K: Array, cube: float) -> Crop:
    """The square that a cube about a point covers at the depth of its centre.

    Args:
        centre: ``(3,)`` mm, camera frame.
        K: ``(3, 3)`` intrinsics.
        cube: Half the edge of the cube, mm.

    Returns:
        The crop.

    Raises:
        ValueError: The centre is not finite or not in front of the camera, or the edge is not above 0.

    Example:
        >>> crop_cube(np.array([0.0, 0, 500]), intrinsics(250, 250, 160, 120), 150.0)
        Crop(centre=(160.0, 120.0), side=150.0)
    """
    centre, K = np.asarray(centre, np.float64), np.asarray(K, np.float64)
    if not (np.isfinite(centre).all() and centre[2] > 0 and cube > 0):
        raise ValueError(f"a cube needs a finite centre in front of the camera and an edge above 0: {centre}, {cube}")
    u, v = project(centre, K)
    focal = np.sqrt(abs(K[0, 0] * K[1, 1]))
    return Crop((float(u), float(v)), float(2 * cube * focal / centre[2]))


def encode_depth(depth: Array, z: float, cube: float) -> Array:
    """Depth as uint16 codes: 1 to 65535 run linearly from ``z - cube`` to ``z + cube``.

    Args:
        depth: Depth map, any shape, mm; 0, negative and NaN mean no measurement.
        z: Depth of the hand, mm.
        cube: Half the edge of the cube around the hand, mm.

    Returns:
        uint16 codes of the same shape; 0 where there is no measurement and outside the cube.

    Example:
        >>> encode_depth(np.array([0.0, 350.0, 500.0, 650.0, 900.0]), 500.0, 150.0)
        array([    0,     1, 32768, 65535,     0], dtype=uint16)
    """
    depth = np.asarray(depth, np.float64)
    with np.errstate(invalid="ignore"):
        offset = (depth - z) / cube
        inside = (depth > 0) & (np.abs(offset) <= 1)
    code = np.rint((np.where(inside, offset, 0) + 1) / 2 * (DEPTH_LEVELS - 1)) + 1
    return np.where(inside, code, 0).astype(np.uint16)
