"""MSRA15 (Sun et al. 2015): ``P0/`` to ``P8/``, each with 17 gesture folders, as unpacked.

A frame is ``000000_depth.bin`` (six uint32: width, height, left, top, right, bottom; then the float32 mm
of that rectangle, 0 where nothing was measured) and a line of ``joint.txt`` (21 x (x, y, z) mm, y up, z
negative: both are negated here). Right hands; joint 0 is the wrist.

The protocol leaves one subject out: ``msra:PATH`` tests on P0, ``msra:PATH?subject=3`` on P3.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cvhpe.data.files import Array, read_bytes, read_table, read_text, reject
from cvhpe.data.reader import Reader, SplitAbsent, open_folder
from cvhpe.errors import DataError
from cvhpe.geometry.camera import intrinsics, project
from cvhpe.plugin.sample import Sample

SIZE = (320, 240)
K = intrinsics(241.42, 241.42, 160.0, 120.0)
GESTURES = ("1", "2", "3", "4", "5", "6", "7", "8", "9", "I", "IP", "L", "MP", "RP", "T", "TIP", "Y")
FRAMES = (8499, 8492, 8412, 8488, 8500, 8497, 8497, 8498, 8492)
"""Frames of each subject in the complete data set."""
SPLITS = ("train", "test")


def read_depth(path: Path) -> Array:
    """Depth float32 ``(240, 320)`` mm of a ``_depth.bin``; 0 outside its rectangle and where nothing was measured."""
    width, height = SIZE
    raw = read_bytes(path, 24 + 4 * width * height)
    if len(raw) < 24:
        reject(path, f"is truncated: {len(raw)} bytes, its header alone has 24")
    w, h, left, top, right, bottom = (int(x) for x in np.frombuffer(raw, "<u4", 6))
    if (w, h) != SIZE:
        reject(path, f"says {w}x{h} px, expected {width}x{height}")
    if not (left < right <= width and top < bottom <= height):
        reject(path, f"its rectangle {left},{top} to {right},{bottom} is not inside {width}x{height}")
    expected = 24 + 4 * (right - left) * (bottom - top)
    if len(raw) != expected:
        reject(path, f"{'is truncated' if len(raw) < expected else 'is too long'}: {len(raw)} bytes of {expected}")
    rectangle = np.frombuffer(raw, "<f4", offset=24).reshape(bottom - top, right - left)
    depth = np.zeros((height, width), np.float32)
    depth[top:bottom, left:right] = np.where(np.isfinite(rectangle) & (rectangle > 0), rectangle, 0)
    return depth


def read_joints(path: Path) -> Array:
    """Joints float64 ``(N, 21, 3)`` mm of a ``joint.txt``, in the camera frame (y down, z forward)."""
    lines = read_text(path).splitlines()
    try:
        count = int(lines[0])
    except (ValueError, IndexError):
        reject(path, "its first line is not the number of frames")
    if not 0 <= count == len(lines) - 1 - sum(not line.strip() for line in lines[1:]):
        reject(path, f"announces {count} frames and holds {len(lines) - 1}: truncated?")
    rows = [(n, line) for n, line in enumerate(lines[1:], 2) if line.strip()]
    return read_table(path, rows, 63).reshape(-1, 21, 3) * [1, -1, -1]


class Msra(Reader):
    """One split of MSRA: one subject tests, by default 0 or ``PATH?subject=K``, and the others train."""

    layout = "msra"
    root = "wrist"

    def __init__(self, path: Path | None, split: str) -> None:
        root, options = open_folder(path, "msra", split, SPLITS, subject="0")
        if options["subject"] not in set("012345678"):
            raise DataError(f"msra?subject={options['subject']}: subjects are 0 to 8")
        self.split, held_out = split, int(options["subject"])
        subjects = [s for s in range(9) if (s == held_out) == (split == "test")]
        gestures = [(s, root / f"P{s}" / g) for s in subjects for g in GESTURES]
        self.absent = tuple(g / "joint.txt" for _, g in gestures if not (g / "joint.txt").exists())
        gestures = [(s, g) for s, g in gestures if g / "joint.txt" not in self.absent]
        if not gestures:
            wanted = f"P{held_out}" if split == "test" else f"any of P0 to P8 but P{held_out}"
            raise SplitAbsent(f"{root}: lacks {wanted}, e.g. {self.absent[0].relative_to(root)}")
        xyz = [read_joints(g / "joint.txt") for _, g in gestures]
        counts = [len(x) for x in xyz]
        self.folders = [g for _, g in gestures]
        self.xyz = np.concatenate(xyz)
        self.subject = np.repeat([s for s, _ in gestures], counts)
        self.gesture = np.repeat(np.arange(len(gestures)), counts)
        self.frame = np.concatenate([np.arange(count) for count in counts])

    def __len__(self) -> int:
        return len(self.xyz)

    def labels(self, index: int) -> Sample:
        xyz, folder = self.xyz[index], self.folders[self.gesture[index]]
        return Sample(
            id=f"{self.split}/{folder.parent.name}/{folder.name}/{self.frame[index]:06d}",
            side=1,
            joints3d_mm=xyz.astype(np.float32),
            joints2d_px=project(xyz, K).astype(np.float32),
            visible=xyz[:, 2] > 0,
            K=K.astype(np.float32),
            group=int(self.subject[index]),
        )

    def files(self, index: int) -> dict[str, Path]:
        return {"depth": self.folders[self.gesture[index]] / f"{self.frame[index]:06d}_depth.bin"}

    def _decode(self, index: int, name: str, path: Path) -> Array:
        return read_depth(path)
