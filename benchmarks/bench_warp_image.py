"""warp_image against its peers: 64 images of 320 x 320 RGB bytes, rotated, scaled, shifted, flipped to 256 x 256 and
normalised to float32 planes; and the same with 21 joints.

    pytest benchmarks/bench_warp_image.py --benchmark-enable [--benchmark-timer=time.process_time]

``pip install -e .[bench]`` installs the peers; a missing one is skipped. All get ``BENCH_THREADS`` threads (default 1),
the same images and the same views. ``time.process_time`` measures CPU seconds of all threads, which other work on the
machine disturbs less.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import Tensor

from cvhpe.ops import kernel_state, warp_image, warp_joints
from cvhpe.ops.warp_image import source_matrix
from cvhpe.plugin.contract import View

BATCH, STORED, SIZE, MARGIN = 64, 320, 256, 1.25
MEAN, SCALE = 127.5, 1 / 255
THREADS = int(os.environ.get("BENCH_THREADS", "1"))
Run = Callable[[], Tensor]


class Scene:
    """The inputs of all peers."""

    def __init__(self) -> None:
        g = torch.Generator().manual_seed(0)
        smooth = torch.nn.functional.interpolate(torch.rand(BATCH, 3, 40, 40, generator=g), STORED, mode="bicubic")
        self.images = (smooth.clamp(0, 1) * 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
        self.joints = torch.rand(BATCH, 21, 2, generator=g) * 0.8 - 0.4
        angle, scale = torch.randn(BATCH, generator=g) * 0.5, torch.rand(BATCH, generator=g) * 0.4 + 0.8
        shift, flip = torch.randn(BATCH, 2, generator=g) * 0.05, torch.rand(BATCH, generator=g) > 0.5
        self.view = View(angle, scale, shift, flip, torch.zeros(BATCH), MARGIN)
        self.out = torch.empty(BATCH, 3, SIZE, SIZE)
        self.planes = self.images.permute(0, 3, 1, 2).contiguous()
        # From output pixels (top left is 0, 0) to source pixels, as OpenCV's WARP_INVERSE_MAP wants it.
        matrix = source_matrix(self.view.packed, MARGIN, (SIZE, SIZE), (STORED, STORED)).double()
        matrix[:, :, 2] -= matrix[:, :, :2].sum(2) * (SIZE - 1) / 2
        self.matrix = matrix.numpy()


@pytest.fixture(scope="module")
def scene() -> Scene:
    torch.set_num_threads(THREADS)
    return Scene()


def ours(s: Scene) -> Run:
    return lambda: warp_image(s.images, s.view, SIZE, mean=MEAN, scale=SCALE)


def ours_with_joints(s: Scene) -> Run:
    def run() -> Tensor:
        warp_joints(s.joints, s.view)
        return warp_image(s.images, s.view, SIZE, mean=MEAN, scale=SCALE)

    return run


def opencv(s: Scene) -> Run:
    """A pool of threads; per image warpAffine, split, and a table that converts and normalises a plane."""
    cv2 = pytest.importorskip("cv2")
    cv2.setNumThreads(1)  # the pool is the parallelism: images are independent
    pool = ThreadPoolExecutor(THREADS)
    images, out = s.images.numpy(), torch.empty_like(s.out)
    planes_out = out.numpy()
    warped = np.empty((BATCH, SIZE, SIZE, 3), np.uint8)
    planes = np.empty((BATCH, 3, SIZE, SIZE), np.uint8)
    table = ((np.arange(256) - MEAN) * SCALE).astype(np.float32)

    def one(i: int) -> None:
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        cv2.warpAffine(images[i], s.matrix[i], (SIZE, SIZE), dst=warped[i], flags=flags)
        cv2.split(warped[i], list(planes[i]))
        for c in range(3):
            cv2.LUT(planes[i, c], table, dst=planes_out[i, c])

    def run() -> Tensor:
        list(pool.map(one, range(BATCH)))
        return out

    return run


def opencv_warp_alone(s: Scene) -> Run:
    """Only the warp to bytes, neither split nor normalised: a bound on what OpenCV could reach."""
    cv2 = pytest.importorskip("cv2")
    cv2.setNumThreads(1)
    pool = ThreadPoolExecutor(THREADS)
    images, warped = s.images.numpy(), np.empty((BATCH, SIZE, SIZE, 3), np.uint8)

    def one(i: int) -> None:
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        cv2.warpAffine(images[i], s.matrix[i], (SIZE, SIZE), dst=warped[i], flags=flags)

    def run() -> Tensor:
        list(pool.map(one, range(BATCH)))
        return torch.from_numpy(warped)

    return run


def theta_of(s: Scene) -> Tensor:
    """affine_grid's matrix: fractions times two."""
    v = s.view
    f = torch.where(v.flip, -1.0, 1.0)
    c, d = v.angle.cos() / (v.scale * MARGIN), v.angle.sin() / (v.scale * MARGIN)
    tx, ty = v.shift.unbind(1)
    rows = [f * c, f * d, -2 * f * (c * tx + d * ty)], [-d, c, -2 * (c * ty - d * tx)]
    return torch.stack([torch.stack(r, 1) for r in rows], 1)


def grid_sample(s: Scene) -> Run:
    theta = theta_of(s)

    def run() -> Tensor:
        grid = torch.nn.functional.affine_grid(theta, [BATCH, 3, SIZE, SIZE], align_corners=False)
        warped = torch.nn.functional.grid_sample(s.planes.float(), grid, align_corners=False)
        return warped.sub_(MEAN).mul_(SCALE)

    return run


