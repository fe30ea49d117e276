"""FreiHAND v2: ``training/``, ``evaluation/`` and the ``.json`` files as unpacked.

224x224 images of right hands, 21 joints in metres (here mm), joint 0 the wrist. Each of the 32,560
training poses was published four times (the green screen replaced in three ways), so 130,240 training
samples; masks exist once a pose and serve all four. Where ``evaluation_xyz.json`` is absent, as in the
first release, evaluation samples have no joints.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cvhpe.data.files import Array, decode_image, read_json, reject, require_files, require_plausible
from cvhpe.data.reader import Reader, SplitAbsent, open_folder
from cvhpe.geometry.camera import project
from cvhpe.plugin.sample import Sample

SIZE = (224, 224)
VERSIONS = 4
FOLDERS = {"train": "training", "test": "evaluation"}


class FreiHand(Reader):
    """One split of FreiHAND: four versions of every training pose, or the evaluation folder."""

    layout = "freihand"
    root = "wrist"

    def __init__(self, path: Path | None, split: str) -> None:
        root, _ = open_folder(path, "freihand", split, tuple(FOLDERS))
        self.split = split
        folder = FOLDERS[split]
        self.folder = root / folder
        if not self.folder.is_dir():
            raise SplitAbsent(f"{root}: lacks {folder}/")
        require_files(root, [f"{folder}_K.json", f"{folder}/rgb"])
        self.K = _table(root / f"{folder}_K.json", (3, 3))
        labels = root / f"{folder}_xyz.json"
        if split == "train":
            require_files(root, [labels.name])
        self.xyz = _table(labels, (21, 3)) * 1000.0 if labels.exists() else None
        if self.xyz is None:
            self.absent = (labels,)
        elif len(self.xyz) != len(self.K):
            reject(labels, f"has {len(self.xyz)} hands, {folder}_K.json has {len(self.K)} cameras")
        self.versions = VERSIONS if split == "train" else 1

    def __len__(self) -> int:
        return len(self.K) * self.versions

    def labels(self, index: int) -> Sample:
        row = index % len(self.K)
        K = self.K[row]
        xyz = None if self.xyz is None else self.xyz[row]
        return Sample(
            id=f"{self.split}/{index:08d}",
            side=1,
            joints3d_mm=None if xyz is None else xyz.astype(np.float32),
            joints2d_px=None if xyz is None else project(xyz, K).astype(np.float32),
            visible=None if xyz is None else xyz[:, 2] > 0,
            K=K.astype(np.float32),
            # Without joints nothing else locates the hand, but the images are crops of it.
            box=(0.0, 0.0, *SIZE) if xyz is None else None,
            group=row,
        )

    def files(self, index: int) -> dict[str, Path]:
        files = {"rgb": self.folder / "rgb" / f"{index:08d}.jpg"}
        mask = self.folder / "mask" / f"{index % len(self.K):08d}.jpg"
        if mask.parent.is_dir():
            files["mask"] = mask
        return files

    def _decode(self, index: int, name: str, path: Path) -> Array:
        if name == "rgb":
            return decode_image(path, "RGB", SIZE)
        # JPEG blurs the edge of a mask that was black and white.
        return (decode_image(path, "L", SIZE) > 127).astype(np.uint8)


def _table(path: Path, shape: tuple[int, ...]) -> Array:
    """A list of equally shaped nested lists as one finite float64 array ``(N, *shape)``."""
    rows: Any = read_json(path)
    try:
        table = np.array(rows, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        reject(path, f"is not a list of {shape} numbers: {error}")
    if table.ndim != 1 + len(shape) or table.shape[1:] != shape or not len(table):
        reject(path, f"holds an array of shape {table.shape}, expected (N, {', '.join(map(str, shape))})")
    require_plausible(path, "it", table)
    return table
