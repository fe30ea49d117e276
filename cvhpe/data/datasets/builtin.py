"""The data sets that come with cvhpe, registered through the hook that outsiders use.

A reader's module is imported when its data set is opened, not before: ``cvhpe data list`` reads none.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from cvhpe.plugin.registry import hookimpl
from cvhpe.plugin.sample import Dataset, DatasetSpec


def _lazily(module: str, function: str) -> Callable[[Path | None, str], Dataset]:
    def open_(path: Path | None, split: str) -> Dataset:
        dataset: Dataset = getattr(import_module(f"cvhpe.data.datasets.{module}"), function)(path, split)
        return dataset

    return open_


@hookimpl
def cvhpe_datasets() -> list[DatasetSpec]:
    """Every built-in data set; sample counts are those of the complete, published one."""
    from cvhpe.data.datasets import joints_npz, rhd, synthetic

    return [
        synthetic.spec(),
        rhd.spec(),
        DatasetSpec(
            name="stb",
            open=_lazily("stb", "open_bb"),
            layout="stb",
            root="palm",
            fields=("rgb", "joints2d", "joints3d"),
            published={"train": 30_000, "test": 6_000},
            about="STB, both stereo views; B1 tests, B2 to B6 train",
        ),
        DatasetSpec(
            name="stb-sk",
            open=_lazily("stb", "open_sk"),
            layout="stb",
            root="palm",
            fields=("rgb", "depth", "joints2d", "joints3d"),
            published={"train": 15_000, "test": 3_000},
            about="STB, the F200's colour with its depth registered to it; same split",
        ),
        DatasetSpec(
            name="icvl",
            open=_lazily("icvl", "open_icvl"),
            layout="icvl16",
            root="palm",
            fields=("depth", "joints2d", "joints3d"),
            crop="cube",
            published={"train": 331_006, "test": 1_596},
            about="ICVL depth, 16 joints; train holds its turned copies",
        ),
        DatasetSpec(
            name="nyu",
            open=_lazily("nyu", "open_nyu"),
            layout="nyu14",
            root="palm",
            fields=("rgb", "depth", "joints2d", "joints3d"),
            crop="cube",
            published={"train": 72_757, "test": 8_252},
            about="NYU depth, 14 of 36 joints, view 1; ?views=123 for all three",
        ),
        DatasetSpec(
            name="msra",
            open=_lazily("msra", "open_msra"),
            layout="msra",
            root="wrist",
            fields=("depth", "joints2d", "joints3d"),
            crop="cube",
            published={"train": 67_876, "test": 8_499},
            about="MSRA15 depth; leaves subject 0 out, ?subject=K another",
        ),
        DatasetSpec(
            name="freihand",
            open=_lazily("freihand", "open_freihand"),
            layout="freihand",
            root="wrist",
            fields=("rgb", "mask", "joints2d", "joints3d"),
            published={"train": 130_240, "test": 3_960},
            about="FreiHAND v2, four versions of every training pose",
        ),
        DatasetSpec(
            name="coco",
            open=_lazily("coco", "open_coco"),
            layout=None,
            root="wrist",
            fields=("rgb", "joints2d", "joints3d"),
            about="COCO-style hand JSON with pictures: your own data, mmpose's sets, InterHand2.6M",
        ),
        joints_npz.spec(),
    ]
