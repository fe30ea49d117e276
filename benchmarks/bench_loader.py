"""How fast batches are read from packs, and data sets are packed.

    pytest benchmarks/bench_loader.py --benchmark-enable

``samples_per_second`` stands among the extra columns of the JSON (``--benchmark-json``) and is printed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.packs import write_pack

from cvhpe.data.datasets import synthetic
from cvhpe.data.loader import Batches
from cvhpe.data.packing.crops import CropOptions
from cvhpe.data.packing.pack import Pack
from cvhpe.data.packing.prepare import prepare
from cvhpe.plugin.registry import registry

SAMPLES = 6000
IMAGE_SIZE = 128
BATCH = 64


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    """A pack of noise: 6,000 images for a network that sees 128x128, stored with their margin at 192x192."""
    size = CropOptions(image_size=IMAGE_SIZE).stored
    noise = np.random.default_rng(0).integers(0, 256, (100, size, size, 3), np.uint8)
    rgb = np.resize(noise, (SAMPLES, size, size, 3))
    return write_pack(tmp_path_factory.mktemp("packs") / "noise", SAMPLES, size=size, arrays={"rgb": rgb})


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
    caches = iter(range(1000))

    def pack() -> int:
        cache = tmp_path / str(next(caches))
        options = {"image_size": IMAGE_SIZE, "fields": ("rgb", "depth", "mask"), "workers": workers, "cache": cache}
        return len(prepare(registry().dataset("synthetic"), frames, "train", **options))

    samples = benchmark.pedantic(pack, rounds=3)
    if benchmark.enabled:
        rate(benchmark, samples)
