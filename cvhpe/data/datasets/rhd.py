"""RHD, the Rendered Hand Pose data set v1.1: the folder ``RHD_published_v2`` as unpacked, or the one around it.

``{training,evaluation}/{color,depth,mask}/00000.png``, 320x320, and a pickle of annotations: both hands of
every frame, 21 joints each, metres, wrist first and every finger from its tip to its base.

``train`` gives both hands of the training frames if at least 11 of their joints lie inside the frame and in front of
the camera, and at least 5 of those are visible by RHD's own flag. ``test`` gives one sample for each evaluation frame,
its dominant hand: the left one if more pixels of the mask are left than right, else the right one (Zimmermann & Brox
2017, and every later paper).

Some hands have a joint behind the camera, whose pixel has no meaning. They are left out of the training split, and the
reader's ``note`` counts them. All evaluation frames stay, since their number is published; such a joint is not visible.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cvhpe.data.files import Array, decode_image, first_few, reject, require_plausible
from cvhpe.data.reader import Reader, SplitAbsent, open_folder
from cvhpe.io.safe_pickle import load_pickle
from cvhpe.plugin.sample import Sample

FOLDERS = {"train": "training", "test": "evaluation"}
IMAGE_FOLDERS = {"rgb": "color", "depth": "depth", "mask": "mask"}
DEPTH_RANGE_MM = 5000.0
MIN_INSIDE = 11
MIN_VISIBLE = 5
_SHAPES = {"xyz": (42, 3), "uv_vis": (42, 3), "K": (3, 3)}
_FIRST_PART = (2, 18)  # mask class of part 1 of a left and of a right hand
_PARTS = 16


class Rhd(Reader):
    """One split of RHD, or of frames written in its layout."""

    layout = "rhd"
    root = "wrist"

    def __init__(self, path: Path | None, split: str, name: str = "rhd") -> None:
        root, _ = open_folder(path, name, split, tuple(FOLDERS))
        self.split = split
        self._folder = _find(root) / FOLDERS[split]
        self.frames, self.xyz_m, self.uv_vis, self.K = _annotations(self._folder, f"anno_{FOLDERS[split]}.pickle")
        self._require_images()
        self._size = _size(self._path("rgb", 0))
        self._dominant: dict[int, int] = {}
        self._last: dict[str, tuple[int, Array]] = {}
        if split == "train":
            self._hands, self.note = self._training_hands(name)
        else:
            self._hands = np.stack([np.arange(len(self.frames)), np.full(len(self.frames), -1)], 1)

    def __len__(self) -> int:
        return len(self._hands)

    def labels(self, index: int) -> Sample:
        row, side = self._hand(index)
        joints = slice(21 * side, 21 * side + 21)
        frame = f"{FOLDERS[self.split]}/{self.frames[row]:05d}"
        return Sample(
            id=f"{frame}:{('left', 'right')[side]}",
            side=side,
            joints3d_mm=(self.xyz_m[row, joints] * 1000).astype(np.float32),
            joints2d_px=self.uv_vis[row, joints, :2].astype(np.float32),
            visible=(self.uv_vis[row, joints, 2] > 0.5) & (self.xyz_m[row, joints, 2] > 0),
            K=self.K[row],
            group=int(self.frames[row]),
        )

    def files(self, index: int) -> Mapping[str, Path]:
        row = int(self._hands[index, 0])
        return {name: self._path(name, row) for name in IMAGE_FOLDERS}

    def _decode(self, index: int, name: str, path: Path) -> Array:
        row, side = self._hand(index)
        raw = self._raw(name, row)
        return part_index(raw, side) if name == "mask" else decode_rhd_depth(raw) if name == "depth" else raw

    def _hand(self, index: int) -> tuple[int, int]:
        """Frame and side of a sample; the side of an evaluation frame needs its mask."""
        row, side = (int(v) for v in self._hands[index])
        if side < 0:
            if row not in self._dominant:
                self._dominant[row] = dominant_hand(self._raw("mask", row))
            side = self._dominant[row]
        return row, side

    def _raw(self, name: str, row: int) -> Array:
        """An image as it is on disk; the last one of each name is kept, for the other hand of the frame."""
        if name not in self._last or self._last[name][0] != row:
            mode: Literal["L", "RGB"] = "L" if name == "mask" else "RGB"
            self._last[name] = row, decode_image(self._path(name, row), mode, self._size)
        return self._last[name][1]

    def _path(self, name: str, row: int) -> Path:
        return self._folder / IMAGE_FOLDERS[name] / f"{self.frames[row]:05d}.png"

    def _training_hands(self, name: str) -> tuple[Array, str]:
        """Frame and side of the training samples ``(N, 2)``, and a note on the hands that are left out."""
        in_frame = self._in_frame()
        behind = (self.xyz_m[..., 2] <= 0).reshape(*in_frame.shape, 21).any(-1)
        count = int((in_frame & behind).sum())
        note = f"{name} train: {count} hands with a joint behind the camera (z <= 0) left out" if count else ""
        return np.argwhere(in_frame & ~behind), note

    def _in_frame(self) -> Array:
        """Which hands of which frames show enough joints: bool ``(frames, 2)``."""
        uv, visible = self.uv_vis[..., :2], self.uv_vis[..., 2] > 0.5
        with np.errstate(invalid="ignore"):
            inside = ((uv >= 0) & (uv <= np.array(self._size) - 1)).all(-1) & (self.xyz_m[..., 2] > 0)
        inside &= np.isfinite(self.xyz_m).all(-1)
        hands = (len(self.frames), 2, 21)
        enough = inside.reshape(hands).sum(-1) >= MIN_INSIDE
        return enough & ((inside & visible).reshape(hands).sum(-1) >= MIN_VISIBLE)

    def _require_images(self) -> None:
        """Refuse a copy that lacks an image of an annotated frame; folders are listed, no file is opened."""
        for name in IMAGE_FOLDERS.values():
            folder = self._folder / name
            try:
                present = {entry.name for entry in folder.iterdir()}
            except OSError:
                reject(folder, "missing folder; unpack the whole data set again")
            missing = [n for n in (f"{f:05d}.png" for f in self.frames) if n not in present]
            if missing:
                reject(folder, f"lacks {first_few(missing)}, which the annotations name; unpack it again")


def dominant_hand(mask: Array) -> int:
    """The side of the hand that covers more pixels of an RHD mask ``(H, W)``: 0 left, 1 right or equal.

    Example:
        >>> dominant_hand(np.array([[2, 17, 18], [0, 1, 0]], np.uint8))
        0
    """
    left = int(((mask > 1) & (mask < 18)).sum())
    return 0 if left > int((mask > 17).sum()) else 1


def part_index(mask: Array, side: int) -> Array:
    """The parts of one hand in an RHD mask.

    Args:
        mask: uint8 ``(H, W)``, RHD's classes.
        side: 0 left, 1 right.

    Returns:
        uint8 ``(H, W)``: part 1 to 16, 0 elsewhere.

    Example:
        >>> part_index(np.array([[0, 1, 2, 17, 18, 33]], np.uint8), 1)
        array([[ 0,  0,  0,  0,  1, 16]], dtype=uint8)
    """
    part = mask.astype(np.int16) - _FIRST_PART[side] + 1
    return np.where((part >= 1) & (part <= _PARTS), part, 0).astype(np.uint8)


def decode_rhd_depth(image: Array) -> Array:
    """Depth float32 ``(H, W)`` mm of an RHD depth image uint8 ``(H, W, 3)``: red is the high byte of 65535ths of 5 m.

    Example:
        >>> float(decode_rhd_depth(np.array([[[51, 51, 0]]], np.uint8))[0, 0])
        1000.0
    """
    code = image[..., 0].astype(np.float32) * 256 + image[..., 1]
    return code * np.float32(DEPTH_RANGE_MM / 65535)


def _find(root: Path) -> Path:
    """The folder that holds ``training`` and ``evaluation``: the given one, or the published one in it."""
    for candidate in (root, root / "RHD_published_v2"):
        if any((candidate / folder).is_dir() for folder in FOLDERS.values()):
            return candidate
    reject(root, "holds neither 'training' nor 'evaluation'; give the folder RHD_published_v2 as it was unpacked")


def _size(path: Path) -> tuple[int, int]:
    """Width and height of the first image: 320x320 in RHD, any in synthetic data."""
    height, width = decode_image(path, "RGB").shape[:2]
    return width, height


def _annotations(folder: Path, file: str) -> tuple[Array, Array, Array, Array]:
    """Frame numbers (N,), xyz (N, 42, 3) m, uv and visibility (N, 42, 3), K (N, 3, 3), all checked."""
    path = folder / file
    if not folder.is_dir():
        raise SplitAbsent(f"{folder}: missing folder; unpack the whole data set again")
    anno = load_pickle(path)
    if not isinstance(anno, dict) or not anno:
        reject(path, f"holds a {type(anno).__name__}, expected a dict of frames; is it RHD's own annotation file?")
    numbers = sorted(k for k in anno if isinstance(k, int | np.integer))
    if len(numbers) != len(anno):
        reject(path, "has frames that are no number; is it RHD's own annotation file?")
    columns = {key: np.empty((len(numbers), *shape)) for key, shape in _SHAPES.items()}
    for row, number in enumerate(numbers):
        _copy_frame(path, int(number), anno[number], row, columns)
    return np.array(numbers), columns["xyz"], columns["uv_vis"], columns["K"]


def _copy_frame(path: Path, number: int, frame: Any, row: int, columns: dict[str, Array]) -> None:
    for key, shape in _SHAPES.items():
        value = frame.get(key) if isinstance(frame, dict) else None
        if not isinstance(value, np.ndarray) or value.shape != shape or value.dtype.kind not in "fiu":
            actual = getattr(value, "shape", type(value).__name__)
            reject(path, f"frame {number}: {key!r} is {actual}, expected numbers of shape {shape}")
        # NaN stands for a joint that is not labelled
        require_plausible(path, f"frame {number}: {key}", value if key == "K" else value[~np.isnan(value)])
        columns[key][row] = value
