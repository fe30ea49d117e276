"""Writes frames in the layout of RHD v1.1: for each split three folders of PNG and a pickle of annotations."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cvhpe.geometry.skeleton import permutation

Array = np.ndarray

FOLDERS = ("color", "depth", "mask")
TO_RHD = list(permutation("hand21", "rhd"))
DEPTH_RANGE_MM = 5000.0
# Run lengths: noisy images have no repeats to search for; a quarter of the default's time for 4 % more space.
_COLOR_OPTIONS: dict[str, Any] = {"compress_level": 1, "compress_type": 3}
_OTHER_OPTIONS: dict[str, Any] = {"compress_level": 1}


def encode_rhd_depth(depth: Array) -> Array:
    """RHD's depth image: red and green are the high and the low byte of 65535ths of 5 m.

    Args:
        depth: ``[H, W]`` mm; clipped to 5 m.

    Returns:
        ``[H, W, 3]`` uint8.

    Example:
        >>> encode_rhd_depth(np.array([[1000.0]])).tolist()
        [[[51, 51, 0]]]
    """
    code = np.round(np.clip(depth, 0, DEPTH_RANGE_MM) * (65535 / DEPTH_RANGE_MM)).astype(np.uint16)
    return np.stack([code >> 8, code & 255, np.zeros_like(code)], -1).astype(np.uint8)


def rhd_annotation(joints: Array, pixels: Array, visible: Array, K: Array) -> dict[str, Array]:
    """One frame's annotation in RHD's order and units.

    Args:
        joints: ``[2, 21, 3]`` both hands, left first, hand21, mm.
        pixels: ``[2, 21, 2]``.
        visible: ``[2, 21]`` bool.
        K: ``[3, 3]`` intrinsics.

    Returns:
        ``xyz`` ``[42, 3]`` in metres, ``uv_vis`` ``[42, 3]`` and ``K``, float32.
    """
    xyz = joints[:, TO_RHD].reshape(42, 3) / 1000
    uv_vis = np.concatenate([pixels[:, TO_RHD].reshape(42, 2), visible[:, TO_RHD].reshape(42, 1)], 1)
    return {"xyz": xyz.astype(np.float32), "uv_vis": uv_vis.astype(np.float32), "K": K.astype(np.float32)}


def make_folders(split: Path) -> None:
    """Create the image folders of a split."""
    for name in FOLDERS:
        (split / name).mkdir(parents=True)


def write_images(split: Path, number: int, rgb: Array, depth: Array, mask: Array) -> None:
    """Write the images of a frame.

    Args:
        split: Folder of the split.
        number: Of the frame.
        rgb: ``[H, W, 3]`` uint8.
        depth: ``[H, W]`` mm.
        mask: ``[H, W]`` uint8.
    """
    for folder, image in zip(FOLDERS, (rgb, encode_rhd_depth(depth), mask), strict=True):
        options = _COLOR_OPTIONS if folder == "color" else _OTHER_OPTIONS
        Image.fromarray(image).save(split / folder / f"{number:05d}.png", **options)


def write_annotations(split: Path, frames: dict[int, dict[str, Array]]) -> None:
    """Write the annotations of a split, with the same bytes whichever process made the arrays.

    Args:
        split: Folder of the split.
        frames: Frame number -> :func:`rhd_annotation`.
    """
    fresh = {n: {key: _fresh(annotation[key]) for key in ("xyz", "uv_vis", "K")} for n, annotation in frames.items()}
    with (split / f"anno_{split.name}.pickle").open("wb") as file:
        pickle.dump(fresh, file, protocol=2)


def _fresh(array: Array) -> Array:
    """A copy with this process's dtype object: a pickle shows whether arrays share it."""
    out = np.empty(array.shape, np.float32)
    out[...] = array
    return out
