"""What every data set gives: :class:`Sample`, in the data set's own joint order, with units in the names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from cvhpe.io.progress import ProgressCallback

Array = np.ndarray


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One hand in one frame.

    Args:
        id: unique in its data set and split, e.g. ``"training/00012:left"``; names the sample in errors.
        side: 0 left, 1 right (a flip of the image swaps it).
        joints3d_mm: ``(J, 3)`` camera frame, x right, y down, z forward; NaN if not labelled.
        joints2d_px: ``(J, 2)`` in the frame's pixels, centre of the top-left pixel (0, 0); NaN if not labelled.
        visible: ``(J,)`` bool.
        K: ``(3, 3)`` intrinsics of the frame.
        images: ``rgb`` uint8 ``(H, W, 3)``; ``depth`` float32 ``(H, W)`` mm, 0 = no measurement; ``mask`` uint8
            ``(H, W)``, 0 = not this hand; and any that data-set plugins add.
        box: x, y, width, height of the hand in pixels, if the data set gives one.
        group: samples that a split must not separate (a sequence, a pose cluster, a subject); -1 unknown.
    """

    id: str
    side: int
    joints3d_mm: Array | None = None
    joints2d_px: Array | None = None
    visible: Array | None = None
    K: Array | None = None
    images: Mapping[str, Array] = field(default_factory=dict)
    box: tuple[float, float, float, float] | None = None
    group: int = -1


class Dataset(Protocol):
    """One split of a data set; a sample depends on its index only.

    Attributes:
        layout: name of the joint layout in :mod:`cvhpe.geometry.skeleton`.
        root: ``"wrist"`` or ``"palm"``: what the root joint of the labels is.
    """

    layout: str
    root: str

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


@dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """What ``cvhpe_datasets()`` returns: how a data set is located and opened.

    Args:
        name: as in ``--data NAME:PATH``.
        open: ``(path, split) -> Dataset``; ``path`` is None if the user gives none; ``split`` is one of ``splits``.
            Raises ``cvhpe.errors.DataError`` in one line that names the file.
        layout: name of the joint layout in :mod:`cvhpe.geometry.skeleton`; None if the files determine it.
        root: ``"wrist"`` or ``"palm"``: what the root joint of the labels is.
        fields: what its samples carry: rgb, depth, mask, joints2d, joints3d and any other images.
        splits: in order: train, then the held-out ones.
        crop: ``"joints"``: the square around the 2D joints; ``"cube"``: a cube of mm around the hand.
        published: split -> number of samples in the complete data set, for ``data verify``.
        about: one line for ``data list``.
        needs_path: whether the user must give a path.
        locate: ``(path, progress) -> path``: the folder to open, for data sets that are downloaded or made first;
            ``progress`` is called with (done, total), or None.
        api: version of this contract.
    """

    name: str
    open: Callable[[Path | None, str], Dataset]
    layout: str | None
    root: str
    fields: tuple[str, ...]
    splits: tuple[str, ...] = ("train", "test")
    crop: str = "joints"
    published: Mapping[str, int] = field(default_factory=dict)
    about: str = ""
    needs_path: bool = True
    locate: Callable[[Path | None, ProgressCallback | None], Path] | None = None
    api: int = 1
