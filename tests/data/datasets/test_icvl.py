from __future__ import annotations

import numpy as np
import pytest
from helpers.dataset_writers import write_icvl

from cvhpe.data.datasets.icvl import Icvl
from cvhpe.errors import DataError
from cvhpe.geometry.camera import project


@pytest.fixture
def icvl(tmp_path):
    return tmp_path, write_icvl(tmp_path, np.random.default_rng(1))


def test_labels_and_depth_agree(icvl) -> None:
    root, truth = icvl
    train, test = Icvl(root, "train"), Icvl(root, "test")
    assert (len(train), len(test)) == (9, 4)
    for data, uvd in ((train, truth["train"]), (test, truth["test"])):
        for i in range(len(data)):
            s = data[i]
            assert np.abs(s.joints2d_px - uvd[i, :, :2]).max() < 1e-3
            assert np.abs(s.joints3d_mm[:, 2] - uvd[i, :, 2]).max() < 1e-3
            assert np.abs(project(s.joints3d_mm, s.K) - s.joints2d_px).max() < 0.01
            px = np.rint(s.joints2d_px).astype(int)
            depth = s.images["depth"][px[:, 1], px[:, 0]]
            assert (depth <= s.joints3d_mm[:, 2] + 1).all()
            assert (np.abs(depth - s.joints3d_mm[:, 2]) <= 1).mean() > 0.6
            assert s.images["depth"].dtype == np.float32


def test_a_recording_and_its_rotated_copy_are_one_group(icvl) -> None:
    root, _ = icvl
    train = Icvl(root, "train")
    assert train.labels(0).id == "train/201403121135/image_0000.png"
    assert train.labels(6).id == "train/22-5/201403121135/image_0000.png"
    assert train.labels(0).group == train.labels(6).group != train.labels(3).group


def test_faults(icvl) -> None:
    root, _ = icvl
    label = root / "Testing" / "test_seq_2.txt"
    lines = label.read_text().splitlines()
    label.write_text("\n".join([lines[0], lines[1][:150]]))
    with pytest.raises(DataError, match=r"test_seq_2\.txt: line 2 has \d+ numbers, expected 48"):
        Icvl(root, "test")
    label.write_text(lines[0].replace("test_seq_2/image_0000.png", "../../etc/passwd.png"))
    with pytest.raises(DataError, match="line 1 names an image outside the data set"):
        Icvl(root, "test")
    words = lines[0].split()
    label.write_text(" ".join([*words[:5], "nan", *words[6:]]))
    with pytest.raises(DataError, match="line 1 holds a number that is not finite"):
        Icvl(root, "test")
    label.write_bytes(b"\xff\xfe\x00binary")
    with pytest.raises(DataError, match=r"test_seq_2\.txt: is not text"):
        Icvl(root, "test")
    label.unlink()
    assert Icvl(root, "test").absent == (label,)
    (root / "Testing" / "test_seq_1.txt").unlink()
    with pytest.raises(DataError, match=r"lacks Testing/test_seq_1\.txt and Testing/test_seq_2\.txt"):
        Icvl(root, "test")
    image = root / "Training" / "Depth" / "201403121135" / "image_0000.png"
    image.write_bytes(image.read_bytes()[:60])
    with pytest.raises(DataError, match=r"image_0000\.png: cannot be decoded"):
        Icvl(root, "train")[0]
