"""Pinhole cameras, hand crops, and the normalisations T, S and H with their inverses.

Millimetres; camera frame x right, y down, z forward; pixels with the centre of the top-left pixel at
(0, 0). A crop fraction is measured from the crop's centre in units of its side, so its edges are +-0.5.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cvhpe.geometry.skeleton import Layout, layout

Array = np.ndarray

STEEPEST = 1e9
"""Beyond this slope a ray lies in the camera plane, and its pixel is more than single precision can say."""
DEPTH_LEVELS = 65535
"""Codes of stored depth: 1 to 65535 run linearly from -cube to +cube mm, 0 is a hole or background."""


def intrinsics(fx: float, fy: float, cx: float, cy: float) -> Array:
    """``(3, 3)`` float64 pinhole matrix without skew."""
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], np.float64)


def project(xyz: Array, K: Array) -> Array:
    """Pixels ``[..., 2]`` of camera-frame points ``[..., 3]``; float64.

    ``K`` is ``(3, 3)`` for all points, or ``[..., 3, 3]`` with one axis less than the points has (one a
    frame, for points ``[..., J, 3]``). A point on or behind the camera plane (z <= 0) has no image: its
    pixel is NaN. So is that of a point :data:`STEEPEST` times as far aside as in front.

    >>> project(np.array([[0.0, 10.0, 100.0], [0, 0, -5]]), intrinsics(200, 200, 160, 120))
    array([[160., 140.],
           [ nan,  nan]])
    """
    xyz, K = np.asarray(xyz, np.float64), np.asarray(K, np.float64)
    z = xyz[..., 2:]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        rays = xyz / np.where(z > 0, z, 1.0)
        rays = np.where((z > 0) & (np.abs(rays) < STEEPEST), rays, np.nan)
    return np.einsum("...ij,...j->...i", _per_point(K, rays), rays)[..., :2]


def unproject(uv: Array, z: Array, K: Array) -> Array:
    """Camera-frame points ``[..., 3]`` of pixels ``[..., 2]`` at depths ``[...]`` mm; float64.

    The inverse of :func:`project` for z > 0. Where z <= 0 nothing was seen and the point is NaN.

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
    """A square of the frame: its centre and side in pixels.

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
        """The crop that shows ``margin`` times as much about the same centre."""
        return Crop(self.centre, self.side * margin)

    def K(self, K: Array, size: int) -> Array:
        """Intrinsics ``(3, 3)`` of this crop resized to ``size`` x ``size`` pixels.

        A frame pixel ``p`` stands at ``((p - centre) / side + 0.5) * size - 0.5`` in the resized crop.

        >>> k = Crop((159.5, 159.5), 320.0).K(intrinsics(300, 300, 160, 160), 160)
        >>> k[0, 0], k[0, 2]
        (np.float64(150.0), np.float64(79.75))
        """
        zoom = size / self.side
        shift = [(0.5 * self.side - c) * zoom - 0.5 for c in self.centre]
        return np.array([[zoom, 0, shift[0]], [0, zoom, shift[1]], [0, 0, 1]]) @ np.asarray(K, np.float64)


def crop_around(joints2d: Array, factor: float = 1.5, visible: Array | None = None, least: float = 8.0) -> Crop:
    """The square about 2D joints ``(J, 2)`` px: centre of their box, side ``factor`` times its longer edge.

    Joints that are NaN or not ``visible`` do not count, unless none is left: then all finite ones do.
    ``least`` is the smallest side in pixels. ValueError where no joint is finite.

    >>> crop_around(np.array([[10.0, 20.0], [30.0, 24.0]]))
    Crop(centre=(20.0, 22.0), side=30.0)
    """
    joints2d = np.asarray(joints2d, np.float64)
    known = np.isfinite(joints2d).all(-1)
    if not known.any():
        raise ValueError("no finite 2D joint to put a crop around")
    seen = known if visible is None else known & np.asarray(visible, bool)
    points = joints2d[seen if seen.any() else known]
    low, high = points.min(0), points.max(0)
    x, y = (low + high) / 2
    return Crop((float(x), float(y)), max(float((high - low).max()) * factor, least))


def crop_cube(centre: Array, K: Array, cube: float) -> Crop:
    """The square that a cube of half edge ``cube`` mm about ``centre`` (3,) mm covers at the centre's depth.

    >>> crop_cube(np.array([0.0, 0, 500]), intrinsics(250, 250, 160, 120), 150.0)
    Crop(centre=(160.0, 120.0), side=150.0)
    """
    centre, K = np.asarray(centre, np.float64), np.asarray(K, np.float64)
    if not (np.isfinite(centre).all() and centre[2] > 0 and cube > 0):
        raise ValueError(f"a cube needs a finite centre before the camera and an edge above 0: {centre}, {cube}")
    u, v = project(centre, K)
    focal = np.sqrt(abs(K[0, 0] * K[1, 1]))
    return Crop((float(u), float(v)), float(2 * cube * focal / centre[2]))


def encode_depth(depth: Array, z: float, cube: float) -> Array:
    """Depth in mm as uint16 codes about the hand's depth ``z``: 1 to 65535 over ``z - cube`` to ``z + cube``.

    No measurement (0, negative, NaN) and everything outside the cube become 0: hole or background.

    >>> encode_depth(np.array([0.0, 350.0, 500.0, 650.0, 900.0]), 500.0, 150.0)
    array([    0,     1, 32768, 65535,     0], dtype=uint16)
    """
    depth = np.asarray(depth, np.float64)
    with np.errstate(invalid="ignore"):
        at = (depth - z) / cube
        inside = (depth > 0) & (np.abs(at) <= 1)
    code = np.rint((np.where(inside, at, 0) + 1) / 2 * (DEPTH_LEVELS - 1)) + 1
    return np.where(inside, code, 0).astype(np.uint16)


def decode_depth(code: Array, z: float, cube: float) -> Array:
    """The inverse of :func:`encode_depth`: float32 mm, 0 where the code is 0; exact to cube / 65534 mm."""
    code = np.asarray(code)
    at = (code.astype(np.float64) - 1) / (DEPTH_LEVELS - 1) * 2 - 1
    return np.where(code > 0, z + at * cube, 0).astype(np.float32)


@dataclass(frozen=True)
class Normalised:
    """3D joints under T, or T and S, with what undoes it.

    joints: ``[..., J, 3]``; root-relative mm under T, in lengths of the scale bone under TS.
    root: ``[..., 3]`` mm, what T took off.
    scale: ``[...]`` mm, what S divided by; 1 under T alone.
    """

    joints: Array
    root: Array
    scale: Array

    def restore(self) -> Array:
        """The joints in mm in the camera frame, ``[..., J, 3]``."""
        return self.joints * self.scale[..., None, None] + self.root[..., None, :]


def bone_length(xyz: Array, of: str | Layout) -> Array:
    """Length ``[...]`` mm of the layout's scale bone in joints ``[..., J, 3]``."""
    child, parent = layout(of).scale_bone
    xyz = np.asarray(xyz, np.float64)
    return np.linalg.norm(xyz[..., child, :] - xyz[..., parent, :], axis=-1)


