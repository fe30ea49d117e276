from __future__ import annotations

import numpy as np
import pytest
import scipy.io
from helpers.dataset_writers import write_stb

from cvhpe.data.datasets.stb import SIZE, StbDepth, StbStereo, depth_to_color, register_depth
from cvhpe.errors import DataError
from cvhpe.geometry.camera import project
from cvhpe.geometry.skeleton import convert


@pytest.fixture(scope="module")
def stb(tmp_path_factory):
    root = tmp_path_factory.mktemp("stb")
    return root, write_stb(root, np.random.default_rng(1), frames=2)


def green(image, uv) -> np.ndarray:
    px = np.rint(uv).astype(int)
    return image[px[:, 1], px[:, 0], 1]


def test_splits_are_b1_and_the_rest(stb) -> None:
    root, _ = stb
    train, test = StbStereo(root, "train"), StbStereo(root, "test")
    assert (len(train), len(test)) == (10 * 2 * 2, 2 * 2 * 2)
    assert test.sequences == ("B1Counting", "B1Random")
    assert not {s.split("/")[1] for s in (train.labels(i).id for i in range(len(train)))} & set(test.sequences)
    assert train.absent == test.absent == ()


def test_both_views_are_samples_of_their_own_camera(stb) -> None:
    root, truth = stb
    test = StbStereo(root, "test")
    left, right = test[2], test[3]
    assert (left.id, right.id) == ("test/B1Counting/1:left", "test/B1Counting/1:right")
    expected = truth["B1Counting"][1]
    assert np.allclose(convert(left.joints3d_mm, "stb", "hand21"), expected, atol=1e-3)
    assert np.allclose(convert(right.joints3d_mm, "stb", "hand21"), expected - [120.054, 0, 0], atol=1e-3)
    for s in (left, right):
        assert s.side == 0
        assert s.images["rgb"].shape == (480, 640, 3)
        assert np.abs(project(s.joints3d_mm, s.K) - s.joints2d_px).max() < 1e-2
        assert (green(s.images["rgb"], s.joints2d_px) == 220).all()
    assert left.group == right.group != test[4].group


def test_sk_joints_land_on_colour_and_on_registered_depth(stb) -> None:
    root, _ = stb
    test = StbDepth(root, "test")
    assert len(test) == 4
    for i in range(len(test)):
        s = test[i]
        assert (green(s.images["rgb"], s.joints2d_px) == 220).all()
        px = np.rint(s.joints2d_px).astype(int)
        depth = s.images["depth"][px[:, 1], px[:, 0]]
        # A joint may hide behind another one's disc, never before its own.
        assert (depth <= s.joints3d_mm[:, 2] + 4).all()
        assert (np.abs(depth - s.joints3d_mm[:, 2]) < 4).mean() > 0.6


def test_registration_is_dense_and_keeps_distances() -> None:
    plane = np.full((SIZE[1], SIZE[0]), 700.0)
    out = register_depth(plane)
    middle = out[150:330, 150:450]
    assert (middle > 0).all()
    assert np.abs(middle - 700).max() < 15  # the colour camera is 1 mm ahead and rotated by 0.7 degrees
    assert not register_depth(np.zeros((480, 640))).any()


def test_depth_to_color_is_the_inverse_of_the_published_motion(rng) -> None:
    from scipy.spatial.transform import Rotation

    x = rng.normal(0, 100, (5, 3))
    rotation = Rotation.from_rotvec([0.00531, -0.01196, 0.00301]).as_matrix()
    assert np.allclose(depth_to_color(x @ rotation.T + [-24.0381, -0.4563, -1.2326]), x, atol=1e-9)


def test_faults_are_one_line_that_names_the_file(stb, tmp_path) -> None:
    root = tmp_path / "stb"
    write_stb(root, np.random.default_rng(2), frames=1, sequences=["B1Counting"], depth=False)
    label = root / "labels" / "B1Counting_BB.mat"
    image = root / "images" / "B1Counting" / "BB_left_0.png"
    content = label.read_bytes()

    data = StbStereo(root, "test")
    image.write_bytes(image.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"^[^\n]*BB_left_0\.png: cannot be decoded, truncated[^\n]*$"):
        data[0]
    image.unlink()
    with pytest.raises(DataError, match=r"^[^\n]*BB_left_0\.png: is missing$"):
        data[0]

    for cut in (0, 5, 90, 200, len(content) - 50):
        label.write_bytes(content[:cut])
        with pytest.raises(DataError, match=r"^[^\n]*B1Counting_BB\.mat: [^\n]*$"):
            StbStereo(root, "test")
    scipy.io.savemat(label, {"hand": np.zeros(3)})
    with pytest.raises(DataError, match=r"B1Counting_BB\.mat: has no variable 'handPara'; it has hand$"):
        StbStereo(root, "test")
    scipy.io.savemat(label, {"handPara": np.zeros((3, 20, 5))})
    with pytest.raises(DataError, match=r"'handPara' has shape \(3, 20, 5\), expected \(3, 21, N\)"):
        StbStereo(root, "test")
    scipy.io.savemat(label, {"handPara": np.full((3, 21, 1), np.nan)})
    with pytest.raises(DataError, match="not finite"):
        StbStereo(root, "test")
    with pytest.raises(DataError, match=r"lacks labels/B2Counting_BB\.mat and every other label of the train split"):
        StbStereo(root, "train")


def test_genuine_file(shared_data) -> None:
    data = StbStereo(shared_data / "stb", "test")
    assert len(data) == 2 * 1500
    for view in (0, 1):
        s = data[view]
        assert s.images["rgb"].shape == (480, 640, 3)
        assert np.abs(project(s.joints3d_mm, s.K) - s.joints2d_px).max() < 0.1
        # Skin is red rather than green and blue at the joints of the palm and the fingers' bases.
        px = np.rint(convert(s.joints2d_px, "stb", "hand21")[[0, 5, 9, 13, 17]]).astype(int)
        r, g, b = s.images["rgb"][px[:, 1], px[:, 0]].astype(int).T
        assert ((r > g) & (g > b)).all()
    xyz = np.stack([data.labels(i).joints3d_mm for i in range(0, 3000, 2)])
    bone = np.linalg.norm(xyz[:, 9] - xyz[:, 10], axis=-1)
    assert np.abs(bone - 40).max() < 0.01  # the rigid skeleton's middle proximal phalanx
