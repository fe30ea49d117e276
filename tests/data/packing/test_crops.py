"""Hand crops: stored images, crop fractions and depth codes describe the same place."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.packs import depth_mm
from hypothesis import given
from hypothesis import strategies as st

from cvhpe.data.packing.crops import (
    MAX_FRACTION,
    CropOptions,
    JointMap,
    crop_image,
    crop_nearest,
    crop_sample,
)
from cvhpe.errors import DataError, UserError
from cvhpe.geometry.camera import Crop, intrinsics, project
from cvhpe.geometry.skeleton import layout
from cvhpe.plugin.sample import Sample

K = intrinsics(280, 280, 160, 120)
HAND21 = JointMap.of("hand21")


def hand(seed: int = 0, at: tuple[float, float, float] = (10.0, -20.0, 500.0)) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-70, 70, (21, 3)) * (1, 1, 0.5) + at


def sample(**more: object) -> Sample:
    xyz = hand()
    given = {"id": "7", "side": 1, "joints3d_mm": xyz, "joints2d_px": project(xyz, K), "K": K}
    return Sample(**{**given, **more})  # type: ignore[arg-type]


def ramps(width: int = 320, height: int = 240) -> np.ndarray:
    """An image whose red and green are linear in x and y."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.rint(np.arange(width) * 255 / (width - 1))
    image[..., 1] = np.rint(np.arange(height) * 255 / (height - 1))[:, None]
    return image