def normalise(xyz: Array, of: str | Layout, protocol: str = "TS") -> Normalised:
    """Invariances of the paper (section on evaluation): T subtracts the root joint, S divides by the scale bone.

    xyz: ``[..., J, 3]`` mm. ``protocol`` holds T, and may hold S and H (the hand side goes beside the
    joints: :func:`one_hot_side`). A hand whose scale bone has no length cannot be scaled: ValueError.

    >>> x = np.zeros((21, 3)); x[:, 2] = 500; x[10, 0] = 25
    >>> n = normalise(x, "hand21")
    >>> n.joints[10], float(n.scale)
    (array([1., 0., 0.]), 25.0)
    """
    if "T" not in protocol or set(protocol) - set("TSH"):
        raise ValueError(f"protocol {protocol!r}: use T, TS, TH or TSH")
    one = layout(of)
    xyz = np.asarray(xyz, np.float64)
    root = xyz[..., one.root, :]
    scale = bone_length(xyz, one) if "S" in protocol else np.ones(xyz.shape[:-2])
    if not (scale > 0).all():
        raise ValueError("a hand whose scale bone has no length cannot be divided by it")
    return Normalised((xyz - root[..., None, :]) / scale[..., None, None], root, scale)


def one_hot_side(side: Array, protocol: str = "TSH") -> Array:
    """H: hand side ``[...]`` as one-hot float32 ``[..., 2]`` (left, right); zeros where H is not in the protocol.

    >>> one_hot_side(np.array([0, 1]))
    array([[1., 0.],
           [0., 1.]], dtype=float32)
    """
    side = np.asarray(side)
    return (side[..., None] == np.arange(2)).astype(np.float32) * np.float32("H" in protocol)


def side_of(one_hot: Array) -> Array:
    """The inverse of :func:`one_hot_side`: 0 left, 1 right, -1 where it is all zero."""
    one_hot = np.asarray(one_hot)
    return np.where(one_hot.any(-1), one_hot.argmax(-1), -1)


def mirror_points(xyz: Array) -> Array:
    """Camera-frame points ``[..., 3]`` of the mirrored scene: x changes its sign (and the hand its side)."""
    return np.asarray(xyz) * np.array([-1, 1, 1], np.asarray(xyz).dtype)


def mirror_pixels(uv: Array, width: int) -> Array:
    """Pixels ``[..., 2]`` of the mirrored picture: ``x -> width - 1 - x``."""
    uv = np.array(uv, copy=True)
    uv[..., 0] = width - 1 - uv[..., 0]
    return uv
