from __future__ import annotations

import numpy as np
import pytest
from helpers.dataset_writers import write_msra
from hypothesis import given, settings
from hypothesis import strategies as st

from cvhpe.data.datasets.msra import FRAMES, GESTURES, Msra, read_depth, read_joints
from cvhpe.errors import DataError
from cvhpe.geometry.skeleton import convert


@pytest.fixture(scope="module")
def msra(tmp_path_factory):
    root = tmp_path_factory.mktemp("msra")
    return root, write_msra(root, np.random.default_rng(1))


def test_one_subject_is_left_out(msra) -> None:
    root, truth = msra
    for query, subject in (("", 0), ("?subject=3", 3), ("?subject=8", 8)):
        path = root.parent / (root.name + query)
        train, test = Msra(path, "train"), Msra(path, "test")
        assert (len(train), len(test)) == (8 * 4, 4)
        assert {test.labels(i).group for i in range(len(test))} == {subject}
        assert {train.labels(i).group for i in range(len(train))} == set(range(9)) - {subject}
        assert test.labels(3).id == f"test/P{subject}/TIP/000001"
        xyz = convert(test.labels(3).joints3d_mm, "msra", "hand21")
        assert np.allclose(xyz, truth[subject, "TIP"][1], atol=1e-3)
    assert len(train.absent) == 8 * (len(GESTURES) - 2)
    assert sum(FRAMES) == 76_375


def test_joints_land_on_the_depth(msra) -> None:
    data = Msra(msra[0], "test")
    for i in range(len(data)):
        s = data[i]
        assert s.side == 1
        px = np.rint(s.joints2d_px).astype(int)
        depth = s.images["depth"][px[:, 1], px[:, 0]]
        assert (depth <= s.joints3d_mm[:, 2] + 1e-3).all()
        assert (np.abs(depth - s.joints3d_mm[:, 2]) < 1e-3).mean() > 0.6
        assert s.images["depth"].shape == (240, 320)
        assert s.images["depth"][0, 0] == 0


def test_faults(tmp_path) -> None:
    write_msra(tmp_path, np.random.default_rng(1), subjects=[0, 1], gestures=("1",))
    data = Msra(tmp_path, "test")
    binary, joints = tmp_path / "P0/1/000000_depth.bin", tmp_path / "P0/1/joint.txt"
    content, text = binary.read_bytes(), joints.read_text()
    for cut, what in (
        (10, "its header alone has 24"),
        (len(content) - 7, f"{len(content) - 7} bytes of {len(content)}"),
    ):
        binary.write_bytes(content[:cut])
        with pytest.raises(DataError, match=rf"000000_depth\.bin: is truncated: .*{what}"):
            data[0]
    binary.write_bytes(content + b"more")
    with pytest.raises(DataError, match="is too long"):
        data[0]
    binary.write_bytes(np.array([320, 240, 0, 0, 2**31, 2**31], "<u4").tobytes())
    with pytest.raises(DataError, match="is not inside 320x240"):
        data[0]
    binary.write_bytes(np.array([99999, 240, 0, 0, 10, 10], "<u4").tobytes())
    with pytest.raises(DataError, match="says 99999x240 px"):
        data[0]
    lines = text.splitlines()
    joints.write_text("\n".join([lines[0], lines[1], lines[2][:100]]) + "\n")
    with pytest.raises(DataError, match=r"P0/1/joint\.txt: line 3 has \d+ numbers, expected 63"):
        Msra(tmp_path, "test")
    joints.write_text("\n".join(lines[:2]) + "\n")
    with pytest.raises(DataError, match="announces 2 frames and holds 1: truncated"):
        Msra(tmp_path, "test")
    joints.write_text("")
    with pytest.raises(DataError, match="first line is not the number of frames"):
        Msra(tmp_path, "test")
    joints.unlink()
    with pytest.raises(DataError, match=r"lacks P0, e\.g\. P0/1/joint\.txt"):
        Msra(tmp_path, "test")
    with pytest.raises(DataError, match="subjects are 0 to 8"):
        Msra(tmp_path.parent / f"{tmp_path.name}?subject=9", "test")


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_make_it_fail_otherwise(tmp_path_factory, raw) -> None:
    path = tmp_path_factory.getbasetemp() / "any_depth.bin"
    path.write_bytes(raw)
    with pytest.raises(DataError):
        read_depth(path)


def test_genuine_joints(shared_data) -> None:
    xyz = read_joints(shared_data / "msra" / "joint.txt")
    assert xyz.shape == (400, 21, 3)
    assert (xyz[..., 2] > 100).all()
    first = (shared_data / "msra" / "joint.txt").read_text().split()[1:4]
    assert xyz[0, 0].tolist() == [float(first[0]), -float(first[1]), -float(first[2])]
