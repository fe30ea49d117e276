from __future__ import annotations

import os
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cvhpe.data import files
from cvhpe.errors import DataError


def test_an_archive_is_named_as_one(tmp_path) -> None:
    archive = tmp_path / "RHD"
    with zipfile.ZipFile(archive, "w") as z:
        z.writestr("a", "b")
    with pytest.raises(DataError, match=r"RHD: is a packed archive; unpack it and give the folder: --data rhd:FOLDER"):
        files.existing_folder(archive, "rhd")
    (tmp_path / "set.tar.gz").write_bytes(b"x")
    with pytest.raises(DataError, match="packed archive"):
        files.existing_folder(tmp_path / "set.tar.gz", "stb")
    with pytest.raises(DataError, match="no such folder"):
        files.existing_folder(tmp_path / "nowhere", "stb")
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="is a file; data set 'stb' needs the folder"):
        files.existing_folder(tmp_path / "file", "stb")
    assert files.existing_folder(tmp_path, "stb") == tmp_path


def test_images_are_what_they_promise(tmp_path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4)).save(path)
    assert files.decode_image(path, "RGB").shape == (3, 4, 3)
    assert files.decode_image(path, "L", (4, 3))[2, 3] == 11
    with pytest.raises(DataError, match=r"a\.png: is 4x3 px, expected 320x320"):
        files.decode_image(path, "RGB", (320, 320))
    with pytest.raises(DataError, match="one 16-bit channel"):
        files.decode_image(path, "I;16")
    Image.fromarray(np.array([[40000]], np.uint16)).save(path)
    assert files.decode_image(path, "I;16")[0, 0] == 40000
    with pytest.raises(DataError, match="is not a file"):
        files.decode_image(tmp_path, "RGB")


@pytest.mark.filterwarnings("error")  # Pillow warns of the smaller one
@pytest.mark.parametrize("side", [30_000, 10_000])
def test_a_huge_image_is_refused_by_its_header(tmp_path, side) -> None:
    """30,000 x 30,000 pixels in a few bytes: nothing of that size may be allocated."""
    import struct
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    body = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"0")) + chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(body)
    with pytest.raises(DataError, match=r"bomb\.png: "):
        files.decode_image(tmp_path / "bomb.png", "RGB")


def test_a_mat_that_announces_more_than_it_may_hold(tmp_path) -> None:
    import scipy.io

    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"handPara": np.zeros((3, 21, 4))})
    raw = bytearray(path.read_bytes())
    at = raw.index(np.array([3, 21, 4], "<i4").tobytes())
    raw[at + 8 : at + 12] = np.array([2**30], "<i4").tobytes()
    path.write_bytes(raw)
    with pytest.raises(DataError, match="larger than any that was published"):
        files.read_mat(path, {"handPara": (3, 21, None)})
    path.write_bytes(b"MATLAB 7.3 MAT-file" + b" " * 105 + b"\x00\x02IM" + b"x" * 400)
    with pytest.raises(DataError, match=r"a\.mat: "):
        files.read_mat(path, {"handPara": (3, 21, None)})


@settings(max_examples=80, deadline=None)
@given(
    at=st.integers(0, 10**6), cut=st.booleans(), byte=st.integers(0, 255), kind=st.sampled_from(["png", "jpg", "mat"])
)
def test_damaged_files_give_data_errors_or_data(tmp_path_factory, at, cut, byte, kind) -> None:
    """Whatever one flipped byte or a cut does to a file, the reader reads it or says so in one line."""
    import scipy.io

    base = tmp_path_factory.getbasetemp()
    good, bad = base / f"good.{kind}", base / f"bad.{kind}"
    if not good.exists():
        if kind == "mat":
            scipy.io.savemat(good, {"handPara": np.arange(3 * 21 * 2.0).reshape(3, 21, 2)}, do_compression=True)
        else:
            Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 20, 3), dtype=np.uint8)).save(good)
    raw = bytearray(good.read_bytes())
    at %= len(raw)
    if cut:
        raw = raw[:at]
    else:
        raw[at] = byte
    bad.write_bytes(raw)
    message, shape = "", ()
    try:
        if kind == "mat":
            shape = files.read_mat(bad, {"handPara": (3, 21, None)})["handPara"].shape[:2]
        else:
            shape = files.decode_image(bad, "RGB", (20, 20)).shape
    except DataError as error:
        message = str(error)
    assert shape == ((3, 21) if kind == "mat" else (20, 20, 3)) or message.startswith(f"{bad}: ")
    assert "\n" not in message


def test_what_is_no_regular_file(tmp_path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("this platform has no pipes to try")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="pipe: is not a file"):
        files.read_text(tmp_path / "pipe")
    with pytest.raises(DataError, match="pipe: is not a file"):
        files.decode_image(tmp_path / "pipe", "RGB")


@given(
    st.lists(st.lists(st.floats(-1e6, 1e6, width=32), min_size=3, max_size=3), min_size=1, max_size=5),
    st.sampled_from(["", "x", "1", "nan", "inf", "1e999", "2,5", "--1", "1_0", "0x1"]),
    st.integers(0, 4),
)
def test_a_table_is_what_its_lines_are(rows, odd, at) -> None:
    """The quick way and the line-by-line one read the same numbers, and refuse the same lines."""
    from pathlib import Path

    lines = [(n, " ".join(map(repr, row))) for n, row in enumerate(rows, 1)]
    assert np.array_equal(files.read_table(Path("t"), lines, 3), np.array(rows))
    if odd and at < len(lines):
        number, line = lines[at]
        lines[at] = (number, " ".join([*line.split()[:2], odd]))
        try:
            expected = files.read_table(Path("t"), [lines[at]], 3)[0]
        except DataError:
            with pytest.raises(DataError, match=f"t: line {number} "):
                files.read_table(Path("t"), lines, 3)
        else:
            assert np.array_equal(files.read_table(Path("t"), lines, 3)[at], expected)
