"""ICVL (Tang et al. 2014): ``Training/`` and ``Testing/`` as unpacked.

16-bit depth images, 320x240, mm. A label line is an image's path and 16 x (u px, v px, depth mm);
joint 0 is the palm. A left hand as imaged: the fingers of the test labels bend towards the side that says
so. The training list holds rotated copies of the recordings, which are samples like the others.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cvhpe.data.files import Array, decode_image, read_table, read_text, reject
from cvhpe.data.reader import Reader, SplitAbsent, open_folder
from cvhpe.geometry.camera import intrinsics, unproject
from cvhpe.plugin.sample import Sample

SIZE = (320, 240)
K = intrinsics(240.99, 240.96, 160.0, 120.0)
SPLITS = {"train": ("Training", ("labels.txt",)), "test": ("Testing", ("test_seq_1.txt", "test_seq_2.txt"))}


class Icvl(Reader):
    """One split of ICVL: ``Training/labels.txt``, or the two test sequences (702 + 894 frames)."""

    layout = "icvl16"
    root = "palm"

    def __init__(self, path: Path | None, split: str) -> None:
        root, _ = open_folder(path, "icvl", split, tuple(SPLITS))
        self.split = split
        folder, labels = SPLITS[split]
        self.images = root / folder / "Depth"
        lists = [root / folder / label for label in labels]
        self.absent = tuple(label for label in lists if not label.exists())
        if len(self.absent) == len(lists):
            raise SplitAbsent(f"{root}: lacks {' and '.join(f'{folder}/{label}' for label in labels)}")
        self.names: list[str] = []
        tables: list[Array] = []
        groups: dict[str, int] = {}
        self.group: list[int] = []
        for label in lists:
            if label in self.absent:
                continue
            rows: list[tuple[int, str]] = []
            for number, line in enumerate(read_text(label).splitlines(), 1):
                if not line.strip():
                    continue
                name, _, numbers = line.strip().partition(" ")
                *folders, _ = name.split("/")
                if name.startswith("/") or ".." in folders:
                    reject(label, f"line {number} names an image outside the data set: {name[:80]}")
                rows.append((number, numbers))
                self.names.append(name)
                # A recording has the longest name in a path; folders of rotated copies are called 22-5 and the like.
                recording = max(folders, key=len, default="")
                self.group.append(groups.setdefault(recording, len(groups)))
            tables.append(read_table(label, rows, 48))
        self.uvd = np.concatenate(tables).reshape(-1, 16, 3)
        if not len(self.uvd):
            reject(lists[0], "holds no label")

    def __len__(self) -> int:
        return len(self.uvd)

    def labels(self, index: int) -> Sample:
        uvd = self.uvd[index]
        return Sample(
            id=f"{self.split}/{self.names[index]}",
            side=0,
            joints3d_mm=unproject(uvd[:, :2], uvd[:, 2], K).astype(np.float32),
            joints2d_px=uvd[:, :2].astype(np.float32),
            visible=uvd[:, 2] > 0,
            K=K.astype(np.float32),
            group=self.group[index],
        )

    def files(self, index: int) -> dict[str, Path]:
        return {"depth": self.images / self.names[index]}

    def _decode(self, index: int, name: str, path: Path) -> Array:
        return decode_image(path, "I;16", SIZE)
