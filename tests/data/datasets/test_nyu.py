from __future__ import annotations

import shutil

import numpy as np
import pytest
import scipy.io
from helpers.dataset_writers import write_nyu

from cvhpe.data.datasets.nyu import Nyu
from cvhpe.errors import DataError
from cvhpe.geometry.camera import project


@pytest.fixture(scope="module")
def nyu(tmp_path_factory):
    root = tmp_path_factory.mktemp("nyu")
    return root, write_nyu(root, np.random.default_rng(1))


def with_views(root, views: str):
    return root.parent / f"{root.name}?views={views}"


def test_view_one_by_default_and_all_three_on_request(nyu) -> None:
    root, truth = nyu
    single, multi = Nyu(root, "test"), Nyu(with_views(root, "123"), "test")
    assert (len(single), len(multi)) == (2, 6)
    assert [multi.labels(i).id for i in range(4)] == [
        "test/0000001:1", "test/0000001:2", "test/0000001:3", "test/0000002:1"
    ]  # fmt: skip
    assert np.allclose(single[1].joints3d_mm, truth["test"][0, 1], atol=1e-3)
    assert np.allclose(multi[4].joints3d_mm, truth["test"][1, 1], atol=1e-3)


def test_y_points_down_and_joints_land_on_the_depth(nyu) -> None:
    root, _ = nyu
    data = Nyu(with_views(root, "123"), "train")
    for i in range(len(data)):
        s = data[i]
        assert s.joints3d_mm.shape == (14, 3)
        assert np.abs(project(s.joints3d_mm, s.K) - s.joints2d_px).max() < 0.01
        px = np.rint(s.joints2d_px).astype(int)
        depth = s.images["depth"][px[:, 1], px[:, 0]]
        assert (depth <= s.joints3d_mm[:, 2] + 1).all()
        assert (np.abs(depth - s.joints3d_mm[:, 2]) <= 1).mean() > 0.6
        assert (s.images["rgb"][px[:, 1], px[:, 0], 1] == 220).all()
        assert s.images["depth"][0, 0] == 2001


def test_faults(nyu, tmp_path) -> None:
    source, _ = nyu
    root = tmp_path / "nyu"
    shutil.copytree(source, root)
    for wrong in ("", "0", "4", "11", "1a"):
        with pytest.raises(DataError, match="name each view once"):
            Nyu(with_views(root, wrong), "test")
    with pytest.raises(DataError, match="has no option 'view=1'"):
        Nyu(root.parent / "nyu?view=1", "test")
    mat = root / "test" / "joint_data.mat"
    mat.write_bytes(mat.read_bytes()[:3000])
    with pytest.raises(DataError, match=r"^[^\n]*joint_data\.mat: [^\n]*$"):
        Nyu(root, "test")
    scipy.io.savemat(mat, {"joint_xyz": np.zeros((3, 2, 36, 3))})
    with pytest.raises(DataError, match=r"joint_data\.mat: has no variable 'joint_uvd'"):
        Nyu(root, "test")
    scipy.io.savemat(mat, {"joint_xyz": np.zeros((3, 2, 36, 3)), "joint_uvd": np.zeros((3, 1, 36, 3))})
    with pytest.raises(DataError, match="differ in their number of frames"):
        Nyu(root, "test")
    mat.unlink()
    with pytest.raises(DataError, match=r"lacks test/joint_data\.mat"):
        Nyu(root, "test")


def test_genuine_depth_image(shared_data, tmp_path) -> None:
    """The one genuine frame has no labels: put it in a miniature and decode its millimetres."""
    write_nyu(tmp_path, np.random.default_rng(3), train=1, test=1)
    for kind in ("depth", "rgb"):
        name = f"{kind}_1_0000001.png"
        (tmp_path / "test" / name).write_bytes((shared_data / "nyu" / "test" / name).read_bytes())
    depth = Nyu(tmp_path, "test")[0].images["depth"]
    assert depth.shape == (480, 640)
    hand = depth[240:300, 190:230]  # the palm, by the colour image
    assert 500 < np.median(hand) < 1000
    assert hand.std() < 30
    assert depth.max() == 2001
