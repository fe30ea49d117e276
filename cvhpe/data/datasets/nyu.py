"""NYU (Tompson et al. 2014): ``train/`` and ``test/`` as unpacked.

640x480 depth coded in PNG (mm = 256 G + B) with colour warped onto it, three Kinect views, and
``joint_data.mat`` with 36 joints in mm, of which the usual 14 are kept. A right hand as imaged (the
images are flipped: print on clothes reads backwards). The labels' y axis points up and is negated here.

``nyu:PATH`` reads view 1, as papers do; ``nyu:PATH?views=123`` all three, one sample a view.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cvhpe.data.files import Array, decode_image, read_mat, reject, require_plausible
from cvhpe.data.reader import Reader, SplitAbsent, open_folder
from cvhpe.errors import DataError
from cvhpe.geometry.camera import intrinsics
from cvhpe.plugin.sample import Sample

SIZE = (640, 480)
K = intrinsics(588.03, 587.07, 320.0, 240.0)
JOINTS = (0, 3, 6, 9, 12, 15, 18, 21, 24, 25, 27, 30, 31, 32)
SPLITS = ("train", "test")


class Nyu(Reader):
    """One split of NYU: view 1, or the views of ``PATH?views=123``."""

    layout = "nyu14"
    root = "palm"

    def __init__(self, path: Path | None, split: str) -> None:
        root, options = open_folder(path, "nyu", split, SPLITS, views="1")
        views = tuple(sorted({int(v) for v in options["views"] if v in "123"}))
        if not views or len(views) != len(options["views"]):
            raise DataError(f"nyu?views={options['views']}: name each view once, out of 1, 2 and 3, e.g. views=123")
        self.folder, self.split, self.views = root / split, split, views
        mat = self.folder / "joint_data.mat"
        if not mat.exists():
            raise SplitAbsent(f"{root}: lacks {split}/joint_data.mat")
        shape = (3, None, 36, 3)
        labels = read_mat(mat, {"joint_xyz": shape, "joint_uvd": shape})
        if labels["joint_xyz"].shape != labels["joint_uvd"].shape:
            reject(mat, "joint_xyz and joint_uvd differ in their number of frames")
        self.xyz = labels["joint_xyz"][:, :, JOINTS] * [1, -1, 1]
        self.uv = labels["joint_uvd"][:, :, JOINTS, :2]
        require_plausible(mat, "joint_xyz", self.xyz)
        require_plausible(mat, "joint_uvd", self.uv)

    def __len__(self) -> int:
        return self.xyz.shape[1] * len(self.views)

    def _frame_and_view(self, index: int) -> tuple[int, int]:
        frame, view = divmod(index, len(self.views))
        return frame, self.views[view]

    def labels(self, index: int) -> Sample:
        frame, view = self._frame_and_view(index)
        xyz = self.xyz[view - 1, frame]
        return Sample(
            id=f"{self.split}/{frame + 1:07d}:{view}",
            side=1,
            joints3d_mm=xyz.astype(np.float32),
            joints2d_px=self.uv[view - 1, frame].astype(np.float32),
            visible=xyz[:, 2] > 0,
            K=K.astype(np.float32),
            # Views of one frame belong together, and so do neighbouring frames: it is a video.
            group=frame // 500,
        )

    def files(self, index: int) -> dict[str, Path]:
        frame, view = self._frame_and_view(index)
        return {kind: self.folder / f"{kind}_{view}_{frame + 1:07d}.png" for kind in ("depth", "rgb")}

    def _decode(self, index: int, name: str, path: Path) -> Array:
        image = decode_image(path, "RGB", SIZE)
        return image[..., 1].astype(np.float32) * 256 + image[..., 2] if name == "depth" else image
