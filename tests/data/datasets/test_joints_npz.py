"""The joints reader: what its splits are, and one line for everything that can be wrong with a file."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from cvhpe.data.datasets.joints_npz import JointsFile
from cvhpe.errors import DataError, UserError


def good(n: int = 40, layout: str = "rhd", **more: np.ndarray) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    joints = {"icvl16": 16, "nyu14": 14}.get(layout, 21)
    return {
        "joints3d_mm": rng.normal(0, 50, (n, joints, 3)) + np.array([0, 0, 500]),
        "joints2d_px": rng.uniform(0, 320, (n, joints, 2)),
        "K": np.tile(np.eye(3), (n, 1, 1)),
        "is_left": np.arange(n) % 3 == 0,
        "layout": np.array(layout),
        **more,
    }


def write(folder: Path, arrays: dict[str, np.ndarray]) -> Path:
    np.savez(folder / "hands.npz", **arrays)
    return folder / "hands.npz"


def test_samples_are_the_rows_of_the_file(tmp_path: Path) -> None:
    arrays = good(visible=np.random.default_rng(1).random((40, 21)) > 0.5, group=np.arange(40) // 4)
    data = JointsFile(write(tmp_path, arrays), "all")
    assert (len(data), data.layout, data.root) == (40, "rhd", "wrist")
    for i in (0, 7, 39):
        sample = data[i]
        assert sample.side == (0 if arrays["is_left"][i] else 1)
        np.testing.assert_allclose(sample.joints3d_mm, arrays["joints3d_mm"][i], rtol=1e-6)
        np.testing.assert_allclose(sample.joints2d_px, arrays["joints2d_px"][i], rtol=1e-6)
        np.testing.assert_array_equal(sample.visible, arrays["visible"][i])
        assert sample.group == i // 4


def test_the_file_says_what_trains(tmp_path: Path) -> None:
    split = np.array(["train"] * 30 + ["val"] * 6 + ["test"] * 4)
    path = write(tmp_path, good(split=split))
    for name in ("train", "val", "test"):
        data = JointsFile(path, name)
        assert [int(data[i].id) for i in range(len(data))] == np.flatnonzero(split == name).tolist()
    without_test = write(tmp_path, good(split=np.array(["train"] * 30 + ["val"] * 10)))
    data = JointsFile(without_test, "test")
    assert (len(data), "marked val" in data.note) == (10, True)
    with pytest.raises(DataError, match=r"hands\.npz: its 'split' marks no frame 'val'; it has train"):
        JointsFile(write(tmp_path, good(split=np.array(["train"] * 40))), "val")


def test_without_a_split_groups_stay_whole_and_everything_can_be_scored(tmp_path: Path) -> None:
    group = np.arange(40) // 4
    path = write(tmp_path, good(group=group))
    train, val = JointsFile(path, "train"), JointsFile(path, "val")
    rows = [{int(d[i].id) for i in range(len(d))} for d in (train, val)]
    assert rows[0] | rows[1] == set(range(40))
    assert not rows[0] & rows[1]
    assert not {group[i] for i in rows[0]} & {group[i] for i in rows[1]}
    assert "tenth of its groups" in train.note
    assert rows[1] == {int(JointsFile(path, "val")[i].id) for i in range(len(val))}
    assert len(JointsFile(path, "test")) == 40
    frames = JointsFile(write(tmp_path, good()), "val")
    assert len(frames) == 4
    assert "tenth of its frames" in frames.note
    with pytest.raises(DataError, match="in one group"):
        JointsFile(write(tmp_path, good(group=np.zeros(40, int))), "val")


@pytest.mark.parametrize(("layout", "joints"), [("icvl16", 16), ("nyu14", 14), ("stb", 21), ("mediapipe", 21)])
def test_other_layouts(tmp_path: Path, layout: str, joints: int) -> None:
    data = JointsFile(write(tmp_path, good(layout=layout)), "all")
    assert data[0].joints3d_mm.shape == (joints, 3)
    assert data.root == ("wrist" if layout == "mediapipe" else "palm")


def test_the_canonical_layout_has_to_say_its_root(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="add root='wrist'"):
        JointsFile(write(tmp_path, good(layout="hand21")), "all")
    assert JointsFile(write(tmp_path, good(layout="hand21", root=np.array("palm"))), "all").root == "palm"
    with pytest.raises(DataError, match="must be 'wrist'"):
        JointsFile(write(tmp_path, good(layout="rhd", root=np.array("palm"))), "all")


def _changed(key: str, change: object) -> dict[str, np.ndarray]:
    arrays = good()
    if change is None:
        del arrays[key]
    else:
        arrays[key] = change(arrays[key]) if callable(change) else change  # type: ignore[assignment]
    return arrays


def _nan(array: np.ndarray) -> np.ndarray:
    array[5, 3, 1] = np.nan
    return array


@pytest.mark.parametrize(
    ("key", "change", "match"),
    [
        ("K", None, r"lacks K;"),
        ("joints3d_mm", lambda a: a[:, :20], r"has shape \(40, 20, 3\), with layout rhd it must be \(40, 21, 3\)"),
        ("joints2d_px", lambda a: a[:39], r"joints2d_px has shape \(39, 21, 2\)"),
        ("joints2d_px", _nan, "joints2d_px is NaN, infinite or beyond reason at frame 5, joint 3"),
        ("joints3d_mm", _nan, "joints3d_mm is NaN, infinite or beyond reason at frame 5, joint 3"),
        ("joints3d_mm", lambda a: a * 1e300, "joints3d_mm is NaN, infinite or beyond reason at frame 0"),
        ("joints3d_mm", lambda a: a * np.inf, "frames with such: 40"),
        ("joints3d_mm", np.zeros(()), "joints3d_mm has shape"),
        ("joints3d_mm", lambda a: a.astype(str), "must hold numbers"),
        ("K", lambda a: a * np.nan, "K is NaN, infinite or beyond reason at frame 0"),
        ("layout", np.array("rdh"), "unknown joint layout 'rdh'; did you mean 'rhd'"),
        ("layout", np.array(["rhd", "stb"]), "layout must be one string"),
        ("layout", np.array(3), "layout must be one string"),
        ("is_left", np.zeros((40, 1)), "is_left has shape"),
        ("is_left", np.arange(40) % 2 + 1, "is_left is 2 at frame 1; it must be True or False"),
        ("visible", np.ones((40, 20), bool), "visible has shape"),
        ("visible", np.full((40, 21), 0.5), "visible is 0.5 at frame 0; it must be True or False"),
        ("visible", np.full((40, 21), np.nan), "visible is nan at frame 0"),
        ("split", np.array(["train"] * 39 + ["dev"]), "split holds 'dev'"),
        ("group", np.zeros(3), "group has shape"),
        ("group", np.full(40, np.nan), "group holds nan, it must hold whole numbers"),
    ],
)  # fmt: skip
def test_faults_are_one_line(tmp_path: Path, key: str, change: object, match: str) -> None:
    path = write(tmp_path, _changed(key, change))
    with pytest.raises(DataError, match=match) as error:
        JointsFile(path, "train")
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_unlabelled_joints_that_are_said_to_be_invisible_pass(tmp_path: Path) -> None:
    arrays = good(visible=np.ones((40, 21), bool))
    arrays["joints3d_mm"][5, 3] = np.inf
    arrays["visible"][5, 3] = False
    assert np.isnan(JointsFile(write(tmp_path, arrays), "all")[5].joints3d_mm[3]).all()


def test_flags_may_be_numbers(tmp_path: Path) -> None:
    is_left, visible = np.arange(40) % 2, np.ones((40, 21))
    visible[3, 4] = 0
    hands = JointsFile(write(tmp_path, good(is_left=is_left, visible=visible)), "all")
    assert [hands[i].side for i in range(40)] == [1, 0] * 20
    assert not hands[3].visible[4]
    assert hands[3].visible.sum() == 20


def test_what_is_no_npz(tmp_path: Path) -> None:
    def fails(match: str, path: Path | None) -> None:
        with pytest.raises(DataError, match=match) as error:
            JointsFile(path, "train")
        assert "\n" not in str(error.value)

    fails("name it, as in --data joints:", None)
    fails("no such file", tmp_path / "absent.npz")
    fails("a folder", tmp_path)
    text = tmp_path / "text.npz"
    text.write_text("frame,x,y\n")
    fails(r"text\.npz: not a complete \.npz.*no array file at all", text)
    np.save(tmp_path / "one.npy", np.zeros(3))
    fails(r"one\.npy: not an \.npz", tmp_path / "one.npy")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as file:
        file.writestr("readme.txt", "hello")
    fails("lacks joints3d_mm", tmp_path / "other.zip")
    content = write(tmp_path, good()).read_bytes()
    newer = bytearray(content)
    newer[newer.index(b"PK\x01\x02") + 6] = 173  # the version of zip that it takes to read the first member
    (tmp_path / "newer.npz").write_bytes(newer)
    fails(r"newer\.npz: not a complete \.npz.*zip file version 17\.3", tmp_path / "newer.npz")
    (tmp_path / "cut.npz").write_bytes(content[: len(content) // 2])
    fails(r"cut\.npz: not a complete", tmp_path / "cut.npz")
    damaged = bytearray(content)
    damaged[2000] ^= 0xFF
    (tmp_path / "damaged.npz").write_bytes(damaged)
    fails(r"damaged\.npz: not a complete", tmp_path / "damaged.npz")
    fails("not a complete.*holds Python objects", write(tmp_path, good(group=np.array([{}] * 40, dtype=object))))
    fails("holds no frame", write(tmp_path, {**good(0), "layout": np.array("rhd")}))
    with pytest.raises(UserError, match="no split 'trian'"):
        JointsFile(write(tmp_path, good()), "trian")


def test_the_genuine_file(shared_data: Path) -> None:
    path = shared_data / "rhd" / "rhd_evaluation_a.npz"
    train, val = JointsFile(path, "train"), JointsFile(path, "val")
    assert (len(train), len(val), len(JointsFile(path, "all"))) == (1140, 176, 1316)
    assert train.note.endswith("; 1 of them with a joint behind the camera (z <= 0), where it has no image")
    assert "behind" not in val.note
    assert not {train[i].group for i in range(len(train))} & {val[i].group for i in range(len(val))}
