"""The RHD reader, on RHD in miniature and on what can go wrong with a copy of it."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.rhd_writer import SIZE, frame, images, write_rhd
from PIL import Image

from cvhpe.data.datasets.rhd import Rhd, decode_rhd_depth, dominant_hand, part_index
from cvhpe.errors import DataError, UserError
from cvhpe.geometry.camera import project
from cvhpe.plugin.registry import registry


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_rhd(tmp_path, only={1: "left", 2: "right"})
    return tmp_path


def test_training_gives_both_hands_in_mm(tmp_path: Path) -> None:
    anno = write_rhd(tmp_path, training=2)["training"]
    data = Rhd(tmp_path, "train")
    assert [data[i].id for i in range(len(data))] == [
        "training/00000:left", "training/00000:right", "training/00001:left", "training/00001:right",
    ]  # fmt: skip
    for i in range(4):
        sample, truth = data[i], anno[i // 2]
        of = slice(21 * (i % 2), 21 * (i % 2) + 21)
        assert sample.side == i % 2
        assert sample.group == i // 2
        np.testing.assert_allclose(sample.joints3d_mm, truth["xyz"][of] * 1000, atol=1e-3)
        np.testing.assert_allclose(sample.joints2d_px, truth["uv_vis"][of, :2], atol=1e-3)
        np.testing.assert_array_equal(sample.visible, truth["uv_vis"][of, 2] == 1)
        np.testing.assert_allclose(project(sample.joints3d_mm, sample.K), sample.joints2d_px, atol=1e-2)


def test_a_hand_out_of_the_frame_is_no_training_sample(root: Path) -> None:
    data = Rhd(root, "train")
    assert [data.labels(i).id.split("/")[1] for i in range(len(data))] == [
        "00000:left", "00000:right", "00001:left", "00002:right", "00003:left", "00003:right",
    ]  # fmt: skip


@pytest.mark.parametrize(("inside", "seen", "kept"), [(11, 5, True), (10, 10, False), (11, 4, False), (21, 0, False)])
def test_how_much_of_a_hand_must_be_there(tmp_path: Path, inside: int, seen: int, kept: bool) -> None:
    write_rhd(tmp_path, training=1, only={0: "left"})
    file = tmp_path / "RHD_published_v2" / "training" / "anno_training.pickle"
    anno = pickle.loads(file.read_bytes())
    anno[0]["uv_vis"][inside:21, 0] = 8000.0
    anno[0]["uv_vis"][:21, 2] = np.arange(21) < seen
    file.write_bytes(pickle.dumps(anno))
    assert len(Rhd(tmp_path, "train")) == int(kept)


def test_a_hand_partly_behind_the_camera_is_left_out_and_counted(tmp_path: Path) -> None:
    """Ten of the genuine evaluation hands' joints lie there; their pixels run to 8,249."""
    write_rhd(tmp_path, training=3, evaluation=2)
    for part in ("training", "evaluation"):
        file = tmp_path / "RHD_published_v2" / part / f"anno_{part}.pickle"
        anno = pickle.loads(file.read_bytes())
        for joint in (4, 25):  # of the left hand, of the right hand
            anno[1]["xyz"][joint, 2] = -0.0124
            anno[1]["uv_vis"][joint] = (-949, 1147, 1)
        file.write_bytes(pickle.dumps(anno))
    train, test = Rhd(tmp_path, "train"), Rhd(tmp_path, "test")
    assert [train.labels(i).group for i in range(len(train))] == [0, 0, 2, 2]
    assert train.note == "rhd train: 2 hands with a joint behind the camera (z <= 0) left out"
    assert (len(test), test.note) == (2, "")
    assert test[1].visible.sum() == 20
    assert not test[1].visible[4]


def test_evaluation_gives_the_dominant_hand(root: Path) -> None:
    data = Rhd(root, "test")
    assert len(data) == 3
    for i in range(3):
        mask = np.asarray(Image.open(root / "RHD_published_v2" / "evaluation" / "mask" / f"{i:05d}.png"))
        left = np.isin(mask, range(2, 18)).sum()
        right = np.isin(mask, range(18, 34)).sum()
        assert data[i].side == (0 if left > right else 1)
    assert data[1].side == 0
    assert data[2].side == 1


def test_a_draw_is_a_right_hand() -> None:
    assert dominant_hand(np.array([[2, 18, 1, 0]], np.uint8)) == 1


def test_images(root: Path) -> None:
    data = Rhd(root, "train")
    for i in range(len(data)):
        sample = data[i]
        assert sample.images["rgb"].shape == (SIZE, SIZE, 3)
        assert sample.images["rgb"].dtype == np.uint8
        assert sample.images["depth"].dtype == np.float32
        u, v = np.rint(sample.joints2d_px[0]).astype(int)
        assert sample.images["depth"][0, 0] == pytest.approx(4000, abs=0.1)
        if sample.visible[0]:
            near = sample.images["depth"][max(v - 6, 0) : v + 7, max(u - 6, 0) : u + 7]
            assert np.abs(near - sample.joints3d_mm[0, 2]).min() < 0.1
        assert set(np.unique(sample.images["mask"])) <= set(range(17))
        assert sample.images["mask"].max() >= 15


def test_depth_follows_the_published_formula() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (5, 4, 3), dtype=np.uint8)
    want = (image[..., 0].astype(np.float64) * 256 + image[..., 1]) / 65535 * 5.0 * 1000
    np.testing.assert_allclose(decode_rhd_depth(image), want, rtol=1e-6)


def test_parts_of_this_hand_only() -> None:
    classes = np.arange(34, dtype=np.uint8)[None]
    np.testing.assert_array_equal(part_index(classes, 0)[0], [0, 0, *range(1, 17), *[0] * 16])
    np.testing.assert_array_equal(part_index(classes, 1)[0], [0] * 18 + list(range(1, 17)))


