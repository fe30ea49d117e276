from __future__ import annotations

import numpy as np
import pytest
from helpers.dataset_writers import write_coco, write_freihand, write_msra
from PIL import Image

from cvhpe.data.datasets.coco import Coco
from cvhpe.data.datasets.freihand import FreiHand
from cvhpe.data.datasets.msra import Msra
from cvhpe.errors import DataError, UserError
from cvhpe.geometry.camera import Crop
from cvhpe.viz.contact_sheet import CELL_PX, contact_sheet, save_contact_sheet, select_samples


def test_a_cell_shows_the_crop_around_the_joints(tmp_path) -> None:
    write_coco(tmp_path, np.random.default_rng(1), 1, "test.json")
    sample = Coco(tmp_path, "test")[0]
    (axes,) = contact_sheet([sample], "coco21").axes
    uv = sample.joints2d_px
    low, high = uv.min(0), uv.max(0)
    crop = Crop(tuple((low + high) / 2), float((high - low).max() * 1.6))
    np.testing.assert_allclose(axes.get_xlim(), crop.centre[0] + np.array([-0.5, 0.5]) * crop.side)
    np.testing.assert_allclose(axes.get_ylim(), crop.centre[1] + np.array([0.5, -0.5]) * crop.side)
    np.testing.assert_allclose(axes.collections[0].get_offsets(), uv)
    np.testing.assert_array_equal(axes.images[0].get_array(), sample.images["rgb"])


@pytest.mark.parametrize("kind", ["freihand", "msra"])
def test_one_cell_for_each_image(kind, tmp_path) -> None:
    if kind == "freihand":
        write_freihand(tmp_path, np.random.default_rng(1))
        data, images = FreiHand(tmp_path, "train"), 2
    else:
        write_msra(tmp_path, np.random.default_rng(1), subjects=[0])
        data, images = Msra(tmp_path, "test"), 1
    out = tmp_path / "new" / "sheet.png"
    assert len(save_contact_sheet(data, out, count=3)) == 3
    with Image.open(out) as sheet:
        assert sheet.size == (3 * images * CELL_PX, CELL_PX)
    assert [p.name for p in out.parent.iterdir()] == ["sheet.png"]


def test_samples_without_image_files_are_skipped(tmp_path) -> None:
    write_coco(tmp_path, np.random.default_rng(1), 3, "test.json")
    data = Coco(tmp_path, "test")
    (tmp_path / "images" / "test_1.png").unlink()
    assert select_samples(data, 3) == [0, 2]
    for i in (0, 2):
        (tmp_path / "images" / f"test_{i}.png").unlink()
    with pytest.raises(DataError, match=r"test_0\.png: is missing, and no other sample"):
        save_contact_sheet(data, tmp_path / "sheet.png")
    assert not (tmp_path / "sheet.png").exists()


def test_a_path_that_cannot_be_written_is_one_line(tmp_path) -> None:
    write_coco(tmp_path, np.random.default_rng(1), 1, "test.json")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"sheet\.png: cannot be written"):
        save_contact_sheet(Coco(tmp_path, "test"), tmp_path / "file" / "sheet.png")
