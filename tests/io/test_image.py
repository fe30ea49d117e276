"""Images as they come: rotated, grey, broken, missing; videos frame by frame."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cvhpe.errors import DataError, UserError
from cvhpe.io.image import is_video, list_media, read_image, to_rgb_array, unique_stems
from cvhpe.io.video import VideoWriter, read_frames


def gradient(height=40, width=60):
    return np.stack(np.broadcast_arrays(np.arange(width), np.arange(height)[:, None], 7), -1).astype(np.uint8)


def test_exif_orientation_is_applied(tmp_path):
    image = gradient()
    exif = Image.Exif()
    exif[0x0112] = 6  # the stored pixels must be rotated by 90 degrees, clockwise
    Image.fromarray(np.rot90(image).copy()).save(tmp_path / "x.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "x.png"), image)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_every_colour_mode_becomes_rgb(tmp_path, mode):
    suffix = "tif" if mode == "CMYK" else "png"
    Image.fromarray(gradient()).convert(mode).save(tmp_path / f"x.{suffix}")
    out = read_image(tmp_path / f"x.{suffix}")
    assert (out.shape, out.dtype) == ((40, 60, 3), np.uint8)


def test_a_file_that_is_no_image_is_named_in_one_line(tmp_path):
    (tmp_path / "text.jpg").write_text("no image")
    Image.fromarray(gradient()).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:60])
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "deep.png")
    for name, says in (("text.jpg", "can be read"), ("cut.png", "can be read"), ("deep.png", "8 bits")):
        with pytest.raises(DataError, match=rf"{name}.*{says}") as error:
            read_image(tmp_path / name)
        assert "\n" not in str(error.value)
    with pytest.raises(DataError, match="no such file"):
        read_image(tmp_path / "nowhere.jpg")
    with pytest.raises(UserError, match="float64"):
        to_rgb_array(np.zeros((4, 4, 3)))


def test_folders_give_the_media_in_them(tmp_path):
    for name in ("b.jpg", "a.PNG", "c.mp4", "notes.txt"):
        (tmp_path / name).touch()
    media = list_media([tmp_path, tmp_path / "notes.txt"])
    assert [p.name for p in media] == ["a.PNG", "b.jpg", "c.mp4", "notes.txt"]
    assert [is_video(p) for p in media] == [False, False, True, False]
    with pytest.raises(DataError, match="no such file or folder"):
        list_media([tmp_path / "x"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="without images"):
        list_media([tmp_path / "empty"])


def test_no_two_files_share_a_result():
    names = [Path(p) for p in ("a/x.jpg", "b/x.jpg", "x.png", "y.png")]
    assert len(set(unique_stems(names))) == 4
    assert unique_stems(names)[3] == "y"


def test_videos_without_opencv_are_one_line(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(UserError, match=r"clip\.mp4.*cvhpe\[detect\]"):
        next(read_frames(tmp_path / "clip.mp4"))


def test_a_video_comes_back_frame_by_frame(tmp_path):
    pytest.importorskip("cv2", reason="OpenCV is not installed (extra 'detect')")
    path = tmp_path / "clip.mp4"
    with VideoWriter(path, 10.0) as video:
        for k in range(6):
            video.write(np.full((48, 64, 3), (40 * k, 0, 0), np.uint8))
    frames = list(read_frames(path, stride=2))
    assert [f.number for f in frames] == [0, 2, 4]
    assert frames[1].seconds == pytest.approx(0.2)
    assert frames[0].rate == pytest.approx(10.0)
    reds = [int(f.image[24, 32, 0]) for f in frames]
    np.testing.assert_allclose(reds, [0, 80, 160], atol=12)
    (tmp_path / "broken.mp4").write_text("no video")
    with pytest.raises(DataError, match=r"broken\.mp4"):
        next(read_frames(tmp_path / "broken.mp4"))
