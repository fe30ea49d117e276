"""Image files cut anywhere, padded, and with their suffix in capitals."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image

from cvhpe.io.image_integrity import is_complete_image


def encoded(kind: str, **options) -> bytes:
    rng = np.random.default_rng(0)
    stream = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8)).save(stream, kind, **options)
    return stream.getvalue()


def msra_bin(width=6, height=4) -> bytes:
    return struct.pack("<6I", 320, 240, 10, 20, 10 + width, 20 + height) + bytes(4 * width * height)


def with_thumbnail() -> bytes:
    """A JPEG whose header holds another complete JPEG, as cameras write it."""
    outer, small = encoded("JPEG"), encoded("JPEG", quality=10)
    return outer[:2] + b"\xff\xe1" + struct.pack(">H", len(small) + 2) + small + outer[2:]


COMPLETE = {
    "a.png": encoded("PNG"),
    "A.PNG": encoded("PNG"),
    "a.jpg": encoded("JPEG"),
    "a.JPG": encoded("JPEG"),
    "progressive.Jpeg": encoded("JPEG", progressive=True),
    "restarts.jpg": encoded("JPEG", restart_marker_rows=1),
    "thumbnail.jpg": with_thumbnail(),
    "000000_depth.bin": msra_bin(),
    "000000_DEPTH.BIN": msra_bin(),
}


@pytest.mark.parametrize("name", COMPLETE)
def test_complete_files_pass_and_every_cut_shows(tmp_path, name) -> None:
    file, content = tmp_path / name, COMPLETE[name]
    file.write_bytes(content)
    assert is_complete_image(file)
    cuts = {0, 1, 2, 8, 12, 23, 24, len(content) // 3, len(content) // 2, *range(len(content) - 20, len(content))}
    for length in sorted(cuts):
        file.write_bytes(content[:length])
        assert is_complete_image(file) is False, length


@pytest.mark.parametrize("padding", [b"\0", b"\0" * 4096, b"\xff\xd8 and then some", b"\n"])
@pytest.mark.parametrize("name", [n for n in COMPLETE if "depth" not in n.lower()])
def test_bytes_after_the_end_are_accepted(tmp_path, name, padding) -> None:
    file, content = tmp_path / name, COMPLETE[name]
    file.write_bytes(content + padding)
    assert is_complete_image(file)
    Image.open(file).load()  # Pillow accepts it
    file.write_bytes(content[: len(content) // 2] + padding)
    assert is_complete_image(file) is False


def test_a_bin_has_exactly_its_rectangle(tmp_path) -> None:
    file = tmp_path / "a.bin"
    file.write_bytes(msra_bin() + b"\0")
    assert is_complete_image(file) is False


def test_missing_and_unknown_files(tmp_path) -> None:
    assert is_complete_image(tmp_path / "none.png") is None
    (tmp_path / "a.webp").write_bytes(b"x")
    assert is_complete_image(tmp_path / "a.webp")
    (tmp_path / "b.webp").touch()
    assert is_complete_image(tmp_path / "b.webp") is False
    (tmp_path / "text.png").write_bytes(b"no image at all")
    assert is_complete_image(tmp_path / "text.png") is False
