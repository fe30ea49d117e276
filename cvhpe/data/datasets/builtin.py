"""The data sets that come with cvhpe, registered through the same hook as those of plugins.

A reader's module is imported when its data set is opened, not before: ``cvhpe data list`` imports none.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

from cvhpe.plugin.registry import hookimpl
from cvhpe.plugin.sample import DatasetSpec


def _lazy(function: str) -> Callable[..., Any]:
    """``"module.function"`` of this package, imported at the first call."""
    return partial(_call, *function.split("."))


def _call(module: str, function: str, *args: Any) -> Any:
    return getattr(import_module(f"cvhpe.data.datasets.{module}"), function)(*args)


@hookimpl
def cvhpe_datasets() -> list[DatasetSpec]:
    """Every built-in data set; sample counts are those of the complete, published one."""
    return [
        DatasetSpec(
            name="synthetic",
            open=_lazy("synthetic.Synthetic"),
            locate=_lazy("synthetic.locate"),
            layout="rhd",
            root="wrist",
            fields=("rgb", "depth", "mask", "joints2d", "joints3d"),
            about="rendered hands, made when first needed and kept; every label exact",
            needs_path=False,
        ),
        DatasetSpec(
            name="rhd",
            open=_lazy("rhd.Rhd"),
            layout="rhd",
            root="wrist",
            fields=("rgb", "depth", "mask", "joints2d", "joints3d"),
            published={"test": 2_728},
            about="rendered hands of Zimmermann & Brox; both hands train, the dominant one is scored",
        ),
        DatasetSpec(
            name="stb",
            open=_lazy("stb.StbStereo"),
            layout="stb",
            root="palm",
            fields=("rgb", "joints2d", "joints3d"),
            published={"train": 30_000, "test": 6_000},
            about="STB, both stereo views; B1 tests, B2 to B6 train",
        ),
        DatasetSpec(
            name="stb-sk",
            open=_lazy("stb.StbDepth"),
            layout="stb",
            root="palm",
            fields=("rgb", "depth", "joints2d", "joints3d"),
            published={"train": 15_000, "test": 3_000},
            about="STB, the F200's colour with its depth registered to it; same split",
        ),
        DatasetSpec(
            name="icvl",
            open=_lazy("icvl.Icvl"),
            layout="icvl16",
            root="palm",
            fields=("depth", "joints2d", "joints3d"),
            crop="cube",
            published={"train": 331_006, "test": 1_596},
            about="ICVL depth, 16 joints; train holds its rotated copies",
        ),
        DatasetSpec(
            name="nyu",
            open=_lazy("nyu.Nyu"),
            layout="nyu14",
            root="palm",
            fields=("rgb", "depth", "joints2d", "joints3d"),
            crop="cube",
            published={"train": 72_757, "test": 8_252},
            about="NYU depth, 14 of 36 joints, view 1; ?views=123 for all three",
        ),
        DatasetSpec(
            name="msra",
            open=_lazy("msra.Msra"),
            layout="msra",
            root="wrist",
            fields=("depth", "joints2d", "joints3d"),
            crop="cube",
            published={"train": 67_876, "test": 8_499},
            about="MSRA15 depth; leaves subject 0 out, ?subject=K another",
        ),
        DatasetSpec(
            name="freihand",
            open=_lazy("freihand.FreiHand"),
            layout="freihand",
            root="wrist",
            fields=("rgb", "mask", "joints2d", "joints3d"),
            published={"train": 130_240, "test": 3_960},
            about="FreiHAND v2, four versions of every training pose",
        ),
        DatasetSpec(
            name="coco",
            open=_lazy("coco.Coco"),
            layout=None,
            root="wrist",
            fields=("rgb", "joints2d", "joints3d"),
            about="COCO-style hand JSON with images: your own data, mmpose's sets, InterHand2.6M",
        ),
        DatasetSpec(
            name="joints",
            open=_lazy("joints_npz.JointsFile"),
            layout=None,
            root="wrist",
            fields=("joints2d", "joints3d"),
            splits=("train", "val", "test", "all"),
            about="one .npz of 2D and 3D joints, in a layout it names",
        ),
    ]
