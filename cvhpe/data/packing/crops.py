"""Crop a hand out of a sample: canonical joints, and images with a margin for augmentation.

Pixel ``i`` of a stored image of ``size`` pixels shows the crop fraction ``((i + 0.5) / size - 0.5) * margin``, so that
the network sees the middle ``1 / margin`` of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from cvhpe.errors import DataError, UserError
from cvhpe.geometry.camera import Crop, crop_around, crop_cube, encode_depth, project
from cvhpe.geometry.skeleton import layout as find_layout
from cvhpe.geometry.skeleton import permutation
from cvhpe.plugin.sample import Array, Sample

MAX_FRACTION = 1.0
"""Stored 2D joints are clipped to this many sides of the crop from its centre. Joints beyond project from beside or
behind the camera (RHD has some at -8,000 px), and one of them would outweigh a whole batch. Joints that set the crop
are nearer."""

FRAME_MARGIN = 0.5  # joints up to this share of the frame beyond its edge set the crop
MIN_JOINTS = 3  # with fewer of them, all labelled joints do
MIN_SCALE_MM = 1e-3  # joints in units of a shorter bone overflow
_MAX_PADDED_SIDE = 4096  # px; larger crops are sampled at the nearest pixels


@dataclass(frozen=True, kw_only=True)
class CropOptions:
    """How hands are cropped.

    Args:
        image_size: side of the image the network sees, px.
        margin: how much wider the stored image is, so that rotation and shift show real pixels.
        factor: side of the crop over the longer edge of the bounding box of the 2D joints.
        cube: half edge of the cube of stored depth, and of a ``cube`` crop, mm.
        kind: ``joints``: a square around the 2D joints; ``cube``: what the cube covers at the hand's depth.
    """

    image_size: int = 256
    margin: float = 1.5
    factor: float = 1.25
    cube: float = 150.0
    kind: str = "joints"

    @property
    def stored(self) -> int:
        """Side of the stored image, px: as fine as what the network sees, and even.

        Example:
            >>> CropOptions(image_size=128, margin=1.5).stored
            192
        """
        return 2 * math.ceil(self.image_size * self.margin / 2 - 1e-9)


@dataclass(frozen=True)
class JointMap:
    """How joints of a data set's layout become those of a pack: ``hand21`` for 21 joints, else the same layout."""

    name: str
    order: tuple[int, ...]
    scale_bone: tuple[int, int]
    root: int

    @staticmethod
    def of(native: str) -> JointMap:
        """The map of a layout.

        Example:
            >>> JointMap.of("stb").name, JointMap.of("icvl").name
            ('hand21', 'icvl16')
        """
        source = find_layout(native)
        target = find_layout("hand21") if len(source) == 21 else source
        return JointMap(target.name, permutation(source, target), target.scale_bone, target.root)


def _canonical_joints(sample: Sample, joints: JointMap) -> dict[str, Array]:
    """Labels in the pack's layout: ``joints3d_mm``, ``joints2d_px`` (NaN if not labelled) and ``visible``.

    2D labels that a data set lacks are projections of its 3D ones.
    """
    n, order = len(joints.order), list(joints.order)
    xyz = np.full((n, 3), np.nan) if sample.joints3d_mm is None else _check_shape(sample, sample.joints3d_mm, (n, 3))
    if sample.joints2d_px is not None:
        uv = _check_shape(sample, sample.joints2d_px, (n, 2))
    elif sample.K is not None and sample.joints3d_mm is not None:
        uv = project(xyz, np.asarray(sample.K))
    else:
        uv = np.full((n, 2), np.nan)
    visible = np.ones(n, bool) if sample.visible is None else _check_shape(sample, sample.visible, (n,))
    return {"joints3d_mm": xyz[order], "joints2d_px": uv[order], "visible": visible[order].astype(bool)}


def _check_shape(sample: Sample, array: Array, shape: tuple[int, ...]) -> Array:
    array = np.asarray(array)
    if array.shape != shape:
        raise DataError(f"sample {sample.id}: joints of shape {array.shape}, its layout has {shape}")
    return array


