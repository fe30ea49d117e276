"""Packs rectified to look at the palm, against the projection of the rotated hand."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.hands import joints_file

from cvhpe.config.schema import checked
from cvhpe.data.loader import Batches
from cvhpe.data.packing.rectification import rectify_pack
from cvhpe.errors import UserError
from cvhpe.geometry.camera import crop_around, project
from cvhpe.training.datamodule import open_data, open_split

RUN = {"modalities": ["rays", "joints3d"], "pairs": ["rays:joints3d"]}


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The same hands as they are packed, and rectified."""
    folder = tmp_path_factory.mktemp("rectify")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CVHPE_CACHE", str(folder / "cache"))
        source = f"joints:{joints_file(folder / 'hands.npz', 120, 20)}"
        plain = checked({"modalities": ["joints2d", "joints3d"], "pairs": ["joints2d:joints3d"], "data": [source]})
        rectified = open_data(checked({**RUN, "data": [source]})).train[0]
        yield open_split(source, "train", plain), rectified


def test_2d_joints_are_the_projection_of_the_rotated_hand(both):
    plain, rectified = both
    assert len(plain) == len(rectified)
    xyz = rectified["joints3d_mm"].astype(np.float64)
    uv = rectified["joints2d"] * rectified["crop"][:, None, 2:] + rectified["crop"][:, None, :2]
    known = (np.abs(plain["joints2d"]) < 1).all(2) & rectified["has_joints3d"][:, None]
    assert known.mean() > 0.98
    np.testing.assert_allclose(uv[known], project(xyz, rectified["K"])[known], atol=0.02)
    assert not np.isfinite(uv[~known & rectified["has_joints3d"][:, None]]).any()
    np.testing.assert_array_equal(rectified["K"], plain["K"])
    # the palm, half-way between two 2D labels, is where the camera looks
    palm = known[:, [0, 9]].all(1)
    np.testing.assert_allclose(((uv[:, 0] + uv[:, 9]) / 2)[palm], rectified["K"][palm, :2, 2], atol=3)
    # rotated about the camera, not moved or bent
    np.testing.assert_allclose(np.linalg.norm(xyz, axis=2), np.linalg.norm(plain["joints3d_mm"], axis=2), rtol=1e-5)
    for after, before in zip(xyz[:20], plain["joints3d_mm"][:20], strict=True):
        np.testing.assert_allclose(after @ after.T, before @ before.T, rtol=1e-4)
    for row in np.flatnonzero(known.all(1))[:20]:
        assert crop_around(uv[row], 1.25).packed == pytest.approx(rectified["crop"][row], abs=0.01)


def test_hands_without_a_camera_are_left_out_and_images_refused(both):
    plain, rectified = both
    K = plain["K"].copy()
    K[:4] = np.nan
    from dataclasses import replace

    incomplete = rectify_pack(replace(plain, arrays={**plain.arrays, "K": K}))[0]
    assert not incomplete["has_joints3d"][:4].any()
    assert not incomplete["has_joints2d"][:4].any()
    np.testing.assert_array_equal(incomplete["has_joints3d"][4:], rectified["has_joints3d"][4:])
    assert rectified["has_joints3d"].mean() > 0.98
    with pytest.raises(UserError, match="camera"):
        rectify_pack(replace(plain, arrays={**plain.arrays, "K": np.full_like(K, np.nan)}))


def test_a_subset_is_rectified_alike(both):
    plain, rectified = both
    subset = rectify_pack(plain.subset(np.array([7, 3, 50])))[0]
    assert len(subset) == 3
    np.testing.assert_array_equal(subset["joints3d_mm"], rectified["joints3d_mm"][[7, 3, 50]])
    fields = Batches([subset], ("joints2d", "joints3d"), 3, shuffle=False).batch(np.arange(3))
    assert fields["joints3d"].isfinite().all()
