"""Pose swap against an independent numpy computation: same bones, the other sample's palm and camera."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.hands import joints_file
from hypothesis import given
from hypothesis import strategies as st

from cvhpe.augmentation.pose_swap import MIN_DEPTH_MM, PALM_JOINTS, CropRule, PoseSwap, palm_frame, swappable
from cvhpe.config.schema import checked
from cvhpe.data.loader import Batches
from cvhpe.errors import UserError
from cvhpe.geometry.camera import Crop, crop_around, crop_cube, project
from cvhpe.runs.run_dir import build_model
from cvhpe.training.batching import BatchContext, make_batch
from cvhpe.training.datamodule import open_data

RUN = {"modalities": ["joints2d", "joints3d"], "pairs": ["joints2d:joints3d"], "hidden_dim": 16, "num_hidden_layers": 2}


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("swap")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CVHPE_CACHE", str(folder / "cache"))
        yield {**RUN, "data": [f"joints:{joints_file(folder / 'hands.npz', 160, 32)}"]}


@pytest.fixture(scope="module")
def packs(settings):
    return open_data(checked(settings)).train


@pytest.fixture(scope="module")
def batches(packs):
    return Batches(packs, ("joints2d", "joints3d"), 64, seed=0)


def swapped(batches, rows, target, **changes):
    fields = {**batches.batch(np.asarray(rows)), **changes}
    return fields, PoseSwap(1.0, batches).swap(fields, torch.arange(len(rows)), torch.as_tensor(target))


def axes(x):
    """A palm's axes by numpy: columns x, y, z of joints (21, 3)."""
    y = (x[9] - x[0]) / np.linalg.norm(x[9] - x[0])
    z = np.cross(x[17] - x[5], y)
    z /= np.linalg.norm(z)
    return np.stack([np.cross(y, z), y, z], 1)


@given(st.integers(0, 127), st.integers(0, 127))
def test_a_swapped_hand_is_its_pose_in_the_place_of_the_target(batches, i, j):
    old, new = swapped(batches, [i], [j])
    target = batches.batch(np.array([j]))
    a, b, other = (
        {k: v[0].double().numpy() for k, v in f.items() if v.dtype.is_floating_point} for f in (old, new, target)
    )
    assert new["side"][0] == target["side"][0]
    hand = a["joints3d"] * [1 if old["side"][0] == target["side"][0] else -1, 1, 1]
    rotation = axes(other["joints3d"]) @ axes(hand).T
    np.testing.assert_allclose(np.linalg.det(rotation), 1, atol=1e-6)
    hand = hand @ rotation.T
    xyz = hand * a["scale_mm"] + other["root_mm"]
    if xyz[:, 2].min() <= MIN_DEPTH_MM:
        assert torch.equal(new["joints2d"], old["joints2d"])
        return
    np.testing.assert_allclose(b["joints3d"], hand, atol=2e-5)
    uv = project(xyz, other["K"])
    inside = (np.abs(b["joints2d"]) < 1).all(1)
    np.testing.assert_allclose((b["joints2d"] * b["crop"][2] + b["crop"][:2])[inside], uv[inside], atol=0.02)
    counts = (np.abs(uv - other["K"][:2, 2]) <= 2 * other["K"][:2, 2]).all(1)
    assert crop_around(uv, 1.25, counts if counts.sum() > 2 else None).packed == pytest.approx(b["crop"], abs=0.02)
    np.testing.assert_array_equal(b["K"], other["K"])
    np.testing.assert_array_equal(b["root_mm"], other["root_mm"])
    assert b["scale_mm"] == a["scale_mm"]


def test_a_hand_in_its_own_place_stays_as_it_is(batches):
    rows = np.arange(40)
    old, new = swapped(batches, rows, rows)
    torch.testing.assert_close(new["joints3d"], old["joints3d"], atol=1e-5, rtol=0)
    torch.testing.assert_close(new["crop"], old["crop"], atol=0.02, rtol=0)
    torch.testing.assert_close(new["joints2d"], old["joints2d"], atol=2e-4, rtol=0)


def test_the_palm_of_two_projections_is_kept_as_it_is_labelled(batches):
    """A wrist root stays a wrist: the 2D palm is the midpoint of two projections, not that of the 3D midpoint."""
    _, new = swapped(batches, np.arange(30), np.arange(30) + 30)
    mm = new["joints3d"] * new["scale_mm"][:, None, None] + new["root_mm"][:, None]
    wrist = mm[:, :1] @ new["K"].transpose(1, 2)
    fractions = (wrist[..., :2] / wrist[..., 2:] - new["crop"][:, None, :2]) / new["crop"][:, None, 2:]
    torch.testing.assert_close(new["joints2d"][:, :1], fractions.clamp(-1, 1), atol=1e-4, rtol=0)


def test_a_hand_that_would_reach_the_camera_keeps_its_place(batches):
    huge = {"scale_mm": torch.full((64,), 1000.0)}
    old, new = swapped(batches, np.arange(64), (np.arange(64) + 1) % 64, **huge)
    for name in ("joints2d", "joints3d", "crop", "K", "root_mm", "side"):
        moved = (new[name] != old[name]).flatten(1).any(1) if new[name].dim() > 1 else new[name] != old[name]
        assert moved.sum() < 64
        z = (new["joints3d"] * 1000.0 + new["root_mm"][:, None])[..., 2].amin(1)
        assert not moved[z <= MIN_DEPTH_MM].any()


