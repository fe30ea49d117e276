"""What the readers of COCO-style JSON share: image tables, number lists, one record a hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from cvhpe.data.files import Array, reject, require_plausible


@dataclass(frozen=True, kw_only=True)
class HandAnnotation:
    """One annotated hand, as in :class:`cvhpe.plugin.sample.Sample`, float32 and mm; ``image`` is a file name."""

    image: str
    size: tuple[int, int] | None
    id: str
    side: int
    uv: Array
    xyz: Array | None
    visible: Array
    K: Array | None
    box: tuple[float, float, float, float] | None
    group: int


ImageTable = Mapping[int | str, tuple[dict[str, Any], int]]
"""Image id -> its entry and its place in the list."""


def image_table(content: Mapping[str, Any], file: Path) -> ImageTable:
    """Index the list ``images`` of an annotation file.

    Args:
        content: of the file.
        file: its path, for messages.

    Returns:
        The table.

    Raises:
        DataError: If an entry lacks its id or file name, or names a file outside the data set.
    """
    table = {}
    for number, entry in enumerate(content["images"]):
        name = entry.get("file_name") if isinstance(entry, dict) else None
        if not isinstance(name, str) or not isinstance(entry.get("id"), int | str):
            reject(file, f"image {number} needs 'id' and 'file_name'")
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\0" in name:
            reject(file, f"image {number} lies outside the data set: {name[:80]}")
        table[entry["id"]] = (entry, number)
    return table


def find_image(annotation: Any, label: str, table: ImageTable, file: Path) -> tuple[dict[str, Any], int]:
    """Find the image of an annotation.

    Args:
        annotation: an entry of the list ``annotations``.
        label: what to call it in messages.
        table: the images of the file.
        file: the annotation file, for messages.

    Returns:
        The image's entry and its place in the list.

    Raises:
        DataError: If the annotation names no image of the file.
    """
    key = annotation.get("image_id") if isinstance(annotation, dict) else None
    if not isinstance(key, int | str) or key not in table:
        reject(file, f"{label} names no image of the file: image_id {key!r:.40}")
    return table[key]


def image_size(image: Mapping[str, Any]) -> tuple[int, int] | None:
    """Width and height that an image's entry promises, if it does."""
    size = (image.get("width"), image.get("height"))
    return size if all(isinstance(s, int) for s in size) else None  # type: ignore[return-value]


def parse_array(file: Path, label: str, key: str, value: Any, shape: tuple[int, ...]) -> Array:
    """Convert a nested or flat list of numbers.

    Args:
        file: the annotation file, for messages.
        label: what to call the entry in messages.
        key: of the list.
        value: the list.
        shape: that the array must have.

    Returns:
        float64 of that shape.

    Raises:
        DataError: If the list has another size, or anything but plausible numbers.
    """
    try:
        array = np.array(value, np.float64)
    except (TypeError, ValueError, OverflowError):
        reject(file, f"{label}: {key!r} is not a list of numbers")
    if array.size != np.prod(shape):
        size = f"{shape[0]} joints of {shape[1]}" if len(shape) == 2 else f"{shape[0]}"
        reject(file, f"{label}: {key!r} has {array.size} numbers, expected {int(np.prod(shape))} ({size})")
    require_plausible(file, f"{label}: {key!r}", array)
    return array.reshape(shape)
