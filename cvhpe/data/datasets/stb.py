"""STB, the Stereo Hand Pose Tracking Benchmark: ``images/`` and ``labels/`` as unpacked.

Twelve sequences of 1,500 frames, 640x480, a left hand throughout, 21 joints in mm whose root is the palm
centre. B1 (Counting and Random) is the test split, B2 to B6 train. ``stb`` gives the Bumblebee stereo
pair as two samples a frame; ``stb-sk`` the Intel F200's colour image with its depth image registered to
it, one sample a frame. 2D joints are projections: the data set has no 2D labels of its own, and none of
visibility, so every joint in front of the camera counts as visible.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cvhpe.data.files import Array, decode_image, read_mat, require_plausible
from cvhpe.data.reader import Reader, SplitAbsent, open_folder
from cvhpe.geometry.camera import intrinsics, project, unproject
from cvhpe.plugin.sample import Sample

SIZE = (640, 480)
FRAMES = 1500
SEQUENCES = tuple(f"B{k}{kind}" for k in range(1, 7) for kind in ("Counting", "Random"))
SPLITS = {"train": SEQUENCES[2:], "test": SEQUENCES[:2]}

BB_K = intrinsics(822.79041, 822.79041, 318.47345, 250.31296)
BB_BASELINE_MM = 120.054  # from the left camera, whose frame the labels are in, to the right one
SK_DEPTH_K = intrinsics(475.62768, 474.77709, 336.41179, 238.77962)
SK_COLOR_K = intrinsics(607.92271, 607.88192, 314.78337, 236.42484)
_SK_RVEC = (0.00531, -0.01196, 0.00301)
SK_SHIFT_MM = np.array([-24.0381, -0.4563, -1.2326])


def rodrigues(rvec: tuple[float, float, float]) -> Array:
    """Rotation matrix ``(3, 3)`` of an axis-angle vector (Rodrigues), radians.

    Example:
        >>> np.round(rodrigues((0.0, 0.0, np.pi / 2)), 6)[0]
        array([ 0., -1.,  0.])
    """
    x, y, z = rvec
    angle = float(np.linalg.norm(rvec))
    if angle == 0:
        return np.eye(3)
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) / angle
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k


def depth_to_color(xyz: Array) -> Array:
    """Transform points ``(..., 3)`` mm from the F200's depth frame to its colour frame: ``R^T (x - t)``."""
    return (np.asarray(xyz, np.float64) - SK_SHIFT_MM) @ rodrigues(_SK_RVEC)


def register_depth(depth: Array) -> Array:
    """Depth float32 ``(H, W)`` mm as the colour camera would measure it, from that of the depth camera; 0 = none.

    Every measured pixel is projected into the colour camera and covers the 2x2 pixels there (the colour camera
    resolves 1.3 times as much); the nearest one wins.
    """
    height, width = depth.shape
    v, u = np.nonzero(depth > 0)
    xyz = depth_to_color(unproject(np.stack([u, v], -1), depth[v, u], SK_DEPTH_K))
    uv = project(xyz, SK_COLOR_K)
    out = np.full(height * width, np.inf)
    low = np.floor(np.where(np.isfinite(uv), uv, -10)).astype(np.int64)
    for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
        x, y = low[:, 0] + dx, low[:, 1] + dy
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        np.minimum.at(out, y[inside] * width + x[inside], xyz[inside, 2])
    return np.where(np.isfinite(out), out, 0).reshape(height, width).astype(np.float32)


class Stb(Reader):
    """One split of STB, of one of its two cameras."""

    layout = "stb"
    root = "palm"

    name: str
    camera: str
    views: tuple[str, ...]

    def __init__(self, path: Path | None, split: str) -> None:
        root, _ = open_folder(path, self.name, split, tuple(SPLITS))
        self.images, self.split = root / "images", split
        label = {s: root / "labels" / f"{s}_{self.camera}.mat" for s in SPLITS[split]}
        self.absent = tuple(p for p in label.values() if not p.exists())
        if len(self.absent) == len(label):
            lacks = f"lacks labels/{self.absent[0].name} and every other label of the {split} split"
            raise SplitAbsent(f"{root}: {lacks}")
        self.sequences = tuple(s for s in label if label[s] not in self.absent)
        frames = [
            read_mat(label[s], {"handPara": (3, 21, None)})["handPara"].transpose(2, 1, 0) for s in self.sequences
        ]
        for sequence, xyz in zip(self.sequences, frames, strict=True):
            require_plausible(label[sequence], "'handPara'", xyz)
        self.xyz = np.concatenate(frames)
        self.sequence = np.repeat(np.arange(len(frames)), [len(f) for f in frames])
        self.frame = np.concatenate([np.arange(len(f)) for f in frames])

    def __len__(self) -> int:
        return len(self.xyz) * len(self.views)

    def _locate(self, index: int) -> tuple[int, str, str, int]:
        """Row of the labels, view, sequence and frame."""
        row, view = divmod(index, len(self.views))
        return row, self.views[view], self.sequences[self.sequence[row]], int(self.frame[row])

    def labels(self, index: int) -> Sample:
        row, view, sequence, frame = self._locate(index)
        xyz = self.xyz[row]
        if view == "right":
            xyz = xyz - [BB_BASELINE_MM, 0, 0]
        elif view == "color":
            xyz = depth_to_color(xyz)
        K = BB_K if self.camera == "BB" else SK_COLOR_K
        return Sample(
            id=f"{self.split}/{sequence}/{frame}:{view}",
            side=0,
            joints3d_mm=xyz.astype(np.float32),
            joints2d_px=project(xyz, K).astype(np.float32),
            visible=xyz[:, 2] > 0,
            K=K.astype(np.float32),
            group=SEQUENCES.index(sequence),
        )

    def files(self, index: int) -> dict[str, Path]:
        _, view, sequence, frame = self._locate(index)
        folder = self.images / sequence
        if self.camera == "BB":
            return {"rgb": folder / f"BB_{view}_{frame}.png"}
        return {"rgb": folder / f"SK_color_{frame}.png", "depth": folder / f"SK_depth_{frame}.png"}

    def _decode(self, index: int, name: str, path: Path) -> Array:
        image = decode_image(path, "RGB", SIZE)
        if name == "rgb":
            return image
        return register_depth(image[..., 0].astype(np.float32) + 256 * image[..., 1].astype(np.float32))


class StbStereo(Stb):
    """``stb``: the Bumblebee stereo pair, two samples a frame (left view, right view)."""

    name, camera, views = "stb", "BB", ("left", "right")


class StbDepth(Stb):
    """``stb-sk``: the F200's colour image with its depth registered to it, one sample a frame."""

    name, camera, views = "stb-sk", "SK", ("color",)
