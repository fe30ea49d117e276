"""FusionParams fast packed images are fed and data sets are packed.

    pytest benchmarks/bench_loader.py --benchmark-enable

``samples_per_second`` stands among the extra columns of the JSON (``--benchmark-json``) and is printed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cvhpe.data.datasets import synthetic
from cvhpe.data.loader import Batches
from cvhpe.data.packing.crops import CropOptions
from cvhpe.data.packing.pack import Meta, Pack, create_npy, write_meta
from cvhpe.data.packing.prepare import prepare
from cvhpe.plugin.registry import registry

SAMPLES = 6000
IMAGE_SIZE = 128
BATCH = 64


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    """A pack of noise: 6,000 images for a network that sees 128x128, stored with their margin at 192x192."""
    folder: Path = tmp_path_factory.mktemp("pack")
    rng, size = np.random.default_rng(0), CropOptions(image_size=IMAGE_SIZE).stored
    shape = (SAMPLES, size, size, 3)
    start = create_npy(folder / "rgb.npy", np.dtype(np.uint8), shape)
    with (folder / "rgb.npy").open("r+b") as stream:
        stream.seek(start)
        for _ in range(SAMPLES // 100):
            stream.write(rng.integers(0, 256, (100, *shape[1:]), np.uint8).data)
    arrays = {
        "joints3d_mm": rng.normal(0, 40, (SAMPLES, 21, 3)).astype(np.float32),
        "joints2d": rng.uniform(-0.4, 0.4, (SAMPLES, 21, 2)).astype(np.float32),
        "visible": np.ones((SAMPLES, 21), bool),
        "side": np.zeros(SAMPLES, np.int64),
        "root_shift_weight": np.zeros(SAMPLES, np.float32),
        "scale_mm": np.full(SAMPLES, 35, np.float32),
        "K": np.tile(np.eye(3), (SAMPLES, 1, 1)),
        "crop": np.ones((SAMPLES, 3)),
        "depth_z": np.ones(SAMPLES, np.float32),
        "group": np.arange(SAMPLES),
        "id": np.arange(SAMPLES).astype(str),
    } | {f"has_{name}": np.ones(SAMPLES, bool) for name in ("rgb", "joints2d", "joints3d")}
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    listed = {"rgb": ("|u1", shape)} | {name: (a.dtype.str, a.shape) for name, a in arrays.items()}
    meta = Meta(
        count=SAMPLES, layout="hand21", native="hand21", root="wrist", image_size=IMAGE_SIZE, stored=size, margin=1.5,
        crop_factor=1.25, crop_kind="joints", cube_mm=150.0, name="noise", source="", split="train", fields=listed,
    )  # fmt: skip
    write_meta(folder, meta)
    return Pack.open(folder)


def rate(benchmark, samples: int) -> None:
    per_second = samples / benchmark.stats.stats.min
    benchmark.extra_info["samples_per_second"] = round(per_second)
    print(f"\n{per_second:,.0f} samples/s")


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_feed_rgb_and_joints(benchmark, packed: Pack, workers: int) -> None:
    """A shuffled epoch of 64 images a batch, with 2D and 3D joints."""
    batches = Batches([packed], ("rgb", "joints2d", "joints3d"), BATCH, workers=workers)
    epochs = iter(range(1000))

    def epoch() -> int:
        return sum(len(batch["rgb"]) for batch in batches.epoch(next(epochs)))

    samples = benchmark.pedantic(epoch, rounds=3, warmup_rounds=1)
    if benchmark.enabled:
        rate(benchmark, samples)


def test_feed_joints_alone(benchmark, packed: Pack) -> None:
    batches = Batches([packed], ("joints2d", "joints3d"), BATCH)
    samples = benchmark.pedantic(lambda: sum(len(b["side"]) for b in batches.epoch(0)), rounds=3, warmup_rounds=1)
    if benchmark.enabled:
        rate(benchmark, samples)


@pytest.mark.parametrize("workers", [1, None])
def test_prepare_synthetic(benchmark, tmp_path: Path, workers: int | None) -> None:
    """Packing frames of RHD's layout: three PNG a frame decoded, cropped and written."""
    frames = synthetic.locate(Path("?count=200&seed=7"))
    places = iter(range(1000))

    def pack() -> int:
        place = tmp_path / str(next(places))
        fields = ("rgb", "depth", "mask")
        return len(
            prepare(
                registry().dataset("synthetic"),
                frames,
                "train",
                image_size=IMAGE_SIZE,
                fields=fields,
                workers=workers,
                cache=place,
            )
        )

    samples = benchmark.pedantic(pack, rounds=3)
    if benchmark.enabled:
        rate(benchmark, samples)
