from __future__ import annotations

import json

import numpy as np
import pytest
from helpers.dataset_writers import RHD_ORDER, coco_content, pixels, write_coco, write_interhand

from cvhpe.data.datasets.coco import Coco
from cvhpe.errors import DataError
from cvhpe.geometry.camera import project
from cvhpe.geometry.skeleton import convert


@pytest.mark.parametrize("nested", [False, True])
def test_own_data_in_a_folder(tmp_path, nested) -> None:
    train = write_coco(tmp_path, np.random.default_rng(1), nested=nested)
    test = write_coco(tmp_path, np.random.default_rng(2), 2, "annotations/mine_val.json")
    for split, truth in (("train", train), ("test", test)):
        data = Coco(tmp_path, split)
        assert len(data) == len(truth)
        assert (data.layout, data.root, data.note) == ("coco21", "wrist", "")
        for i, xyz in enumerate(truth):
            s = data[i]
            assert np.allclose(s.joints3d_mm, xyz, atol=1e-3)
            assert np.abs(project(s.joints3d_mm, s.K) - s.joints2d_px).max() < 0.01
            px = np.rint(s.joints2d_px).astype(int)
            assert (s.images["rgb"][px[:, 1], px[:, 0], 1] == 220).all()
            assert s.box == (100, 60, 120, 130)
            assert s.side == 1


def test_a_file_and_its_counterpart(tmp_path) -> None:
    write_coco(tmp_path, np.random.default_rng(1), 3, "annotations/mine_train.json")
    write_coco(tmp_path, np.random.default_rng(1), 2, "annotations/mine_test.json")
    write_coco(tmp_path, np.random.default_rng(1), 2, "annotations/other_test.json")
    for file in ("mine_train.json", "mine_test.json"):
        path = tmp_path / "annotations" / file
        assert (len(Coco(path, "train")), len(Coco(path, "test"))) == (3, 2)
    with pytest.raises(DataError, match=r"several .* for split 'test': mine_test\.json, other_test\.json"):
        Coco(tmp_path, "test")


def test_without_a_test_file_a_tenth_is_held_out_and_said(tmp_path) -> None:
    write_coco(tmp_path, np.random.default_rng(1), 60, "hands.json")
    train, test = Coco(tmp_path, "train"), Coco(tmp_path, "test")
    assert len(train) + len(test) == 60
    assert 1 <= len(test) <= 15
    assert not {h.image for h in train.hands} & {h.image for h in test.hands}
    assert "a tenth of its images" in test.note


def test_unlabelled_joints_layouts_and_sides(tmp_path) -> None:
    content, xyz = coco_content(np.random.default_rng(1), ["a.png"], order=RHD_ORDER)
    a = content["annotations"][0]
    a["keypoints"][3 * 4 + 2] = 0
    del a["hand_type"], a["joint_cam"], content["images"][0]["cam_param"]
    (tmp_path / "test.json").write_text(json.dumps(content))
    data = Coco(tmp_path.parent / f"{tmp_path.name}?layout=rhd&side=left", "test")
    s = data.labels(0)
    assert data.layout == "rhd"
    assert "taken for left hands" in data.note
    assert (s.side, s.joints3d_mm, s.K) == (0, None, None)
    uv = convert(s.joints2d_px, "rhd", "hand21")
    assert np.isnan(uv[1]).all()
    assert np.allclose(np.delete(uv, 1, 0), np.delete(pixels(xyz[0], 400, 400, 160, 120), 1, 0), atol=1e-3)
    assert s.visible.sum() == 20
    assert Coco(tmp_path, "test").labels(0).side == 1


def test_joints_without_keypoints_are_projected(tmp_path) -> None:
    content, xyz = coco_content(np.random.default_rng(1), ["a.png"])
    del content["annotations"][0]["keypoints"]
    (tmp_path / "test.json").write_text(json.dumps(content))
    uv = Coco(tmp_path, "test").labels(0).joints2d_px
    assert np.allclose(uv, pixels(xyz[0], 400, 400, 160, 120), atol=1e-3)


