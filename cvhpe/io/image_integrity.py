"""Does a picture file end as its format ends? Detection from a few of its bytes, without decoding the picture."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import BinaryIO

JPEG = (".jpg", ".jpeg")
_BIN_HEADER = struct.Struct("<6I")
_JPEG_MARKER = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]")
"""The next marker after compressed data, in which a byte 255 is followed by 0 or a restart marker."""


def ends_well(path: Path) -> bool | None:
    """Whether a picture file has its format's end; None where there is no file.

    PNG, JPEG and MSRA's ``.bin`` are known, whatever the case of their ending; of others any byte will do. Bytes
    after the end are no fault: cameras, copies and archives append some, and every decoder ignores them.
    """
    try:
        with path.open("rb") as f:
            size = f.seek(0, 2)
            f.seek(0)
            ending = path.suffix.lower()
            if ending == ".png":
                return _png(f, size)
            if ending in JPEG:
                return _jpeg(f, size)
            if ending == ".bin":
                return _bin(f.read(_BIN_HEADER.size), size)
            return size > 0
    except OSError:
        return None


def _png(f: BinaryIO, size: int) -> bool:
    if f.read(8) != b"\x89PNG\r\n\x1a\n":
        return False
    f.seek(max(size - 12, 0))
    if f.read(12)[4:8] == b"IEND":
        return True
    at = 8
    while at + 12 <= size:
        f.seek(at)
        length, kind = struct.unpack(">I4s", f.read(8))
        at += 12 + length
        if kind == b"IEND":
            return at <= size
    return False


def _jpeg(f: BinaryIO, size: int) -> bool:
    if f.read(2) != b"\xff\xd8":
        return False
    f.seek(max(size - 2, 2))
    if f.read(2) == b"\xff\xd9":
        return True
    # The end of a thumbnail in the header is not the picture's, so go from marker to marker.
    f.seek(0)
    data, at = f.read(), 2
    while found := _JPEG_MARKER.search(data, at):
        at = found.end()
        if data[at - 1] == 0xD9:
            return True
        at += int.from_bytes(data[at : at + 2], "big")
    return False


def _bin(head: bytes, size: int) -> bool:
    """SampleScaling, height, left, top, right, bottom; then a float32 for every pixel of the box."""
    if len(head) < _BIN_HEADER.size:
        return False
    _, _, left, top, right, bottom = _BIN_HEADER.unpack(head)
    return size == _BIN_HEADER.size + 4 * (right - left) * (bottom - top)
