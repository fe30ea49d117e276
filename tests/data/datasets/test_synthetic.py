"""The data set that needs no path: made once, found again, the same as a folder that was written by hand."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from cvhpe.data.datasets import synthetic
from cvhpe.data.packing.prepare import prepare
from cvhpe.errors import DataError
from cvhpe.plugin.registry import registry
from cvhpe.synthetic import generate


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVHPE_CACHE", str(tmp_path / "cache"))


def test_rendered_once_and_packed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = registry().dataset("synthetic")
    asked = Path("?count=10&seed=3")
    seen: list[tuple[int, int]] = []
    first = prepare(
        spec, asked, "train", image_size=32, fields=("rgb", "mask"), progress=lambda *at: seen.append(at)
    )  # fmt: skip
    assert seen[-1][1] == len(first) >= 9
    assert first["rgb"].std() > 10
    assert first.layout == "hand21"
    frames = [*(tmp_path / "cache" / "synthetic").glob("*/frames/training/color/*.png")]
    assert len(frames) == 9
    monkeypatch.chdir(tmp_path)  # where the run starts is no part of what the data is

    def never(*args: object, **more: object) -> None:
        raise AssertionError("rendered again")

    monkeypatch.setattr("cvhpe.synthetic.generate", never)
    assert prepare(spec, asked, "train", image_size=32, fields=("rgb", "mask")).path == first.path
    assert len(spec.open(asked, "test")) == 1
    assert sorted(p.name for p in (tmp_path / "cache" / "synthetic").iterdir() if p.suffix == ".part") == []


def test_a_folder_of_frames_is_read_where_it_is(tmp_path: Path) -> None:
    generate(tmp_path / "mine", 10, 3, workers=1)
    mine = synthetic.Synthetic(tmp_path / "mine", "test")
    cached = synthetic.Synthetic(Path("?count=10&seed=3"), "test")
    np.testing.assert_array_equal(mine[0].images["rgb"], cached[0].images["rgb"])
    assert not os.path.exists(tmp_path / "mine" / "frames")


def test_wrong_options_are_one_line() -> None:
    with pytest.raises(DataError, match="count=many must be a whole number"):
        synthetic.locate(Path("?count=many"))
    with pytest.raises(DataError, match="size"):
        synthetic.locate(Path("?size=64"))
    with pytest.raises(DataError, match="cannot be divided"):
        synthetic.locate(Path("?count=1"))