@given(
    x=st.floats(90, 230), y=st.floats(80, 160), side=st.floats(12, 140), size=st.sampled_from([16, 33, 64, 192]),
)  # fmt: skip
def test_a_stored_pixel_shows_its_crop_fraction(x: float, y: float, side: float, size: int) -> None:
    crop = Crop((x, y), side)
    stored = crop_image(ramps(), crop, size)
    fraction = (np.arange(size) + 0.5) / size - 0.5
    inner = slice(1, -1)  # at its border Pillow's filter is one-sided
    want_x, want_y = crop.pixels(np.stack([fraction, fraction], -1)).T
    np.testing.assert_allclose(stored[size // 2, inner, 0], want_x[inner] * 255 / 319, atol=1.6)
    np.testing.assert_allclose(stored[inner, size // 2, 1], want_y[inner] * 255 / 239, atol=1.6)


@given(
    x=st.floats(-400, 700), y=st.floats(-400, 700), side=st.floats(8, 30000), size=st.sampled_from([8, 31]),
)  # fmt: skip
def test_nearest_equals_a_loop_over_pixels(x: float, y: float, side: float, size: int) -> None:
    image = np.arange(1, 20 * 30 + 1).reshape(20, 30)
    cropped = crop_nearest(image, Crop((x, y), side), size)
    for i in range(size):
        for j in range(size):
            v = int(np.floor(y + ((i + 0.5) / size - 0.5) * side + 0.5))
            u = int(np.floor(x + ((j + 0.5) / size - 0.5) * side + 0.5))
            assert cropped[i, j] == (image[v, u] if 0 <= v < 20 and 0 <= u < 30 else 0)


@pytest.mark.parametrize(
    ("crop", "black"),
    [
        (Crop((0.0, 0.0), 100.0), (slice(0, 30), slice(0, 30))),
        (Crop((319.0, 239.0), 100.0), (slice(34, 64), slice(34, 64))),
        (Crop((-500.0, 100.0), 100.0), (slice(None), slice(None))),
        (Crop((160.0, 120.0), 5000.0), (slice(0, 30), slice(0, 30))),
    ],
)
def test_black_beyond_the_frame(crop: Crop, black: tuple[slice, slice]) -> None:
    stored = crop_image(np.full((240, 320, 3), 200, np.uint8), crop, 64)
    assert stored.shape == (64, 64, 3)
    assert not stored[black].any()
    centre_inside = 0 <= crop.centre[0] <= 319
    assert stored.any() == centre_inside


def test_every_21_joint_layout_becomes_the_canonical_one() -> None:
    xyz = hand()
    for name in ("rhd", "stb", "msra", "freihand", "fphab", "interhand"):
        source = layout(name)
        native = np.empty_like(xyz)
        for i, joint in enumerate(layout("hand21").joints):
            native[source.index(joint)] = xyz[i]
        joints = JointMap.of(name)
        row = crop_sample(sample(joints3d_mm=native, joints2d_px=None), joints, CropOptions(), ())
        np.testing.assert_array_equal(row["joints3d_mm"], xyz.astype(np.float32))
        assert (joints.name, joints.scale_bone, joints.root) == ("hand21", HAND21.scale_bone, 0)


def test_missing_2d_labels_are_projected() -> None:
    row = crop_sample(sample(joints2d_px=None), HAND21, CropOptions(), ())
    want = crop_sample(sample(), HAND21, CropOptions(), ())
    np.testing.assert_allclose(row["joints2d"], want["joints2d"], atol=1e-6)
    assert row["has_joints2d"]


def test_the_crop_is_the_square_around_the_joints() -> None:
    row = crop_sample(sample(), HAND21, CropOptions(factor=1.25), ())
    assert np.abs(row["joints2d"]).max() == pytest.approx(0.5 / 1.25, abs=1e-6)
    np.testing.assert_allclose(row["joints2d"] * row["crop"][2] + row["crop"][:2], sample().joints2d_px, atol=1e-3)
    assert row["scale_mm"] == pytest.approx(np.linalg.norm(hand()[10] - hand()[9]), rel=1e-6)


def test_joints_beside_the_camera_do_not_set_the_crop() -> None:
    """One joint at -8,000 px would otherwise make a crop in which the hand is a dot."""
    wild = sample().joints2d_px.copy()
    wild[4], wild[8] = (-8000, 5), (3, 9000)
    xyz = hand()
    xyz[8, 2] = -3.0
    row = crop_sample(sample(joints2d_px=wild, joints3d_mm=xyz), HAND21, CropOptions(), ())
    usual = np.delete(np.arange(21), [4, 8])
    box = np.ptp(wild[usual], axis=0).max()
    assert row["crop"][2] == pytest.approx(box * 1.25, rel=1e-6)
    assert np.abs(row["joints2d"][usual]).max() <= 0.4 + 1e-6
    assert np.abs(row["joints2d"]).max() == MAX_FRACTION


def test_a_hand_outside_the_frame_still_has_a_crop() -> None:
    far = sample().joints2d_px + 5000
    row = crop_sample(sample(joints2d_px=far), HAND21, CropOptions(), ())
    assert np.abs(row["joints2d"]).max() <= 0.4 + 1e-6


def test_the_crop_does_not_depend_on_images() -> None:
    with_image, without = (
        crop_sample(s, HAND21, CropOptions(), ()) for s in (sample(images={"rgb": ramps()}), sample())
    )
    np.testing.assert_array_equal(with_image["crop"], without["crop"])


def test_unlabelled_joints_stay_unlabelled() -> None:
    uv, xyz = sample().joints2d_px.copy(), hand()
    uv[3], xyz[5] = np.nan, np.nan
    row = crop_sample(sample(joints2d_px=uv, joints3d_mm=xyz), HAND21, CropOptions(), ())
    assert np.isnan(row["joints2d"]).any(1).nonzero()[0].tolist() == [3]
    assert np.isnan(row["joints3d_mm"]).any(1).nonzero()[0].tolist() == [5]
    assert row["has_joints2d"]
    assert row["has_joints3d"]


@pytest.mark.parametrize("joint", [0, 9, 10])
def test_without_root_or_scale_bone_there_is_no_3d(joint: int) -> None:
    xyz = hand()
    xyz[joint] = np.nan
    row = crop_sample(sample(joints3d_mm=xyz), HAND21, CropOptions(), ())
    assert not row["has_joints3d"]
    assert row["scale_mm"] == 1
    assert np.isnan(row["joints3d_mm"]).all()


def test_with_a_scale_bone_without_length_there_is_no_3d() -> None:
    xyz = hand()
    xyz[10] = xyz[9] + [0, 0, 1e-6]
    row = crop_sample(sample(joints3d_mm=xyz), HAND21, CropOptions(), ())
    assert not row["has_joints3d"]


def test_samples_without_joints_are_cropped_by_their_box() -> None:
    bare = Sample(id="x", side=0, images={"rgb": ramps()}, box=(100.0, 50.0, 40.0, 60.0))
    row = crop_sample(bare, HAND21, CropOptions(image_size=32), ("rgb",))
    np.testing.assert_allclose(row["crop"], [119.5, 79.5, 75.0])
    assert not row["has_joints2d"]
    assert not row["has_joints3d"]
    with pytest.raises(DataError, match="sample x: neither 2D joints"):
        crop_sample(Sample(id="x", side=0), HAND21, CropOptions(), ())


def test_depth_and_mask_are_stored_where_the_joints_are() -> None:
    xyz = hand()
    uv = np.rint(project(xyz, K)).astype(int)
    depth, mask = np.full((240, 320), 2000, np.float32), np.zeros((240, 320), np.uint8)
    for i, ((u, v), z) in enumerate(zip(uv, xyz[:, 2], strict=True)):
        depth[v - 2 : v + 3, u - 2 : u + 3], mask[v - 2 : v + 3, u - 2 : u + 3] = z, i % 16 + 1
    options = CropOptions(image_size=128, margin=1.5, cube=150)
    images = {"rgb": ramps(), "depth": depth, "mask": mask}
    row = crop_sample(sample(images=images), HAND21, options, ("rgb", "depth", "mask"))
    assert row["rgb"].shape == (192, 192, 3)
    assert row["depth"].dtype == np.uint16
    assert row["depth_z"] == pytest.approx((xyz[:, 2].min() + xyz[:, 2].max()) / 2)
    at = np.floor((row["joints2d"] / 1.5 + 0.5) * 192).astype(int)
    mm = depth_mm(row["depth"], float(row["depth_z"]), 150)
    last = len(uv) - 1  # written last, so never overwritten
    assert mm[at[last, 1], at[last, 0]] == pytest.approx(xyz[last, 2], abs=0.01)
    assert row["mask"][at[last, 1], at[last, 0]] == last % 16 + 1
    assert (row["depth"] == 0).mean() > 0.3  # the far wall is no part of the cube


def test_a_cube_crop_covers_the_cube() -> None:
    row = crop_sample(sample(), HAND21, CropOptions(kind="cube", cube=125), ())
    xyz = hand()
    centre = (xyz.min(0) + xyz.max(0)) / 2
    assert row["crop"][2] == pytest.approx(250 * 280 / centre[2], rel=1e-9)
    np.testing.assert_allclose(row["crop"][:2], project(centre, K), rtol=1e-9)


def test_the_depth_of_a_hand_without_3d_labels_comes_from_the_image() -> None:
    depth = np.full((240, 320), 900, np.float32)
    depth[100:140, 140:180] = 432
    images, box = {"depth": depth}, (140.0, 100.0, 40.0, 40.0)
    bare = Sample(id="x", side=0, images=images, box=box)
    row = crop_sample(bare, HAND21, CropOptions(image_size=32), ("depth",))
    assert row["depth_z"] == 432
    assert (row["depth"][20:28, 20:28] == 32768).all()
    masked = Sample(id="x", side=0, images={**images, "mask": (depth == 900).astype(np.uint8)}, box=box)
    assert crop_sample(masked, HAND21, CropOptions(image_size=32), ("depth",))["depth_z"] == 900
    nothing = Sample(id="x", side=0, images={"depth": depth * 0}, box=box)
    row = crop_sample(nothing, HAND21, CropOptions(image_size=32), ("depth",))
    assert np.isnan(row["depth_z"])
    assert not row["depth"].any()


def test_faults_name_the_sample() -> None:
    with pytest.raises(DataError, match="sample 7: hand side 2"):
        crop_sample(sample(side=2), HAND21, CropOptions(), ())
    with pytest.raises(DataError, match=r"sample 7: joints of shape \(20, 3\)"):
        crop_sample(sample(joints3d_mm=hand()[:20]), HAND21, CropOptions(), ())
    with pytest.raises(UserError, match="image 'flow': float64"):
        crop_sample(sample(images={"flow": np.zeros((4, 4))}), HAND21, CropOptions(), ("flow",))


@given(size=st.sampled_from([64, 128, 256]), margin=st.floats(1, 3))
def test_stored_size_is_even_and_no_smaller(size: int, margin: float) -> None:
    stored = CropOptions(image_size=size, margin=margin).stored
    assert stored % 2 == 0
    assert size * margin - 1e-6 <= stored <= size * margin + 2
