"""A small valid data set; ``FAULTS`` maps each conformance check to faulty versions of it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from cvhpe import DataError, DatasetSpec, Sample
from cvhpe.geometry.skeleton import permutation

K = np.array([[300.0, 0, 80], [0, 300, 60], [0, 0, 1]])


def hand(rng: np.random.Generator, side: int) -> np.ndarray:
    """A hand in mm, canonical order, palm to the camera, fingers spread and slightly bent."""
    xyz = np.zeros((21, 3))
    for finger, angle in enumerate(np.radians([50, 15, 0, -12, -25])):
        way = np.array([np.sin(angle) * (1 if side else -1), -np.cos(angle), 0.0])
        lengths = np.array([35, 35, 28, 22] if finger == 0 else [85, 40, 25, 20]) * rng.uniform(0.9, 1.1)
        xyz[1 + 4 * finger : 5 + 4 * finger] = np.cumsum(lengths)[:, None] * way
        xyz[1 + 4 * finger : 5 + 4 * finger, 2] = 0, -8, -20, -32
    return xyz + np.array([rng.uniform(-40, 40), 60, rng.uniform(400, 600)])


class Hands:
    """``count`` random hands; ``change`` modifies each sample."""

    layout = "freihand"
    root = "wrist"

    def __init__(self, count: int, change: Callable[[Sample, int], Sample] | None = None) -> None:
        self.count, self.change = count, change

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self.count:
            raise IndexError(index)
        rng = np.random.default_rng(index)
        xyz = hand(rng, index % 2)
        uv = xyz @ K.T
        sample = Sample(
            id=f"frame/{index:04d}",
            side=index % 2,
            joints3d_mm=xyz,
            joints2d_px=uv[:, :2] / uv[:, 2:],
            visible=np.ones(21, dtype=bool),
            K=K,
            images={"rgb": rng.integers(0, 255, (120, 160, 3), dtype=np.uint8)},
        )
        return sample if self.change is None else self.change(sample, index)


class OtherLayout(Hands):
    layout = "hand22"


class HoldsAFile(Hands):
    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.file = open(os.devnull)  # noqa: SIM115


class KnowsItsProcess(Hands):
    """Returns right samples only in the process that made it, like a shared file handle."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.process = os.getpid()

    def __getitem__(self, index: int) -> Sample:
        return super().__getitem__(index if os.getpid() == self.process else (index + 1) % self.count)


class Endless(Hands):
    def __getitem__(self, index: int) -> Sample:
        return super().__getitem__(index % self.count)


def open_hands(path: Path | None, split: str, *, make: Callable[[int], Hands] = Hands, count: int = 6) -> Hands:
    if path is None or not path.is_dir():
        raise DataError(f"{path}: no such folder; unpack the hands there")
    return make(count)


def open_anything(path: Path | None, split: str) -> Hands:
    return Hands(6)


def open_rudely(path: Path | None, split: str) -> Hands:
    assert path is not None
    os.listdir(path)
    return Hands(6)


VALID = DatasetSpec(
    name="hands", open=open_hands, layout="freihand", root="wrist", fields=("rgb", "joints2d", "joints3d")
)


def with_reader(make: Callable[[int], Hands]) -> DatasetSpec:
    return dataclasses.replace(VALID, open=partial(open_hands, make=make))


def with_change(change: Callable[[Sample, int], Sample]) -> DatasetSpec:
    return with_reader(partial(Hands, change=change))


def with_fields(**change: Callable[[Sample], object]) -> DatasetSpec:
    """The valid data set with some fields of every sample replaced."""
    return with_change(lambda s, _: dataclasses.replace(s, **{k: f(s) for k, f in change.items()}))


def with_thermal(make: Callable[[np.ndarray], np.ndarray]) -> DatasetSpec:
    """The valid data set with an additional image made from ``rgb``."""
    spec = with_fields(images=lambda s: {**s.images, "thermal": make(s.images["rgb"])})
    return dataclasses.replace(spec, fields=(*VALID.fields, "thermal"))


FAULTS: dict[str, list[DatasetSpec]] = {
    "splits_open": [
        dataclasses.replace(VALID, open=partial(open_hands, count=0)),
        dataclasses.replace(VALID, layout="rhd"),
        dataclasses.replace(VALID, layout=None, open=partial(open_hands, make=OtherLayout)),
    ],
    "samples_are_complete": [
        with_fields(id=lambda s: "frame"),
        with_fields(side=lambda s: "left"),
        with_fields(visible=lambda s: np.ones(21)),
        with_fields(images=lambda s: {}),
        with_fields(images=lambda s: {"rgb": s.images["rgb"] / 255}),
        with_fields(images=lambda s: {**s.images, "thermal": s.images["rgb"][..., 0]}),
        with_thermal(lambda rgb: rgb[..., 0].astype(np.float32)),
        with_thermal(lambda rgb: rgb[..., :2]),
        dataclasses.replace(VALID, fields=(*VALID.fields, "thermal")),
        with_fields(joints3d_mm=lambda s: s.joints3d_mm[:20]),
    ],
    "joints_are_in_mm": [
        with_fields(joints3d_mm=lambda s: s.joints3d_mm / 1000),
        with_fields(joints3d_mm=lambda s: s.joints3d_mm / 10),
        with_fields(joints3d_mm=lambda s: -s.joints3d_mm),
    ],
    "joint_order_is_the_layouts": [
        with_fields(joints3d_mm=lambda s: s.joints3d_mm[list(permutation("freihand", "stb"))]),
        with_fields(joints3d_mm=lambda s: s.joints3d_mm[list(permutation("freihand", "rhd"))]),
        with_fields(joints3d_mm=lambda s: s.joints3d_mm[list(permutation("freihand", "fphab"))]),
    ],
    "hand_sides_are_right": [
        with_fields(side=lambda s: 1 - s.side),
        with_fields(joints3d_mm=lambda s: s.joints3d_mm * [-1, 1, 1]),
    ],
    "joints_project_onto_the_image": [
        with_fields(joints2d_px=lambda s: s.joints2d_px + 5),
        with_fields(joints2d_px=lambda s: s.joints2d_px[:, ::-1]),
    ],
    "reading_is_repeatable": [with_change(lambda s, _: dataclasses.replace(s, side=int(np.random.rand() * 2**30) % 2))],  # noqa: NPY002
    "workers_may_share_it": [with_reader(HoldsAFile), with_reader(KnowsItsProcess)],
    "mistakes_are_named": [
        dataclasses.replace(VALID, open=open_anything),
        dataclasses.replace(VALID, open=open_rudely),
        with_reader(Endless),
    ],
}
