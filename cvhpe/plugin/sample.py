"""What every data set gives: :class:`Sample`, in the data set's own joint order, units named."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

Array = np.ndarray


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One hand in one frame.

    id: unique in its data set and split, e.g. ``"training/00012:left"``; names the frame in errors.
    side: 0 left, 1 right (a flip of the picture swaps it).
    joints3d_mm: ``(J, 3)`` camera frame, x right, y down, z forward; NaN where not labelled.
    joints2d_px: ``(J, 2)`` in the frame's pixels, centre of the top-left pixel (0, 0); NaN where not labelled.
    visible: ``(J,)`` bool.
    K: ``(3, 3)`` intrinsics of the frame.
    images: ``rgb`` uint8 (H, W, 3); ``depth`` float32 (H, W) mm, 0 = no measurement; ``mask`` uint8
        (H, W), 0 = not this hand; and what other data-set plugins bring.
    box: x, y, width, height of the hand in pixels, where the data set gives one.
    group: what must not be torn apart by a split (a sequence, a pose cluster, a subject); -1 unknown.
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
    """One split of a data set; reading a sample depends on nothing but its index."""

    layout: str
    root: str

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


@dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """What ``cvhpe_datasets()`` returns: how a data set is found and opened.

    name: as in ``--data NAME:PATH``.
    open: ``(path, split) -> Dataset``; ``path`` is None where the user gave none; ``split`` is one of
        ``splits``. Raises ``cvhpe.errors.DataError`` in one line that names the file.
    layout: name of the native joint layout in ``cvhpe.geometry.skeleton``; None where the file says it.
    root: ``"wrist"`` or ``"palm"``: what the root joint of the labels is.
    fields: what its samples carry, out of rgb, depth, mask, joints2d, joints3d and the images of others.
    splits: in order: train, then what is held out.
    crop: ``"joints"``: the square around the 2D joints; ``"cube"``: a cube of mm around the hand.
    published: split -> number of samples in the complete data set, for ``data verify``.
    locate: ``(path, progress) -> path``: where the data really lies, for those that download or make it
        first; ``progress`` is called with (done, all), or None.
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
    locate: Callable[[Path | None, Callable[[int, int], None] | None], Path] | None = None
    api: int = 1
