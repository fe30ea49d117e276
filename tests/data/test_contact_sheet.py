from __future__ import annotations

import numpy as np
import pytest
from helpers.dataset_writers import write_coco, write_freihand, write_msra
from PIL import Image

from cvhpe.data.contact_sheet import choose, contact_sheet, draw_sample
from cvhpe.data.datasets.coco import open_coco
from cvhpe.data.datasets.freihand import open_freihand
from cvhpe.data.datasets.msra import open_msra
from cvhpe.errors import DataError
from cvhpe.geometry.camera import Crop
from cvhpe.geometry.skeleton import layout
from cvhpe.plugin.sample import Sample


def test_the_skeleton_is_drawn_where_the_joints_are(tmp_path) -> None:
    write_coco(tmp_path, np.random.default_rng(1), 1, "test.json")
    sample = open_coco(tmp_path, "test")[0]
    of = layout("coco21")
    (with_joints,) = draw_sample(sample, of, 400)
    uv = sample.joints2d_px
    low, high = uv.min(0), uv.max(0)
    crop = Crop(tuple((low + high) / 2), float((high - low).max() * 1.6))
    at = (crop.fraction(uv) + 0.5) * 400 - 0.5
    tip = np.rint(at[of.index("index_tip")]).astype(int)
    assert with_joints.getpixel(tuple(tip.tolist())) == (0xF2, 0xA5, 0x41)


def test_the_picture_is_cropped_where_the_skeleton_says() -> None:
    """A white pixel under a joint must show about the joint's place, whatever the crop's zoom is."""
    picture = np.zeros((100, 100, 3), np.uint8)
    picture[60:63, 40:43] = 255
    uv = np.full((21, 2), np.nan)
    uv[:3] = [[41, 61], [30, 50], [52, 72]]
    sample = Sample(id="a", side=0, joints2d_px=uv, images={"rgb": picture}, visible=np.zeros(21, bool))
    (drawn,) = draw_sample(sample, layout("hand21"), 352)
    # The crop's side is 22 * 1.6 px, its centre joint 0: a picture pixel is 10 cell pixels.
    shown = np.asarray(drawn).astype(int).min(-1)
    bright = np.argwhere(shown[100:250, 100:250] > 250) + 100
    assert np.abs(bright.mean(0) - 175.5).max() < 4
    assert 15 < np.ptp(bright[:, 0]) < 40


@pytest.mark.parametrize("kind", ["freihand", "msra"])
def test_one_cell_for_each_picture(kind, tmp_path) -> None:
    if kind == "freihand":
        write_freihand(tmp_path, np.random.default_rng(1))
        data, pictures = open_freihand(tmp_path, "train"), 2
    else:
        write_msra(tmp_path, np.random.default_rng(1), subjects=[0])
        data, pictures = open_msra(tmp_path, "test"), 1
    out = tmp_path / "new" / "sheet.png"
    ids = contact_sheet(data, out, count=3, cell=100, columns=2 * pictures)
    assert len(ids) == 3
    with Image.open(out) as sheet:
        assert sheet.size == (2 * pictures * 100, 200)
        assert np.asarray(sheet).std() > 10
    assert [p.name for p in out.parent.iterdir()] == ["sheet.png"]


def test_what_has_no_pictures_is_passed_over_and_said_where_nothing_has(tmp_path) -> None:
    write_coco(tmp_path, np.random.default_rng(1), 3, "test.json")
    data = open_coco(tmp_path, "test")
    (tmp_path / "images" / "test_1.png").unlink()
    assert choose(data, 3) == [0, 2]
    for i in (0, 2):
        (tmp_path / "images" / f"test_{i}.png").unlink()
    with pytest.raises(DataError, match=r"test_0\.png: is missing, and no other sample"):
        contact_sheet(data, tmp_path / "sheet.png")
    assert not (tmp_path / "sheet.png").exists()


def test_a_place_that_cannot_be_written(tmp_path) -> None:
    write_coco(tmp_path, np.random.default_rng(1), 1, "test.json")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"sheet\.png: cannot be written"):
        contact_sheet(open_coco(tmp_path, "test"), tmp_path / "file" / "sheet.png")
