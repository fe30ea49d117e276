"""Files cut anywhere, padded, and with their ending in capitals."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image

from cvhpe.io.image_integrity import ends_well


def picture(kind: str, **options) -> bytes:
    rng = np.random.default_rng(0)
    stream = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8)).save(stream, kind, **options)
    return stream.getvalue()


def binary(width=6, height=4) -> bytes:
    return struct.pack("<6I", 320, 240, 10, 20, 10 + width, 20 + height) + bytes(4 * width * height)


def with_thumbnail() -> bytes:
    """A JPEG whose header holds another whole JPEG, as cameras write it."""
    whole, small = picture("JPEG"), picture("JPEG", quality=10)
    return whole[:2] + b"\xff\xe1" + struct.pack(">H", len(small) + 2) + small + whole[2:]


WHOLE = {
    "a.png": picture("PNG"),
    "A.PNG": picture("PNG"),
    "a.jpg": picture("JPEG"),
    "a.JPG": picture("JPEG"),
    "progressive.Jpeg": picture("JPEG", progressive=True),
    "restarts.jpg": picture("JPEG", restart_marker_rows=1),
    "thumbnail.jpg": with_thumbnail(),
    "000000_depth.bin": binary(),
    "000000_DEPTH.BIN": binary(),
}


@pytest.mark.parametrize("name", WHOLE)
def test_whole_files_end_well_and_every_cut_shows(tmp_path, name) -> None:
    file, whole = tmp_path / name, WHOLE[name]
    file.write_bytes(whole)
    assert ends_well(file)
    cuts = {0, 1, 2, 8, 12, 23, 24, len(whole) // 3, len(whole) // 2, *range(len(whole) - 20, len(whole))}
    for length in sorted(cuts):
        file.write_bytes(whole[:length])
        assert ends_well(file) is False, length


@pytest.mark.parametrize("padding", [b"\0", b"\0" * 4096, b"\xff\xd8 and then some", b"\n"])
@pytest.mark.parametrize("name", [n for n in WHOLE if "depth" not in n.lower()])
def test_bytes_after_the_end_are_no_fault(tmp_path, name, padding) -> None:
    file, whole = tmp_path / name, WHOLE[name]
    file.write_bytes(whole + padding)
    assert ends_well(file)
    Image.open(file).load()  # what reads it agrees
    file.write_bytes(whole[: len(whole) // 2] + padding)
    assert ends_well(file) is False


def test_a_bin_has_exactly_its_box(tmp_path) -> None:
    file = tmp_path / "a.bin"
    file.write_bytes(binary() + b"\0")
    assert ends_well(file) is False


def test_what_is_not_there_or_not_known(tmp_path) -> None:
    assert ends_well(tmp_path / "none.png") is None
    (tmp_path / "a.webp").write_bytes(b"x")
    assert ends_well(tmp_path / "a.webp")
    (tmp_path / "b.webp").touch()
    assert ends_well(tmp_path / "b.webp") is False
    (tmp_path / "text.png").write_bytes(b"no picture at all")
    assert ends_well(tmp_path / "text.png") is False
