"""What COCO-style annotation files share: image tables, number lists, one record a hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from cvhpe.data.files import Array, fail, need_sensible


@dataclass(frozen=True, kw_only=True)
class Hand:
    """One annotated hand; arrays as in :class:`Sample`, in float32 and mm."""

    picture: str
    size: tuple[int, int] | None
    id: str
    side: int
    uv: Array
    xyz: Array | None
    visible: Array
    K: Array | None
    box: tuple[float, float, float, float] | None
    group: int


def picture_table(content: Mapping[str, Any], file: Path) -> dict[Any, tuple[dict[str, Any], int]]:
    """Picture id -> its entry, and its place in the list; file names that leave the folder are refused."""
    table = {}
    for number, entry in enumerate(content["images"]):
        name = entry.get("file_name") if isinstance(entry, dict) else None
        if not isinstance(name, str) or not isinstance(entry.get("id"), int | str):
            fail(file, f"image {number} needs 'id' and 'file_name'")
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\0" in name:
            fail(file, f"image {number} lies outside the data set: {name[:80]}")
        table[entry["id"]] = (entry, number)
    return table


def picture_of(
    annotation: Any, what: str, table: Mapping[Any, tuple[dict[str, Any], int]], file: Path
) -> tuple[dict[str, Any], int]:
    """The entry of :func:`picture_table` that an annotation is about."""
    key = annotation.get("image_id") if isinstance(annotation, dict) else None
    if not isinstance(key, int | str) or key not in table:
        fail(file, f"{what} names no picture of the file: image_id {key!r:.40}")
    return table[key]


def picture_size(picture: Mapping[str, Any]) -> tuple[int, int] | None:
    """SampleScaling and height that the file promises, where it does."""
    size = (picture.get("width"), picture.get("height"))
    return size if all(isinstance(s, int) for s in size) else None  # type: ignore[return-value]


def numbers(file: Path, what: str, key: str, value: Any, shape: tuple[int, ...]) -> Array:
    """A nested or flat list as finite float64 numbers of a shape."""
    try:
        array = np.array(value, np.float64)
    except (TypeError, ValueError, OverflowError):
        fail(file, f"{what}: {key!r} is not a list of numbers")
    if array.size != np.prod(shape):
        of = f"{shape[0]} joints of {shape[1]}" if len(shape) == 2 else f"{shape[0]}"
        fail(file, f"{what}: {key!r} has {array.size} numbers, expected {int(np.prod(shape))} ({of})")
    need_sensible(file, f"{what}: {key!r}", array)
    return array.reshape(shape)
