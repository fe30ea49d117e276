"""Cameras turned to look at the palm, against numpy's own projection of the turned hand."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.hands import joints_file
from hypothesis import given
from hypothesis import strategies as st

from cvhpe.config.schema import checked
from cvhpe.data.loader import Batches
from cvhpe.data.packing.rectification import rectified, towards
from cvhpe.errors import UserError
from cvhpe.geometry.camera import crop_around, project
from cvhpe.training.datamodule import open_data, pack

RUN = {"modalities": ["rays", "joints3d"], "pairs": ["rays:joints3d"]}


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The same hands as they are packed, and before cameras that look at them."""
    folder = tmp_path_factory.mktemp("rectify")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CVHPE_CACHE", str(folder / "cache"))
        source = f"joints:{joints_file(folder / 'hands.npz', 120, 20)}"
        plain = checked({"modalities": ["joints2d", "joints3d"], "pairs": ["joints2d:joints3d"], "data": [source]})
        turned = open_data(checked({**RUN, "data": [source]})).train[0]
        yield pack(source, "train", plain, ("joints2d", "joints3d")), turned


@given(st.floats(-1, 1), st.floats(-1, 1))
def test_the_smallest_turn_takes_a_direction_to_the_axis(x, y):
    direction = np.array([[x, y, 1.0]]) / np.sqrt(x * x + y * y + 1)
    turn = towards(direction)[0]
    np.testing.assert_allclose(turn @ direction[0], [0, 0, 1], atol=1e-12)
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(turn) == pytest.approx(1)
    assert np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1)) == pytest.approx(np.arccos(direction[0, 2]), abs=1e-6)


def test_what_is_seen_is_the_turned_hand(both):
    plain, turned = both
    assert len(plain) == len(turned)
    xyz = turned["joints3d_mm"].astype(np.float64)
    uv = turned["joints2d"] * turned["crop"][:, None, 2:] + turned["crop"][:, None, :2]
    known = (np.abs(plain["joints2d"]) < 1).all(2) & turned["has_joints3d"][:, None]
    assert known.mean() > 0.98
    np.testing.assert_allclose(uv[known], project(xyz, turned["K"])[known], atol=0.02)
    assert not np.isfinite(uv[~known & turned["has_joints3d"][:, None]]).any()
    np.testing.assert_array_equal(turned["K"], plain["K"])
    # the palm, half-way between two 2D labels, is where the camera looks
    palm = known[:, [0, 9]].all(1)
    np.testing.assert_allclose(((uv[:, 0] + uv[:, 9]) / 2)[palm], turned["K"][palm, :2, 2], atol=3)
    # turned about the camera, not moved or bent
    np.testing.assert_allclose(np.linalg.norm(xyz, axis=2), np.linalg.norm(plain["joints3d_mm"], axis=2), rtol=1e-5)
    for one, other in zip(xyz[:20], plain["joints3d_mm"][:20], strict=True):
        np.testing.assert_allclose(one @ one.T, other @ other.T, rtol=1e-4)
    for row in np.flatnonzero(known.all(1))[:20]:
        assert crop_around(uv[row], 1.25).packed == pytest.approx(turned["crop"][row], abs=0.01)


def test_hands_without_a_camera_are_left_out_and_pictures_refused(both):
    plain, turned = both
    K = plain["K"].copy()
    K[:4] = np.nan
    from dataclasses import replace

    lacking = rectified(replace(plain, arrays={**plain.arrays, "K": K}))
    assert not lacking["has_joints3d"][:4].any()
    assert not lacking["has_joints2d"][:4].any()
    np.testing.assert_array_equal(lacking["has_joints3d"][4:], turned["has_joints3d"][4:])
    assert turned["has_joints3d"].mean() > 0.98
    with pytest.raises(UserError, match="camera"):
        rectified(replace(plain, arrays={**plain.arrays, "K": np.full_like(K, np.nan)}))


def test_part_of_a_pack_is_turned_alike(both):
    plain, turned = both
    some = rectified(plain.subset(np.array([7, 3, 50])))
    assert len(some) == 3
    np.testing.assert_array_equal(some["joints3d_mm"], turned["joints3d_mm"][[7, 3, 50]])
    fields = Batches([some], ("joints2d", "joints3d"), 3, shuffle=False).batch(np.arange(3))
    assert fields["joints3d"].isfinite().all()
