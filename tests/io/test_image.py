"""Photographs and videos as they come: turned, grey, broken, missing."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cvhpe.errors import DataError, UserError
from cvhpe.io.image import as_picture, gather, is_video, read_picture, stems
from cvhpe.io.video import frame_rate, frames, writing_video


def shaded(height=40, width=60):
    return np.stack(np.broadcast_arrays(np.arange(width), np.arange(height)[:, None], 7), -1).astype(np.uint8)


def test_a_turned_photograph_is_turned_upright(tmp_path):
    picture = shaded()
    exif = Image.Exif()
    exif[0x0112] = 6  # what is stored must be turned a quarter clockwise
    Image.fromarray(np.rot90(picture).copy()).save(tmp_path / "x.png", exif=exif)
    np.testing.assert_array_equal(read_picture(tmp_path / "x.png"), picture)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_every_kind_of_colour_becomes_rgb(tmp_path, mode):
    ending = "tif" if mode == "CMYK" else "png"
    Image.fromarray(shaded()).convert(mode).save(tmp_path / f"x.{ending}")
    out = read_picture(tmp_path / f"x.{ending}")
    assert (out.shape, out.dtype) == ((40, 60, 3), np.uint8)


def test_what_is_no_picture_is_one_line_that_names_the_file(tmp_path):
    (tmp_path / "text.jpg").write_text("no picture")
    Image.fromarray(shaded()).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:60])
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "deep.png")
    for name, says in (("text.jpg", "can be read"), ("cut.png", "can be read"), ("deep.png", "8 bits")):
        with pytest.raises(DataError, match=rf"{name}.*{says}") as error:
            read_picture(tmp_path / name)
        assert "\n" not in str(error.value)
    with pytest.raises(DataError, match="no such file"):
        read_picture(tmp_path / "nowhere.jpg")
    with pytest.raises(UserError, match="float64"):
        as_picture(np.zeros((4, 4, 3)))


def test_folders_give_what_lies_in_them(tmp_path):
    for name in ("b.jpg", "a.PNG", "c.mp4", "notes.txt"):
        (tmp_path / name).touch()
    found = gather([tmp_path, tmp_path / "notes.txt"])
    assert [p.name for p in found] == ["a.PNG", "b.jpg", "c.mp4", "notes.txt"]
    assert [is_video(p) for p in found] == [False, False, True, False]
    with pytest.raises(DataError, match="no such file or folder"):
        gather([tmp_path / "x"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="without pictures"):
        gather([tmp_path / "empty"])


def test_no_two_files_share_a_result():
    names = [Path(p) for p in ("a/x.jpg", "b/x.jpg", "x.png", "y.png")]
    assert len(set(stems(names))) == 4
    assert stems(names)[3] == "y"


def test_videos_without_opencv_are_one_line(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(UserError, match=r"clip\.mp4.*cvhpe\[detect\]"):
        next(frames(tmp_path / "clip.mp4"))


def test_a_video_comes_back_frame_by_frame(tmp_path):
    pytest.importorskip("cv2", reason="OpenCV is not installed (extra 'detect')")
    path = tmp_path / "clip.mp4"
    with writing_video(path, 10.0) as video:
        for k in range(6):
            video.write(np.full((48, 64, 3), (40 * k, 0, 0), np.uint8))
    found = list(frames(path, every=2))
    assert [f.number for f in found] == [0, 2, 4]
    assert found[1].seconds == pytest.approx(0.2)
    assert frame_rate(path) == pytest.approx(10.0)
    reds = [int(f.picture[24, 32, 0]) for f in found]
    np.testing.assert_allclose(reds, [0, 80, 160], atol=12)
    (tmp_path / "broken.mp4").write_text("no video")
    with pytest.raises(DataError, match=r"broken\.mp4"):
        next(frames(tmp_path / "broken.mp4"))
