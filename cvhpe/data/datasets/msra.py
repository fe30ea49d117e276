"""MSRA15 (Sun et al. 2015): ``P0/`` to ``P8/``, each with 17 gesture folders, as unpacked.

A frame is ``000000_depth.bin`` (six uint32: width, height, left, top, right, bottom; then the float32 mm
of that rectangle, 0 where nothing was measured) and a line of ``joint.txt`` (21 x (x, y, z) mm, y up, z
negative: both are turned here). Right hands; joint 0 is the wrist.

The protocol leaves one subject out: ``msra:PATH`` tests on P0, ``msra:PATH?subject=3`` on P3.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cvhpe.data.files import Array, fail, folder, read_bytes, read_table, read_text, with_options
from cvhpe.data.reader import Reader, SplitAbsent, check_split
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
    """The 240x320 float32 depth picture of a ``_depth.bin``; mm, 0 outside its rectangle and where not measured."""
    width, height = SIZE
    raw = read_bytes(path, 24 + 4 * width * height)
    if len(raw) < 24:
        fail(path, f"is truncated: {len(raw)} bytes, its header alone has 24")
    w, h, left, top, right, bottom = (int(x) for x in np.frombuffer(raw, "<u4", 6))
    if (w, h) != SIZE:
        fail(path, f"says {w}x{h} px, expected {width}x{height}")
    if not (left < right <= width and top < bottom <= height):
        fail(path, f"its rectangle {left},{top} to {right},{bottom} is not inside {width}x{height}")
    expected = 24 + 4 * (right - left) * (bottom - top)
    if len(raw) != expected:
        fail(path, f"{'is truncated' if len(raw) < expected else 'is too long'}: {len(raw)} bytes of {expected}")
    part = np.frombuffer(raw, "<f4", offset=24).reshape(bottom - top, right - left)
    depth = np.zeros((height, width), np.float32)
    depth[top:bottom, left:right] = np.where(np.isfinite(part) & (part > 0), part, 0)
    return depth


def read_joints(path: Path) -> Array:
    """``joint.txt`` as ``(N, 21, 3)`` float64 mm in the camera frame (y down, z forward)."""
    lines = read_text(path).splitlines()
    try:
        count = int(lines[0])
    except (ValueError, IndexError):
        fail(path, "its first line is not the number of frames")
    if not 0 <= count == len(lines) - 1 - sum(not line.strip() for line in lines[1:]):
        fail(path, f"announces {count} frames and holds {len(lines) - 1}: truncated?")
    rows = [(n, line) for n, line in enumerate(lines[1:], 2) if line.strip()]
    return read_table(path, rows, 63).reshape(-1, 21, 3) * [1, -1, -1]


class Msra(Reader):
    """One split of MSRA: subject ``left_out`` tests, the others train."""

    layout = "msra"
    root = "wrist"

    def __init__(self, where: Path, split: str, left_out: int) -> None:
        self.split = split
        subjects = [s for s in range(9) if (s == left_out) == (split == "test")]
        parts = [(s, where / f"P{s}" / g) for s in subjects for g in GESTURES]
        self.absent = tuple(p / "joint.txt" for _, p in parts if not (p / "joint.txt").exists())
        parts = [(s, p) for s, p in parts if p / "joint.txt" not in self.absent]
        if not parts:
            asked = f"P{left_out}" if split == "test" else f"any of P0 to P8 but P{left_out}"
            raise SplitAbsent(f"{where}: lacks {asked}, e.g. {self.absent[0].relative_to(where)}")
        xyz = [read_joints(p / "joint.txt") for _, p in parts]
        self.parts = [p for _, p in parts]
        self.xyz = np.concatenate(xyz)
        self.subject = np.repeat([s for s, _ in parts], [len(x) for x in xyz])
        self.part = np.repeat(np.arange(len(parts)), [len(x) for x in xyz])
        self.frame = np.concatenate([np.arange(len(x)) for x in xyz])

    def __len__(self) -> int:
        return len(self.xyz)

    def labels(self, index: int) -> Sample:
        index = self._at(index)
        xyz = self.xyz[index]
        part = self.parts[self.part[index]]
        return Sample(
            id=f"{self.split}/{part.parent.name}/{part.name}/{self.frame[index]:06d}",
            side=1,
            joints3d_mm=xyz.astype(np.float32),
            joints2d_px=project(xyz, K).astype(np.float32),
            visible=xyz[:, 2] > 0,
            K=K.astype(np.float32),
            group=int(self.subject[index]),
        )

    def files(self, index: int) -> dict[str, Path]:
        index = self._at(index)
        return {"depth": self.parts[self.part[index]] / f"{self.frame[index]:06d}_depth.bin"}

    def images(self, index: int) -> dict[str, Array]:
        return {"depth": read_depth(self.files(index)["depth"])}


def open_msra(path: Path | None, split: str) -> Msra:
    """``msra``: leave one subject out, by default P0; ``msra:PATH?subject=K`` leaves out another."""
    where, options = with_options(path, "msra", {"subject": "0"})
    check_split("msra", split, SPLITS)
    if options["subject"] not in set("012345678"):
        raise DataError(f"msra?subject={options['subject']}: subjects are 0 to 8")
    return Msra(folder(where, "msra"), split, int(options["subject"]))
