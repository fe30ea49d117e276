"""RHD, the Rendered Hand Pose data set v1.1: the folder ``RHD_published_v2`` as unpacked, or the one around it.

``{training,evaluation}/{color,depth,mask}/00000.png``, 320x320, and a pickle of annotations: both hands of
every frame, 21 joints each, metres, wrist first and every finger from its tip to its base.

``train`` gives both hands of the training frames, each a sample where it can be learnt from: at least 11 of
its joints inside the frame and before the camera, and at least 5 of them seen by RHD's own flag. ``test``
gives one sample for each evaluation frame, its dominant hand: the left one where more pixels of the mask
are left than right, else the right one (Zimmermann & Brox, and everybody since).

Of some hands a joint lies behind the camera, where it has no image: its pixel is arithmetic. No training
sample is made of them, and the reader's ``note`` counts them. Of the evaluation frames, whose number is
published, all stay, and such a joint counts as not seen.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cvhpe.data.files import Array, fail, folder, need_sensible, read_grey, read_rgb
from cvhpe.data.reader import Reader, SplitAbsent, check_split
from cvhpe.io.safe_pickle import load_pickle
from cvhpe.plugin.sample import DatasetSpec, Sample

FOLDERS = {"train": "training", "test": "evaluation"}
IMAGE_MODALITIES = {"rgb": "color", "depth": "depth", "mask": "mask"}
DEPTH_RANGE_MM = 5000.0
LEAST_INSIDE = 11
LEAST_SEEN = 5
_SHAPES = {"xyz": (42, 3), "uv_vis": (42, 3), "K": (3, 3)}
_FIRST_PART = (2, 18)  # class of the mask that is part 1 of a left and of a right hand
_PARTS = 16


class Rhd(Reader):
    """One split of RHD, or of anything written in its layout."""

    layout = "rhd"
    root = "wrist"

    def __init__(self, where: Path, split: str, name: str = "rhd") -> None:
        check_split(name, split, tuple(FOLDERS))
        self.path, self.split = _find(where, name), split
        self._folder = self.path / FOLDERS[split]
        self.frames, self.xyz_m, self.uv_vis, self.K = _annotations(self._folder, f"anno_{FOLDERS[split]}.pickle")
        self._need_pictures()
        self._size = _size(self._picture("rgb", 0))
        self._dominant: dict[int, int] = {}
        self._last: dict[str, tuple[int, Array]] = {}
        if split == "train":
            self._hands, self.note = self._train(name)
        else:
            self._hands = np.stack([np.arange(len(self.frames)), np.full(len(self.frames), -1)], 1)

    def __len__(self) -> int:
        return len(self._hands)

    def labels(self, index: int) -> Sample:
        row, side = self._hand(self._at(index))
        of = slice(21 * side, 21 * side + 21)
        frame = f"{FOLDERS[self.split]}/{self.frames[row]:05d}"
        return Sample(
            id=f"{frame}:{('left', 'right')[side]}",
            side=side,
            joints3d_mm=(self.xyz_m[row, of] * 1000).astype(np.float32),
            joints2d_px=self.uv_vis[row, of, :2].astype(np.float32),
            visible=(self.uv_vis[row, of, 2] > 0.5) & (self.xyz_m[row, of, 2] > 0),
            K=self.K[row],
            group=int(self.frames[row]),
        )

    def files(self, index: int) -> Mapping[str, Path]:
        row = int(self._hands[self._at(index), 0])
        return {name: self._picture(name, row) for name in IMAGE_MODALITIES}

    def images(self, index: int) -> dict[str, Array]:
        return dict(self.read(index, IMAGE_MODALITIES).images)

    def read(self, index: int, names: Collection[str]) -> Sample:
        row, side = self._hand(self._at(index))
        images = {name: self._image(name, row, side) for name in IMAGE_MODALITIES if name in names}
        return replace(self.labels(index), images=images)

    def _image(self, name: str, row: int, side: int) -> Array:
        raw = self._raw(name, row)
        return part_index(raw, side) if name == "mask" else decode_depth(raw) if name == "depth" else raw

    def _hand(self, index: int) -> tuple[int, int]:
        row, side = (int(v) for v in self._hands[index])
        if side < 0:
            if row not in self._dominant:
                self._dominant[row] = dominant_hand(self._raw("mask", row))
            side = self._dominant[row]
        return row, side

    def _raw(self, name: str, row: int) -> Array:
        """A picture as it is on disk; the last one of its kind is kept, for the other hand of the frame."""
        if name not in self._last or self._last[name][0] != row:
            read = read_grey if name == "mask" else read_rgb
            self._last[name] = row, read(self._picture(name, row), self._size)
        return self._last[name][1]

    def _picture(self, name: str, row: int) -> Path:
        return self._folder / IMAGE_MODALITIES[name] / f"{self.frames[row]:05d}.png"

    def _train(self, name: str) -> tuple[Array, str]:
        """Frame and side of the training samples ``(N, 2)``, and what is to be said of those left out."""
        learnable = self._learnable()
        behind = (self.xyz_m[..., 2] <= 0).reshape(*learnable.shape, 21).any(-1)
        count = int((learnable & behind).sum())
        note = f"{name} train: {count} hands with a joint behind the camera (z <= 0) left out" if count else ""
        return np.argwhere(learnable & ~behind), note

    def _learnable(self) -> Array:
        """Which hands of which frames can be learnt from: bool ``(frames, 2)``."""
        uv, seen = self.uv_vis[..., :2], self.uv_vis[..., 2] > 0.5
        with np.errstate(invalid="ignore"):
            inside = ((uv >= 0) & (uv <= np.array(self._size) - 1)).all(-1) & (self.xyz_m[..., 2] > 0)
        inside &= np.isfinite(self.xyz_m).all(-1)
        hands = (len(self.frames), 2, 21)
        enough = inside.reshape(hands).sum(-1) >= LEAST_INSIDE
        return enough & ((inside & seen).reshape(hands).sum(-1) >= LEAST_SEEN)

    def _need_pictures(self) -> None:
        """Every annotated frame has its three pictures; the folders are listed, the files not touched."""
        for name in IMAGE_MODALITIES.values():
            where = self._folder / name
            try:
                there = {entry.name for entry in where.iterdir()}
            except OSError:
                fail(where, "missing folder; unpack the whole data set again")
            lacking = [n for n in (f"{f:05d}.png" for f in self.frames) if n not in there]
            if lacking:
                more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
                fail(where, f"lacks {', '.join(lacking[:3])}{more}, which the annotations name; unpack it again")


def dominant_hand(mask: Array) -> int:
    """0 where more pixels of an RHD mask are of a left hand than of a right one, else 1.

    >>> dominant_hand(np.array([[2, 17, 18], [0, 1, 0]], np.uint8))
    0
    """
    left = int(((mask > 1) & (mask < 18)).sum())
    return 0 if left > int((mask > 17).sum()) else 1


def part_index(mask: Array, side: int) -> Array:
    """Parts 1 to 16 of one hand, 0 elsewhere: uint8 ``(H, W)`` of an RHD mask.

    >>> part_index(np.array([[0, 1, 2, 17, 18, 33]], np.uint8), 1)
    array([[ 0,  0,  0,  0,  1, 16]], dtype=uint8)
    """
    part = mask.astype(np.int16) - _FIRST_PART[side] + 1
    return np.where((part >= 1) & (part <= _PARTS), part, 0).astype(np.uint8)


def decode_depth(picture: Array) -> Array:
    """Depth mm, float32 ``(H, W)``, of an RHD depth picture: red is the high byte of 65535ths of 5 m.

    >>> float(decode_depth(np.array([[[51, 51, 0]]], np.uint8))[0, 0])
    1000.0
    """
    code = picture[..., 0].astype(np.float32) * 256 + picture[..., 1]
    return code * np.float32(DEPTH_RANGE_MM / 65535)


def _find(where: Path, name: str) -> Path:
    """The folder that holds ``training`` and ``evaluation``: the one given, or the published one in it."""
    root = folder(where, name)
    for candidate in (root, root / "RHD_published_v2"):
        if any((candidate / part).is_dir() for part in FOLDERS.values()):
            return candidate
    fail(root, "holds neither 'training' nor 'evaluation'; give the folder RHD_published_v2 as it was unpacked")


def _size(path: Path) -> tuple[int, int]:
    """SampleScaling and height, from the first picture: 320x320 in RHD, what was asked for in synthetic data."""
    height, width = read_rgb(path).shape[:2]
    return width, height


def _annotations(where: Path, file: str) -> tuple[Array, Array, Array, Array]:
    """Frame numbers (N,), xyz (N, 42, 3) m, uv and visibility (N, 42, 3), K (N, 3, 3), all checked."""
    path = where / file
    if not where.is_dir():
        raise SplitAbsent(f"{where}: missing folder; unpack the whole data set again")
    anno = load_pickle(path)
    if not isinstance(anno, dict) or not anno:
        fail(path, f"holds a {type(anno).__name__}, expected a dict of frames; is it RHD's own annotation file?")
    numbers = sorted(k for k in anno if isinstance(k, int | np.integer))
    if len(numbers) != len(anno):
        fail(path, "has frames that are no number; is it RHD's own annotation file?")
    columns = {key: np.empty((len(numbers), *shape)) for key, shape in _SHAPES.items()}
    for row, number in enumerate(numbers):
        _copy_frame(path, int(number), anno[number], row, columns)
    return np.array(numbers), columns["xyz"], columns["uv_vis"], columns["K"]


def _copy_frame(path: Path, number: int, frame: Any, row: int, columns: dict[str, Array]) -> None:
    for key, shape in _SHAPES.items():
        value = frame.get(key) if isinstance(frame, dict) else None
        if not isinstance(value, np.ndarray) or value.shape != shape or value.dtype.kind not in "fiu":
            got = getattr(value, "shape", type(value).__name__)
            fail(path, f"frame {number}: {key!r} is {got}, expected numbers of shape {shape}")
        # NaN stands for a joint that is not labelled
        need_sensible(path, f"frame {number}: {key}", value if key == "K" else value[~np.isnan(value)])
        columns[key][row] = value


def open_rhd(path: Path | None, split: str) -> Rhd:
    """``--data rhd:PATH``."""
    if path is None:
        fail("rhd", "give its folder: --data rhd:PATH")
    return Rhd(path, split)


def spec() -> DatasetSpec:
    return DatasetSpec(
        name="rhd",
        open=open_rhd,
        layout="rhd",
        root="wrist",
        fields=("rgb", "depth", "mask", "joints2d", "joints3d"),
        published={"test": 2_728},
        about="rendered hands of Zimmermann & Brox; both hands train, the dominant one is scored",
    )