def _hand_crop(sample: Sample, joints: dict[str, Array], options: CropOptions) -> tuple[Crop, float]:
    """The crop that the network sees, and the depth of the hand's centre in mm (NaN: unknown)."""
    xyz, uv = joints["joints3d_mm"], joints["joints2d_px"]
    known = np.isfinite(xyz).all(-1)
    in_front = known & (xyz[:, 2] > 0)
    centre = None
    if in_front.any():
        points = xyz[in_front]
        centre = (points.min(0) + points.max(0)) / 2
    z = math.nan if centre is None else float(centre[2])
    if options.kind == "cube" and centre is not None and sample.K is not None:
        return crop_cube(centre, sample.K, options.cube), z
    labelled = np.isfinite(uv).all(-1)
    if not labelled.any():
        return _box_crop(sample, options.factor), z
    # the pixel of a joint behind the camera has no meaning
    reliable = labelled & (in_front | ~known) & _near_frame(uv, _frame_size(sample))
    return crop_around(uv, options.factor, reliable if reliable.sum() >= MIN_JOINTS else None), z


def _box_crop(sample: Sample, factor: float) -> Crop:
    if sample.box is None or not np.isfinite(sample.box).all():
        raise DataError(f"sample {sample.id}: neither 2D joints, nor 3D joints with K, nor a box to locate the hand")
    x, y, width, height = sample.box
    # a box ends at pixel edges, half a pixel before its first pixel's centre
    return Crop((x + (width - 1) / 2, y + (height - 1) / 2), max(max(width, height) * factor, 8.0))


def _frame_size(sample: Sample) -> tuple[float, float] | None:
    """Width and height of the frame, if there is no image from the principal point, which lies in its middle."""
    for image in sample.images.values():
        return image.shape[1], image.shape[0]
    if sample.K is not None:
        return 2 * float(sample.K[0, 2]), 2 * float(sample.K[1, 2])
    return None


def _near_frame(uv: Array, size: tuple[float, float] | None) -> Array:
    if size is None or min(size) <= 0:
        return np.ones(len(uv), bool)
    beyond = FRAME_MARGIN * np.asarray(size)
    with np.errstate(invalid="ignore"):
        return np.all((uv >= -beyond) & (uv <= size + beyond), axis=-1)


def _hand_depth(sample: Sample, crop: Crop) -> float:
    """Depth of the hand's centre without 3D labels: the median on the mask or in the middle of the crop, mm.

    NaN if nothing is measured there.
    """
    depth = sample.images["depth"]
    if "mask" in sample.images:
        measured = depth[(sample.images["mask"] > 0) & (depth > 0)]
    else:
        (x, y), half = crop.centre, crop.side / 4
        rows = slice(max(int(y - half), 0), max(int(y + half) + 1, 0))
        columns = slice(max(int(x - half), 0), max(int(x + half) + 1, 0))
        middle = depth[rows, columns]
        measured = middle[middle > 0]
    return float(np.median(measured)) if measured.size else math.nan


def crop_image(image: Array, crop: Crop, size: int) -> Array:
    """Crop and resize an image, bilinearly with antialiasing; black beyond the frame.

    Args:
        image: uint8 ``(H, W, 3)``.
        crop: in its pixels.
        size: side of the result, px.

    Returns:
        uint8 ``(size, size, 3)``.

    Example:
        >>> image = np.zeros((4, 4, 3), np.uint8); image[:, 2:] = 200
        >>> crop_image(image, Crop((1.5, 1.5), 4.0), 2)[0, :, 0]
        array([ 29, 171], dtype=uint8)
    """
    height, width = image.shape[:2]
    # Pillow counts from the edge of a pixel, crops from its centre
    left, top = crop.centre[0] + 0.5 - crop.side / 2, crop.centre[1] + 0.5 - crop.side / 2
    right, bottom = left + crop.side, top + crop.side
    if crop.side > _MAX_PADDED_SIDE or right <= 0 or bottom <= 0 or left >= width or top >= height:
        return crop_nearest(image, crop, size)
    source = Image.fromarray(np.ascontiguousarray(image))
    if left < 0 or top < 0 or right > width or bottom > height:
        x0, y0 = math.floor(left), math.floor(top)
        source = source.crop((x0, y0, math.ceil(right), math.ceil(bottom)))  # fills with black
        left, top, right, bottom = left - x0, top - y0, right - x0, bottom - y0
    box = (left, top, min(right, source.width), min(bottom, source.height))
    return np.asarray(source.resize((size, size), Image.Resampling.BILINEAR, box=box))