def kornia_affine(s: Scene) -> Run:
    kornia = pytest.importorskip("kornia")
    # kornia takes the matrix from source to output pixels.
    full = torch.eye(3, dtype=torch.float64).repeat(BATCH, 1, 1)
    full[:, :2] = torch.from_numpy(s.matrix)
    forward = torch.linalg.inv(full)[:, :2].float()

    def run() -> Tensor:
        warped = kornia.geometry.transform.warp_affine(s.planes.float(), forward, (SIZE, SIZE), align_corners=True)
        return warped.sub_(MEAN).mul_(SCALE)

    return run


def torchvision_affine(s: Scene) -> Run:
    """A matrix an image, as its augmentations do: flip, affine about the centre, crop, resize come apart there."""
    v2 = pytest.importorskip("torchvision.transforms.v2.functional")
    mean, std = [MEAN / 255] * 3, [1.0] * 3

    def one(i: int) -> Tensor:
        v = s.view
        side = round(STORED / MARGIN)
        x = v2.horizontal_flip(s.planes[i]) if v.flip[i] else s.planes[i]
        shift = [float(t) * side for t in v.shift[i]]
        x = v2.affine(x, math_degrees(v.angle[i]), shift, float(v.scale[i]), [0.0], v2.InterpolationMode.BILINEAR)
        x = v2.resize(v2.center_crop(x, [side, side]), [SIZE, SIZE], antialias=False)
        return v2.normalize(v2.to_dtype(x, torch.float32, scale=True), mean, std, inplace=True)

    return lambda: torch.stack([one(i) for i in range(BATCH)])


def math_degrees(angle: Tensor) -> float:
    return float(torch.rad2deg(angle))


def albumentations_keypoints(s: Scene) -> Run:
    """Its own pipeline with 21 keypoints: fixed parameters, so that it samples no random numbers."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    a = pytest.importorskip("albumentations")
    cv2 = pytest.importorskip("cv2")
    cv2.setNumThreads(1)
    pool = ThreadPoolExecutor(THREADS)
    side = round(STORED / MARGIN)

    def pipeline(i: int):
        v = s.view
        shift = {"x": float(v.shift[i, 0]) * side / STORED, "y": float(v.shift[i, 1]) * side / STORED}
        steps = [
            a.HorizontalFlip(p=float(v.flip[i])),
            a.Affine(
                scale=(float(v.scale[i]),) * 2,
                rotate=(math_degrees(v.angle[i]),) * 2,
                translate_percent={k: (t, t) for k, t in shift.items()},
                p=1.0,
            ),
            a.CenterCrop(side, side),
            a.Resize(SIZE, SIZE),
            a.Normalize(mean=(MEAN / 255,) * 3, std=(1.0,) * 3),
        ]
        return a.Compose(steps, keypoint_params=a.KeypointParams(format="xy", remove_invisible=False))

    pipelines = [pipeline(i) for i in range(BATCH)]
    images, out = s.images.numpy(), torch.empty_like(s.out)
    planes_out = out.numpy()
    keypoints = (s.joints.numpy() / MARGIN * STORED + (STORED - 1) / 2).astype(np.float32)

    def one(i: int) -> None:
        warped = pipelines[i](image=images[i], keypoints=keypoints[i])
        planes_out[i] = warped["image"].transpose(2, 0, 1)

    def run() -> Tensor:
        list(pool.map(one, range(BATCH)))
        return out

    return run


IMAGE_MODALITIES = {
    f.__name__: f for f in (ours, opencv, opencv_warp_alone, grid_sample, kornia_affine, torchvision_affine)
}
WITH_JOINTS = {f.__name__: f for f in (ours_with_joints, albumentations_keypoints)}
EXACT = ("opencv", "grid_sample", "kornia_affine")  # the others resample twice or do not normalise


def measure(benchmark, scene: Scene, name: str, make: Callable[[Scene], Run]) -> None:
    run = make(scene)
    if name in EXACT:
        expected = ours(scene)().clone()
        # OpenCV rounds to bytes, and its weights to 1/32 of a pixel.
        assert (run() - expected).abs().mean() < 0.004
    benchmark.extra_info |= {"threads": THREADS, "kernels": kernel_state().loaded}
    benchmark.pedantic(run, rounds=int(os.environ.get("BENCH_ROUNDS", "15")), warmup_rounds=2)


@pytest.mark.benchmark(group="64 images")
@pytest.mark.parametrize("name", IMAGE_MODALITIES)
def test_images(benchmark, scene: Scene, name: str) -> None:
    measure(benchmark, scene, name, IMAGE_MODALITIES[name])


@pytest.mark.benchmark(group="64 images with 21 joints each")
@pytest.mark.parametrize("name", WITH_JOINTS)
def test_images_with_joints(benchmark, scene: Scene, name: str) -> None:
    measure(benchmark, scene, name, WITH_JOINTS[name])


@pytest.mark.benchmark(group="ours by output")
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_outputs(benchmark, scene: Scene, dtype: torch.dtype, channels_last: bool) -> None:
    benchmark.pedantic(
        lambda: warp_image(
            scene.images, scene.view, SIZE, mean=MEAN, scale=SCALE, channels_last=channels_last, dtype=dtype
        ),
        rounds=9,
        warmup_rounds=2,
    )


@pytest.mark.benchmark(group="ours, depth")
def test_depth(benchmark, scene: Scene) -> None:
    depth = (scene.images[..., 0].to(torch.int32) * 257).to(torch.uint16)
    benchmark.pedantic(lambda: warp_image(depth, scene.view, SIZE, mode="nearest_hole"), rounds=9, warmup_rounds=2)


@pytest.mark.benchmark(group="memory")
def test_writing_the_output_alone(benchmark, scene: Scene) -> None:
    benchmark.pedantic(lambda: scene.out.fill_(1.0), rounds=15, warmup_rounds=2)