def test_samples_that_lack_a_joint_or_a_camera_are_not_swappable(batches):
    fields = {name: values.clone() for name, values in batches.arrays().items()}
    fields["joints3d"][0, 4] = float("nan")
    fields["joints2d"][1, 4] = float("nan")
    fields["K"][2] = float("nan")
    fields["has_joints2d"][3] = False
    fields["joints3d"][4, 5] = fields["joints3d"][4, 17]
    assert swappable(fields, PALM_JOINTS["hand21"]).tolist() == [False] * 5 + [True] * 123


def test_samples_that_are_not_swappable_keep_their_place(batches):
    swap = PoseSwap(1.0, batches)
    swap.swappable[:5] = False
    fields = batches.batch(np.arange(8))
    new = swap(fields, torch.Generator().manual_seed(0), 8)
    assert [bool((new["crop"][i] == fields["crop"][i]).all()) for i in range(8)] == [True] * 5 + [False] * 3


def test_a_part_of_a_batch_is_swapped_as_in_the_whole(batches):
    swap = PoseSwap(0.6, batches)
    fields = batches.batch(np.arange(20))
    batch = swap(fields, torch.Generator().manual_seed(5), 20)
    part = swap(batches.batch(np.arange(12, 20)), torch.Generator().manual_seed(5), 20, 12)
    for name in part:
        assert torch.equal(part[name], batch[name][12:]), name
    assert 5 < (batch["root_mm"] != fields["root_mm"]).any(1).sum() < 19


def test_the_frame_of_the_other_hand_side_is_the_mirror_image():
    x = torch.randn(50, 21, 3, generator=torch.Generator().manual_seed(1))
    mirror = torch.tensor([-1.0, 1, 1])
    a, b = (palm_frame(h, PALM_JOINTS["hand21"]) for h in (x, x * mirror))
    torch.testing.assert_close(b, mirror[:, None] * a * torch.tensor([1.0, 1, -1]), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(a), torch.ones(50))


def test_a_cube_crop_is_that_of_the_packs():
    xyz = np.random.default_rng(0).normal((0, 20, 500), (60, 60, 40), (5, 21, 3))
    K = np.array([[240.0, 0, 160], [0, 250, 120], [0, 0, 1]])
    crops = CropRule("cube", 1.25, 150.0).crop(
        torch.tensor(xyz), torch.tensor(project(xyz, K)), torch.tensor(np.stack([K] * 5))
    )
    for hand, crop in zip(xyz, crops, strict=True):
        expected: Crop = crop_cube((hand.min(0) + hand.max(0)) / 2, K, 150.0)
        assert expected.packed == pytest.approx(crop.numpy(), rel=1e-5)


def context_of(settings, packs, **changes):
    config = checked({**settings, **changes})
    batches = Batches(packs, ("joints2d", "joints3d"), 64, seed=0)
    return BatchContext(config, build_model(config), batches, torch.device("cpu"))


def stored(settings, packs, **changes):
    context = context_of(settings, packs, **changes)
    batch = make_batch(next(context.loader.epoch(0)), torch.Generator().manual_seed(7), context)
    return batch.micro_batches[0].batch, batch.seeds


def test_a_run_swaps_where_it_asks_for_it_and_the_paper_does_not(settings, packs):
    paper, seeds = stored(settings, packs)
    swapped, others = stored(settings, packs, augmentation={"pose_swap_prob": 0.7})
    assert torch.equal(paper.view.packed, swapped.view.packed)
    assert torch.equal(seeds, others)
    moved = (paper.stored["joints3d"] != swapped.stored["joints3d"]).flatten(1).any(1)
    assert 0.5 < moved.float().mean() < 0.9
    assert torch.equal(moved, (paper.stored["joints2d"] != swapped.stored["joints2d"]).flatten(1).any(1))
    plain = next(context_of(settings, packs).loader.epoch(0))
    assert torch.equal(paper.stored["joints2d"], plain["joints2d"])


def test_images_exclude_a_swap(settings, packs):
    context = context_of(settings, packs, augmentation={"pose_swap_prob": 0.7})
    assert context.pose_swap is not None
    reads_more = {"rgb": type("Reads", (), {"reads": ("rgb",)})(), **context.model.modalities}
    assert PoseSwap.from_config(context.config, reads_more, context.loader) is None


def test_noise_is_that_of_pixels_and_spares_half_of_the_samples(settings, packs):
    clean, _ = stored(settings, packs)
    noisy, _ = stored(settings, packs, augmentation={"keypoint_noise_px": 3.0})
    crops = next(context_of(settings, packs).loader.epoch(0))["crop"]
    px = (noisy.stored["joints2d"] - clean.stored["joints2d"]) * crops[:, None, 2:]
    each = px.flatten(1).std(1)
    assert 0.3 < (each == 0).float().mean() < 0.7
    assert 2.0 < each.max() < 4.0
    assert torch.equal(noisy.stored["joints3d"], clean.stored["joints3d"])


def test_layouts_of_unknown_palms_are_refused(batches, monkeypatch):
    monkeypatch.setattr(batches, "layout", "elbow7")
    with pytest.raises(UserError, match=r"augmentation\.pose_swap_prob=0"):
        PoseSwap(0.5, batches)


def test_data_cropped_in_two_ways_is_refused(packs):
    from dataclasses import replace

    other = replace(packs[0], meta=replace(packs[0].meta, crop_kind="cube"))
    with pytest.raises(UserError, match="cropped in different ways"):
        CropRule.of([packs[0], other])