def crop_nearest(image: Array, crop: Crop, size: int) -> Array:
    """Crop an image at the nearest pixels, for depth and class labels, which must not be averaged.

    Args:
        image: ``(H, W, ...)``, any dtype.
        crop: in its pixels.
        size: side of the result, px.

    Returns:
        ``(size, size, ...)``; 0 beyond the frame.

    Example:
        >>> crop_nearest(np.arange(16).reshape(4, 4), Crop((1.5, 1.5), 4.0), 2)
        array([[ 5,  7],
               [13, 15]])
    """
    at = ((np.arange(size) + 0.5) / size - 0.5) * crop.side
    x, y = (np.floor(at + c + 0.5).clip(-1, 1 << 30).astype(np.int64) for c in crop.centre)
    height, width = image.shape[:2]
    out = image[y.clip(0, height - 1)][:, x.clip(0, width - 1)]
    out[(y < 0) | (y >= height)] = 0
    out[:, (x < 0) | (x >= width)] = 0
    return out


def crop_sample(
    sample: Sample, joints: JointMap, options: CropOptions, image_fields: tuple[str, ...]
) -> dict[str, Any]:
    """One row of every field of a pack.

    A hand whose scale bone is not labelled, or has no length, cannot be normalised: it counts as one without 3D joints.

    Args:
        sample: in its own frame and its data set's layout.
        joints: the map of that layout.
        options: how to crop.
        image_fields: the images to crop.

    Returns:
        ``joints3d_mm`` ``(J, 3)`` mm, ``joints2d`` ``(J, 2)`` crop fractions, ``visible`` ``(J,)``, ``side``,
        ``scale_mm``, ``depth_z`` mm, ``K`` ``(3, 3)``, ``crop`` ``(3,)``, ``group``, ``has_joints3d``,
        ``has_joints2d``, and those of ``image_fields`` that the sample has.

    Raises:
        DataError: If the sample cannot be cropped.
    """
    if sample.side not in (0, 1):
        raise DataError(f"sample {sample.id}: hand side {sample.side}, it must be 0 (left) or 1 (right)")
    row: dict[str, Any] = _canonical_joints(sample, joints)
    crop, z = _hand_crop(sample, row, options)
    child, parent = joints.scale_bone
    xyz, uv = row["joints3d_mm"], row.pop("joints2d_px")
    scale = float(np.linalg.norm(xyz[child] - xyz[parent]))
    has_3d = bool(np.isfinite(xyz[joints.root]).all() and MIN_SCALE_MM <= scale < math.inf)
    labelled = np.isfinite(uv).all(-1, keepdims=True)
    row["joints2d"] = np.where(labelled, crop.fraction(uv).clip(-MAX_FRACTION, MAX_FRACTION), np.nan).astype(np.float32)
    row["joints3d_mm"] = (xyz if has_3d else np.full_like(xyz, np.nan)).astype(np.float32)
    row |= {
        "side": np.int64(sample.side),
        "scale_mm": np.float32(scale if has_3d else 1.0),
        "K": np.asarray(np.full((3, 3), np.nan) if sample.K is None else sample.K, np.float64),
        "crop": np.array([*crop.centre, crop.side], np.float64),
        "group": np.int64(sample.group),
        "has_joints3d": np.bool_(has_3d),
        "has_joints2d": np.bool_(labelled.any()),
    }
    wide = crop.widened(options.margin)
    for name in image_fields:
        if name in sample.images:
            if name == "depth" and math.isnan(z):
                z = _hand_depth(sample, crop)
            row[name] = _stored_image(name, sample, wide, options, z)
    row["depth_z"] = np.float32(z)
    return row


def _stored_image(name: str, sample: Sample, crop: Crop, options: CropOptions, z: float) -> Array:
    image = sample.images[name]
    if name == "depth":
        if math.isnan(z):
            return np.zeros((options.stored, options.stored), np.uint16)
        return encode_depth(crop_nearest(image, crop, options.stored), z, options.cube)
    if image.ndim == 3 and image.dtype == np.uint8 and image.shape[2] == 3:
        return crop_image(image, crop, options.stored)
    if image.ndim == 2 and image.dtype in (np.uint8, np.uint16):
        return crop_nearest(image, crop, options.stored)
    raise UserError(f"image {name!r}: {image.dtype} {image.shape}; packs hold uint8 RGB, or uint8 and uint16 (H, W)")
