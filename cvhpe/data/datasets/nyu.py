"""NYU (Tompson et al. 2014): ``train/`` and ``test/`` as unpacked.

640x480 depth coded in PNG (mm = 256 G + B) with colour warped onto it, three Kinect views, and
``joint_data.mat`` with 36 joints in mm, of which the usual 14 are kept. A right hand as imaged (the
pictures are mirrored: print on clothes reads backwards). The labels' y axis points up and is turned here.

``nyu:PATH`` reads view 1, as papers do; ``nyu:PATH?views=123`` all three, one sample a view.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cvhpe.data.files import Array, fail, folder, need_sensible, read_mat, read_rgb, with_options
from cvhpe.data.reader import Reader, SplitAbsent, check_split
from cvhpe.errors import DataError
from cvhpe.geometry.camera import intrinsics
from cvhpe.plugin.sample import Sample

SIZE = (640, 480)
K = intrinsics(588.03, 587.07, 320.0, 240.0)
KEPT = (0, 3, 6, 9, 12, 15, 18, 21, 24, 25, 27, 30, 31, 32)
SPLITS = ("train", "test")


class Nyu(Reader):
    """One split of NYU, of the views asked for (1 to 3)."""

    layout = "nyu14"
    root = "palm"

    def __init__(self, where: Path, split: str, views: tuple[int, ...]) -> None:
        self.where, self.split, self.views = where / split, split, views
        mat = self.where / "joint_data.mat"
        if not mat.exists():
            raise SplitAbsent(f"{where}: lacks {split}/joint_data.mat")
        shape = (3, None, 36, 3)
        labels = read_mat(mat, {"joint_xyz": shape, "joint_uvd": shape})
        if labels["joint_xyz"].shape != labels["joint_uvd"].shape:
            fail(mat, "joint_xyz and joint_uvd differ in their number of frames")
        self.xyz = labels["joint_xyz"][:, :, KEPT] * [1, -1, 1]
        self.uv = labels["joint_uvd"][:, :, KEPT, :2]
        need_sensible(mat, "joint_xyz", self.xyz)
        need_sensible(mat, "joint_uvd", self.uv)

    def __len__(self) -> int:
        return self.xyz.shape[1] * len(self.views)

    def _where(self, index: int) -> tuple[int, int]:
        frame, view = divmod(self._at(index), len(self.views))
        return frame, self.views[view]

    def labels(self, index: int) -> Sample:
        frame, view = self._where(index)
        xyz = self.xyz[view - 1, frame]
        return Sample(
            id=f"{self.split}/{frame + 1:07d}:{view}",
            side=1,
            joints3d_mm=xyz.astype(np.float32),
            joints2d_px=self.uv[view - 1, frame].astype(np.float32),
            visible=xyz[:, 2] > 0,
            K=K.astype(np.float32),
            # Views of one frame belong together, and so do the frames about it: a video.
            group=frame // 500,
        )

    def files(self, index: int) -> dict[str, Path]:
        frame, view = self._where(index)
        return {kind: self.where / f"{kind}_{view}_{frame + 1:07d}.png" for kind in ("depth", "rgb")}

    def images(self, index: int) -> dict[str, Array]:
        files = self.files(index)
        coded = read_rgb(files["depth"], SIZE).astype(np.float32)
        return {"depth": coded[..., 1] * 256 + coded[..., 2], "rgb": read_rgb(files["rgb"], SIZE)}


def open_nyu(path: Path | None, split: str) -> Nyu:
    """``nyu``: view 1, or ``nyu:PATH?views=123``."""
    where, options = with_options(path, "nyu", {"views": "1"})
    check_split("nyu", split, SPLITS)
    views = tuple(sorted({int(v) for v in options["views"] if v in "123"}))
    if not views or len(views) != len(options["views"]):
        raise DataError(f"nyu?views={options['views']}: name each view once, out of 1, 2 and 3, e.g. views=123")
    return Nyu(folder(where, "nyu"), split, views)
