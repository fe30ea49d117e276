from __future__ import annotations

import json

import numpy as np
import pytest
from helpers.dataset_writers import (
    coco_content,
    write_coco,
    write_freihand,
    write_icvl,
    write_msra,
    write_nyu,
    write_stb,
)
from helpers.example_datasets import Hands, with_reader

from cvhpe.data.datasets.builtin import cvhpe_datasets
from cvhpe.data.verify.checks import Row, is_fatal, verify

SPECS = {spec.name: spec for spec in cvhpe_datasets()}


def rows_of(rows: list[Row], check: str, split: str = "train") -> list[Row]:
    return [r for r in rows if r.check == check and r.split == split]


WRITERS = {
    "stb": lambda root, rng: write_stb(root, rng, depth=False),
    "stb-sk": lambda root, rng: write_stb(root, rng, frames=1),
    "icvl": write_icvl,
    "nyu": write_nyu,
    "msra": lambda root, rng: write_msra(root, rng, frames=1),
    "freihand": write_freihand,
    "coco": lambda root, rng: [write_coco(root, rng, 4, f"annotations/mine_{s}.json") for s in ("train", "test")],
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_good_copy_is_not_fatal(name, tmp_path) -> None:
    WRITERS[name](tmp_path, np.random.default_rng(1))
    rows = verify(SPECS[name], tmp_path, decode=5)
    assert [r for r in rows if r.verdict == "fatal"] == []
    for split in ("train", "test"):
        assert rows_of(rows, "size of a hand", split)[0].verdict == "ok"
        assert rows_of(rows, "reprojection error", split)[0].verdict == "ok"
        assert rows_of(rows, "image files", split)[0].verdict == "ok"
        assert rows_of(rows, "duplicates", split)[0].found == "none"
    if published := SPECS[name].published:
        assert rows_of(rows, "samples")[0] == Row("train", "samples", rows_of(rows, "samples")[0].found,
                                                  f"{published['train']:,} published", "warn")  # fmt: skip


class AttributesOfItsOwn(Hands):
    """Has the attributes of built-in readers with other meanings, as a reader of a plugin may."""

    files = ("0.json", "1.json")
    labels = absent = 3


def test_a_reader_of_a_plugin_needs_the_contract_alone(tmp_path) -> None:
    rows = verify(with_reader(AttributesOfItsOwn), tmp_path)
    assert not is_fatal(rows)
    assert rows_of(rows, "reprojection error")[0].verdict == "ok"


def test_missing_and_truncated_images_are_named(tmp_path) -> None:
    write_freihand(tmp_path, np.random.default_rng(1))
    (tmp_path / "training/rgb/00000003.jpg").unlink()
    cut = tmp_path / "training/rgb/00000005.jpg"
    cut.write_bytes(cut.read_bytes()[:-40])
    rows = verify(SPECS["freihand"], tmp_path)
    missing, broken = rows_of(rows, "image files")
    assert missing.verdict == broken.verdict == "fatal"
    assert "1 of 10 missing" in missing.found
    assert "00000003.jpg" in missing.found
    assert "1 truncated" in broken.found
    assert "00000005.jpg" in broken.found
    assert rows_of(rows, "decoded")[0].verdict == "fatal"
    assert is_fatal(rows)


def test_a_truncated_bin_is_noticed_without_decoding_it(tmp_path) -> None:
    write_msra(tmp_path, np.random.default_rng(1), frames=2, subjects=[0, 1])
    cut = tmp_path / "P1/TIP/000001_depth.bin"
    cut.write_bytes(cut.read_bytes()[:-4])
    rows = verify(SPECS["msra"], tmp_path, decode=1)
    assert "000001_depth.bin" in rows_of(rows, "image files")[1].found


def corrupted_coco(root, change, count=12):
    rng = np.random.default_rng(1)
    write_coco(root, rng, count, "test.json")
    content = json.loads((root / "test.json").read_text())
    for a in content["annotations"]:
        change(a)
    (root / "test.json").write_text(json.dumps(content))
    return verify(SPECS["coco"], root)


@pytest.mark.parametrize(
    ("factor", "message"),
    [(1e-3, "1,000 times too small, as in metres"), (0.1, "10 times too small"), (1e3, "1,000 times too large")],
)
def test_wrong_units_are_named(tmp_path, factor, message) -> None:
    rows = corrupted_coco(tmp_path, lambda a: a.update(joint_cam=(np.array(a["joint_cam"]) * factor).tolist()))
    (row,) = rows_of(rows, "size of a hand", "test")
    assert row.verdict == "fatal"
    assert message in row.found


def test_swapped_sides_are_noticed(tmp_path) -> None:
    rows = corrupted_coco(tmp_path, lambda a: a.update(hand_type="left"))
    assert rows_of(rows, "finger flexion matches side", "test")[0].verdict == "fatal"
    assert rows_of(rows, "left : right", "test")[0].found == "100% : 0%"


def test_fingers_labelled_backwards_are_noticed(tmp_path) -> None:
    def backwards(a) -> None:
        for key, width in (("joint_cam", 3), ("keypoints", 3)):
            points = np.array(a[key]).reshape(21, width)
            order = [0] + [1 + 4 * f + k for f in range(5) for k in (3, 2, 1, 0)]
            a[key] = points[order].tolist()

    rows = corrupted_coco(tmp_path, backwards)
    assert "tip to base" in rows_of(rows, "proximal / distal phalanx", "test")[0].found
    assert is_fatal(rows)


def test_2d_that_is_not_the_projection(tmp_path) -> None:
    def shifted(a) -> None:
        points = np.array(a["keypoints"]).reshape(21, 3)
        a["keypoints"] = (points + np.array([9, 0, 0])).tolist()

    rows = corrupted_coco(tmp_path, shifted)
    (row,) = rows_of(rows, "reprojection error", "test")
    assert row.found.startswith("median 9.0")
    assert row.verdict == "fatal"


def test_joints_outside_duplicates_and_shared_hands(tmp_path) -> None:
    content, _ = coco_content(np.random.default_rng(1), ["a.png", "b.png", "c.png"])
    for a in content["annotations"]:
        a["keypoints"] = (np.array(a["keypoints"]).reshape(21, 3) + np.array([1000, 0, 0])).tolist()
    content["annotations"][1]["joint_cam"] = content["annotations"][0]["joint_cam"]
    content["annotations"][2]["id"] = content["annotations"][1]["id"]
    content["annotations"][2]["image_id"] = content["annotations"][1]["image_id"]
    for split in ("train", "test"):
        (tmp_path / f"{split}.json").write_text(json.dumps(content))
    write_coco(tmp_path, np.random.default_rng(1), 3, "other.json")
    for i, name in enumerate("abc"):
        (tmp_path / "images" / f"other_{i}.png").rename(tmp_path / "images" / f"{name}.png")
    (tmp_path / "other.json").unlink()
    rows = verify(SPECS["coco"], tmp_path)
    assert rows_of(rows, "joints outside the image")[0].verdict == "fatal"
    assert rows_of(rows, "duplicates")[0].verdict == "warn"
    assert "1 of 3" in rows_of(rows, "duplicates")[0].found
    assert rows_of(rows, "ids")[0].verdict == "fatal"
    assert rows_of(rows, "shared with train", "test")[0].found.startswith("2 hands")


def test_a_missing_split_is_no_fault_unless_it_was_asked_for(tmp_path) -> None:
    write_coco(tmp_path, np.random.default_rng(1), 3, "test.json")
    assert not is_fatal(verify(SPECS["coco"], tmp_path))
    assert is_fatal(verify(SPECS["coco"], tmp_path, ["train"]))
    (tmp_path / "empty").mkdir()
    for name in ("stb", "icvl", "nyu", "msra", "freihand", "coco"):
        rows = verify(SPECS[name], tmp_path / "empty")
        assert [r.verdict for r in rows] == ["fatal", "fatal"], name


def test_a_label_file_that_cannot_be_read_is_fatal(tmp_path) -> None:
    write_stb(tmp_path, np.random.default_rng(1), frames=1, depth=False)
    label = tmp_path / "labels/B3Random_BB.mat"
    label.write_bytes(label.read_bytes()[:400])
    rows = verify(SPECS["stb"], tmp_path)
    assert rows_of(rows, "opens")[0].verdict == "fatal"
    assert "B3Random_BB.mat" in rows_of(rows, "opens")[0].found
    assert rows_of(rows, "samples", "test")


def test_genuine_data(shared_data) -> None:
    for folder in ("rhd", "freihand", "onehand10k", "interhand2.6m"):
        rows = verify(SPECS["coco"], shared_data / "mmpose" / folder)
        assert [r for r in rows if r.verdict == "fatal"] == []
    rows = verify(SPECS["joints"], shared_data / "rhd" / "rhd_evaluation_a.npz")
    assert [r for r in rows if r.verdict == "fatal"] == []
    assert rows_of(rows, "labels checked") == []
    assert rows_of(rows, "joints on or behind the camera")[0].found == "0.04%"
    rows = verify(SPECS["stb"], shared_data / "stb", decode=3)
    assert "2998 of 3,000 missing" in rows_of(rows, "image files", "test")[0].found
