"""Check that an image file is not truncated, from a few of its bytes and without decoding it."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import BinaryIO

_BIN_HEADER = struct.Struct("<6I")
_JPEG_MARKER = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]")
"""The next marker after compressed data, in which a byte 255 is followed by 0 or a restart marker."""


def is_complete_image(path: Path) -> bool | None:
    """Whether an image file has its format's end; None if there is no file.

    PNG, JPEG and MSRA's ``.bin`` are known, whatever the case of their suffix; of other formats any non-empty file
    will do. Bytes after the end are accepted: cameras, copies and archives append some, and every decoder ignores them.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            suffix = path.suffix.lower()
            if suffix == ".png":
                return _is_complete_png(file, size)
            if suffix in (".jpg", ".jpeg"):
                return _is_complete_jpeg(file, size)
            if suffix == ".bin":
                return _is_complete_bin(file.read(_BIN_HEADER.size), size)
            return size > 0
    except OSError:
        return None


def _is_complete_png(file: BinaryIO, size: int) -> bool:
    if file.read(8) != b"\x89PNG\r\n\x1a\n":
        return False
    file.seek(max(size - 12, 0))
    if file.read(12)[4:8] == b"IEND":
        return True
    at = 8
    while at + 12 <= size:
        file.seek(at)
        length, kind = struct.unpack(">I4s", file.read(8))
        at += 12 + length
        if kind == b"IEND":
            return at <= size
    return False


def _is_complete_jpeg(file: BinaryIO, size: int) -> bool:
    if file.read(2) != b"\xff\xd8":
        return False
    file.seek(max(size - 2, 2))
    if file.read(2) == b"\xff\xd9":
        return True
    # A thumbnail in the header has an end of its own, so go from marker to marker.
    file.seek(0)
    data, at = file.read(), 2
    while marker := _JPEG_MARKER.search(data, at):
        at = marker.end()
        if data[at - 1] == 0xD9:
            return True
        at += int.from_bytes(data[at : at + 2], "big")
    return False


def _is_complete_bin(header: bytes, size: int) -> bool:
    """Width, height, left, top, right, bottom; then a float32 for every pixel of the rectangle."""
    if len(header) < _BIN_HEADER.size:
        return False
    _, _, left, top, right, bottom = _BIN_HEADER.unpack(header)
    return size == _BIN_HEADER.size + 4 * (right - left) * (bottom - top)