def test_interhand_in_camera_frames(tmp_path) -> None:
    truth = write_interhand(tmp_path, np.random.default_rng(1))
    data = Coco(tmp_path, "test")
    assert data.layout == "interhand"
    samples = {data[i].id: data[i] for i in range(len(data))}
    assert set(samples) == set(truth)
    for name, xyz in truth.items():
        assert np.allclose(convert(samples[name].joints3d_mm, "interhand", "hand21"), xyz, atol=1e-2)
        assert samples[name].side == (0 if name.endswith("left") else 1)
    (tmp_path / "test_interhand_camera.json").write_text("{}")
    with pytest.raises(DataError, match=r"camera\.json: has no entry '?0"):
        Coco(tmp_path, "test")


FAULTS = {
    "no annotations": (lambda c: c.pop("annotations"), "is not COCO-style"),
    "missing image entry": (lambda c: c["annotations"][0].update(image_id=77), "annotation 0 names no image"),
    "list as id": (lambda c: c["annotations"][0].update(image_id=[1]), "annotation 0 names no image"),
    "short keypoints": (lambda c: c["annotations"][0]["keypoints"].pop(), "'keypoints' has 62 numbers, expected 63"),
    "ragged": (lambda c: c["annotations"][0].update(keypoints=[[1], [1, 2]]), "is not a list of numbers"),
    "text": (lambda c: c["annotations"][0].update(joint_cam="x"), "'joint_cam' is not a list of numbers"),
    "nan": (lambda c: c["annotations"][0]["joint_cam"][2].__setitem__(1, float("nan")), "not finite"),
    "bad camera": (lambda c: c["images"][0].update(cam_param={"f": 1}), "needs focal and princpt"),
    "outside": (lambda c: c["images"][0].update(file_name="../../x.png"), "lies outside the data set"),
    "no name": (lambda c: c["images"][0].pop("file_name"), "needs 'id' and 'file_name'"),
    "nothing": (lambda c: c["annotations"].clear(), "has no annotated hand"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_the_file(tmp_path, fault) -> None:
    content, _ = coco_content(np.random.default_rng(1), ["a.png"])
    change, message = FAULTS[fault]
    change(content)
    (tmp_path / "test.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=message) as error:
        Coco(tmp_path, "test")
    assert "test.json" in str(error.value)
    assert "\n" not in str(error.value)


def test_an_annotation_of_a_missing_image(tmp_path) -> None:
    write_coco(tmp_path, np.random.default_rng(1), 1, "test.json")
    (tmp_path / "images" / "test_0.png").unlink()
    with pytest.raises(DataError, match=r"test_0\.png: is missing"):
        Coco(tmp_path, "test")[0]
    with pytest.raises(DataError, match=r"no annotation file for split 'train'; it has test\.json"):
        Coco(tmp_path, "train")


@pytest.mark.parametrize(
    ("folder", "count", "layout"),
    [("rhd", 3, "rhd"), ("freihand", 8, "coco21"), ("onehand10k", 4, "coco21"), ("interhand2.6m", 6, "interhand")],
)
def test_genuine_folders(shared_data, folder, count, layout) -> None:
    data = Coco(shared_data / "mmpose" / folder, "test")
    assert (len(data), data.layout) == (count, layout)
    for i in range(count):
        s = data[i]
        height, width = s.images["rgb"].shape[:2]
        inside = ((s.joints2d_px >= 0) & (s.joints2d_px <= [width, height])).all(-1)
        assert inside[s.visible].all()
        if s.joints3d_mm is not None:
            assert np.abs(project(s.joints3d_mm, s.K) - s.joints2d_px).max() < 0.1


def test_an_archive_is_named_as_one(tmp_path) -> None:
    (tmp_path / "hands.zip").write_bytes(b"PK\x05\x06" + bytes(18))
    with pytest.raises(DataError, match=r"hands\.zip: is a packed archive; unpack it"):
        Coco(tmp_path / "hands.zip", "test")