def test_labels_alone_decode_nothing(root: Path) -> None:
    """Training on joints must not need a single readable image but the first, whose size counts."""
    folder = root / "RHD_published_v2" / "training"
    for name in ("color", "depth", "mask"):
        for file in sorted((folder / name).iterdir())[1:]:
            file.write_bytes(b"no image")
    data = Rhd(root, "train")
    assert data.labels(len(data) - 1).joints3d_mm.shape == (21, 3)
    with pytest.raises(DataError, match=r"color.00003\.png"):
        data[len(data) - 1]


def test_the_published_folder_itself_will_do(root: Path) -> None:
    assert len(Rhd(root / "RHD_published_v2", "test")) == len(Rhd(root, "test"))


def test_faults_are_one_line_that_names_the_file(root: Path, tmp_path: Path) -> None:
    def fails(match: str, split: str = "train", at: Path = root) -> None:
        with pytest.raises(DataError, match=match) as error:
            Rhd(at, split)
        assert "\n" not in str(error.value)

    training = root / "RHD_published_v2" / "training"
    (training / "mask" / "00002.png").unlink()
    fails(r"training.mask: lacks 00002\.png")
    shutil.rmtree(training / "depth")
    fails(r"training.depth: missing folder")
    shutil.rmtree(training)
    fails(r"training: missing folder")
    evaluation = root / "RHD_published_v2" / "evaluation"
    anno = pickle.loads((evaluation / "anno_evaluation.pickle").read_bytes())

    def rewritten(value: object) -> None:
        (evaluation / "anno_evaluation.pickle").write_bytes(pickle.dumps(value))

    rewritten({**anno, 1: {**anno[1], "xyz": anno[1]["xyz"][:21]}})
    fails(r"anno_evaluation\.pickle: frame 1: 'xyz' is \(21, 3\)", "test")
    rewritten({**anno, 1: {"xyz": anno[1]["xyz"]}})
    fails(r"frame 1: 'uv_vis'", "test")
    rewritten([1, 2])
    fails("holds a list", "test")
    rewritten({"a": 1})
    fails("frames that are no number", "test")
    rewritten({0: {**anno[0], "K": np.full((3, 3), np.nan)}})
    fails("frame 0: K holds a number that is not finite", "test")
    for odd, what in ((1e300, "beyond reason"), (np.inf, "not finite")):
        broken = anno[1]["xyz"].astype(np.longdouble)
        broken[3, 1] = odd
        rewritten({**anno, 1: {**anno[1], "xyz": broken}})
        fails(rf"anno_evaluation\.pickle: frame 1: xyz holds a number .*{what}", "test")
    (evaluation / "anno_evaluation.pickle").unlink()
    fails(r"anno_evaluation\.pickle: cannot be read", "test")
    archive = tmp_path / "RHD_v1-1.zip"
    archive.write_bytes(b"PK\x05\x06" + bytes(18))
    fails("unpack it", at=archive)
    (tmp_path / "other").mkdir()
    fails("neither 'training' nor 'evaluation'", at=tmp_path / "other")
    fails("no such folder", at=tmp_path / "absent")
    with pytest.raises(UserError, match="val"):
        Rhd(root, "val")


def test_one_size_for_all(root: Path) -> None:
    small = images(frame(np.random.default_rng(0)))["mask"][:100]
    Image.fromarray(small).save(root / "RHD_published_v2" / "training" / "mask" / "00001.png")
    data = Rhd(root, "train")
    with pytest.raises(DataError, match=r"mask.00001\.png is|mask.00001\.png: is 320x100"):
        data[2]


def test_the_spec_opens_it(root: Path) -> None:
    assert len(registry().dataset("rhd").open(root, "test")) == 3
    with pytest.raises(DataError, match="--data rhd:PATH"):
        registry().dataset("rhd").open(None, "test")


def test_genuine_frames_project_onto_their_labels(shared_data: Path, tmp_path: Path) -> None:
    """Three real RHD frames, put back into RHD's layout: labels and K agree as far as K's four digits go."""
    source = json.loads((shared_data / "mmpose" / "rhd" / "test_rhd.json").read_text())
    folder = tmp_path / "training"
    anno = {}
    for image, label in zip(source["images"], source["annotations"], strict=True):
        number = image["id"]
        (fx, fy), (cx, cy) = image["cam_param"]["focal"], image["cam_param"]["princpt"]
        annotation = frame(np.random.default_rng(0), left=False, right=False)
        of = slice(0, 21) if label["hand_type"] == "left" else slice(21, 42)
        annotation["xyz"][of] = np.array(label["joint_cam"]) / 1000
        annotation["uv_vis"][of] = np.array(label["keypoints"]).reshape(21, 3)
        annotation["uv_vis"][of, 2] = annotation["uv_vis"][of, 2] > 0
        annotation["K"] = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
        anno[number] = annotation
        for name, pixels in images(annotation).items():
            (folder / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / name / f"{number:05d}.png")
        shutil.copy(shared_data / "mmpose" / "rhd" / image["file_name"], folder / "color" / f"{number:05d}.png")
    (folder / "anno_training.pickle").write_bytes(pickle.dumps(anno, 2))
    data = Rhd(tmp_path, "train")
    assert len(data) == 3
    for i in range(3):
        sample = data[i]
        assert np.linalg.norm(project(sample.joints3d_mm, sample.K) - sample.joints2d_px, axis=-1).max() < 0.1
        assert 30 < np.linalg.norm(sample.joints3d_mm[11] - sample.joints3d_mm[12]) < 41
