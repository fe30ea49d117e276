"""Writes frames in the layout of RHD v1.1: three folders of PNG and a pickle of annotations a split."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Array = np.ndarray

FOLDERS = ("color", "depth", "mask")
# hand21 (every finger from its base) in RHD's order (every finger from its tip).
TO_RHD = [0, 4, 3, 2, 1, 8, 7, 6, 5, 12, 11, 10, 9, 16, 15, 14, 13, 20, 19, 18, 17]
DEPTH_RANGE_MM = 5000.0
# Noisy pictures hold no repeats worth looking for: run lengths take a quarter of the default's time and 4 % more room.
_SAVING: dict[str, dict[str, Any]] = {"color": {"compress_level": 1, "compress_type": 3}}
_OTHERWISE: dict[str, Any] = {"compress_level": 1}


def encode_depth(depth: Array) -> Array:
    """RHD's depth picture ``[H, W, 3]`` uint8 of depth ``[H, W]`` mm: red and green are the high and the low
    byte of 65535ths of 5 m; what is further is 5 m away.

    >>> encode_depth(np.array([[1000.0]])).tolist()
    [[[51, 51, 0]]]
    """
    code = np.round(np.clip(depth, 0, DEPTH_RANGE_MM) * (65535 / DEPTH_RANGE_MM)).astype(np.uint16)
    return np.stack([code >> 8, code & 255, np.zeros_like(code)], -1).astype(np.uint8)


def annotation(joints: Array, pixels: Array, visible: Array, K: Array) -> dict[str, Array]:
    """One frame's annotation: both hands, left first, in RHD's order and units (metres).

    joints: ``[2, 21, 3]`` mm hand21. pixels: ``[2, 21, 2]``. visible: ``[2, 21]``. K: ``[3, 3]``.
    """
    xyz = joints[:, TO_RHD].reshape(42, 3) / 1000
    uv_vis = np.concatenate([pixels[:, TO_RHD].reshape(42, 2), visible[:, TO_RHD].reshape(42, 1)], 1)
    return {"xyz": xyz.astype(np.float32), "uv_vis": uv_vis.astype(np.float32), "K": K.astype(np.float32)}


def make_folders(split: Path) -> None:
    """The picture folders of a split."""
    for name in FOLDERS:
        (split / name).mkdir(parents=True)


def write_pictures(split: Path, number: int, rgb: Array, depth: Array, mask: Array) -> None:
    """The three pictures of a frame: rgb and mask uint8, depth mm."""
    pictures = (rgb, encode_depth(depth), mask)
    for folder, picture in zip(FOLDERS, pictures, strict=True):
        Image.fromarray(picture).save(split / folder / f"{number:05d}.png", **_SAVING.get(folder, _OTHERWISE))


def write_annotations(split: Path, frames: dict[int, dict[str, Array]]) -> None:
    """The annotations of a split, by frame number; the same bytes wherever the arrays came from."""
    own = {n: {key: _fresh(one[key]) for key in ("xyz", "uv_vis", "K")} for n, one in frames.items()}
    with (split / f"anno_{split.name}.pickle").open("wb") as file:
        pickle.dump(own, file, protocol=2)


def _fresh(array: Array) -> Array:
    """A copy that shares numpy's own dtype object: a pickle tells one that came from another process apart."""
    out = np.empty(array.shape, np.float32)
    out[...] = array
    return out
