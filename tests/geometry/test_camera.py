from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cvhpe.geometry.camera import (
    Crop,
    crop_around,
    crop_cube,
    encode_depth,
    intrinsics,
    project,
    unproject,
)

coordinate = st.floats(-500, 500)
focal = st.floats(100, 1500)
centre = st.floats(0, 640)
cameras = st.builds(intrinsics, focal, focal, centre, centre)


@given(K=cameras, xy=arrays(float, (21, 2), elements=coordinate), z=arrays(float, 21, elements=st.floats(50, 2000)))
def test_unproject_undoes_project(K, xy, z) -> None:
    xyz = np.concatenate([xy, z[:, None]], 1)
    assert np.allclose(unproject(project(xyz, K), z, K), xyz, atol=1e-7)


@given(K=cameras, uv=arrays(float, (5, 2), elements=st.floats(-1000, 1000)), z=st.floats(50, 2000))
def test_project_undoes_unproject(K, uv, z) -> None:
    assert np.allclose(project(unproject(uv, z, K), K), uv, atol=1e-6)


def test_project_by_hand() -> None:
    K = np.array([[300.0, 2.0, 150.0], [0, 280, 110], [0, 0, 1]])
    x, y, z = 30.0, -20.0, 400.0
    assert np.allclose(project(np.array([x, y, z]), K), [300 * x / z + 2 * y / z + 150, 280 * y / z + 110])


def test_one_camera_a_frame() -> None:
    rng = np.random.default_rng(0)
    xyz = rng.uniform(100, 300, (6, 21, 3))
    K = np.stack([intrinsics(*rng.uniform(100, 400, 4)) for _ in range(6)])
    each = np.stack([project(x, k) for x, k in zip(xyz, K, strict=True)])
    assert np.allclose(project(xyz, K), each)
    assert np.allclose(unproject(each, xyz[..., 2], K), xyz)


def test_points_in_the_camera_plane_have_no_image() -> None:
    xyz = np.array([[10.0, 0, 1e-300], [0, 3, 1e-9], [0, 3, 1e-7]])
    assert np.isnan(project(xyz, intrinsics(100, 100, 50, 50))).any(-1).tolist() == [True, True, False]


def test_points_behind_the_camera_have_no_image() -> None:
    uv = project(np.array([[1.0, 1, 0], [1, 1, -10], [1, 1, 10], [np.nan, 0, 10]]), intrinsics(100, 100, 50, 50))
    assert np.isfinite(uv).all(1).tolist() == [False, False, True, False]
    assert np.isnan(unproject(np.zeros(2), np.array(0.0), intrinsics(100, 100, 50, 50))).all()


@given(
    x=st.floats(-500, 500),
    y=st.floats(-500, 500),
    side=st.floats(1, 2000),
    px=arrays(float, (7, 2), elements=coordinate),
)
def test_crop_fraction_and_back(x, y, side, px) -> None:
    crop = Crop((x, y), side)
    assert np.allclose(crop.pixels(crop.fraction(px)), px, atol=1e-9)
    corner = np.array([x - side / 2, y + side / 2])
    assert np.allclose(crop.fraction(corner), [-0.5, 0.5])


@given(joints=arrays(float, (21, 2), elements=st.floats(-300, 900)), factor=st.floats(1, 3))
def test_crop_around_holds_its_joints(joints, factor) -> None:
    crop = crop_around(joints, factor)
    assert np.abs(crop.fraction(joints)).max() <= 0.5 / factor + 1e-9 or crop.side == 8


def test_crop_around_leaves_out_hidden_joints() -> None:
    joints = np.array([[10.0, 10], [20, 30], [5000, 10], [np.nan, 3]])
    assert crop_around(joints, 2.0, np.array([1, 1, 0, 1])) == Crop((15.0, 20.0), 40.0)
    assert crop_around(joints, 1.0, np.zeros(4)).side == 4990.0
    with pytest.raises(ValueError, match="no finite 2D joint"):
        crop_around(np.full((3, 2), np.nan))
    with pytest.raises(ValueError, match="side above 0"):
        Crop((1, 1), 0)


@given(K=cameras, z=st.floats(200, 1500), cube=st.floats(50, 300))
def test_cube_crop_spans_the_cube(K, z, cube) -> None:
    K = intrinsics(K[0, 0], K[0, 0], K[0, 2], K[1, 2])
    crop = crop_cube(np.array([10.0, -20, z]), K, cube)
    ends = project(np.array([[10 - cube, -20, z], [10 + cube, -20, z]]), K)
    assert np.allclose(crop.fraction(ends)[:, 0], [-0.5, 0.5])
    with pytest.raises(ValueError, match="in front of the camera"):
        crop_cube(np.array([0.0, 0, -z]), K, cube)


@given(z=st.floats(300, 1500), cube=st.floats(50, 300), at=arrays(float, 50, elements=st.floats(-1, 1)))
def test_depth_codes_come_back(z, cube, at) -> None:
    mm = z + at * cube * 0.999
    code = encode_depth(mm, z, cube)
    assert code.dtype == np.uint16
    assert code.min() >= 1
    decoded = z + ((code - 1.0) / 65534 * 2 - 1) * cube
    assert np.abs(decoded - mm).max() <= cube / 65534 + 1e-9


def test_depth_holes_and_background_are_zero() -> None:
    mm = np.array([0.0, -3, np.nan, np.inf, 349, 651, 350, 500, 650])
    assert encode_depth(mm, 500, 150).tolist() == [0, 0, 0, 0, 0, 0, 1, 32768, 65535]
