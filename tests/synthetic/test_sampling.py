"""Synthetic skeletons: anatomy, limits, cameras, and random numbers that depend on seed and frame alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cvhpe.synthetic import poses
from cvhpe.synthetic.anatomy import BONES, HAND_LENGTH_MM, PALM, sample_anatomy
from cvhpe.synthetic.cameras import CameraRanges, rotate, sample_rotations
from cvhpe.synthetic.counter_rng import CounterRng
from cvhpe.synthetic.pose import (
    DIP_LIMITS,
    FINGER_RUNS,
    GESTURES,
    MCP_LIMITS,
    PIP_LIMITS,
    THUMB_IP_LIMITS,
    THUMB_MCP_LIMITS,
    forward_kinematics,
    sample_angles,
)
from cvhpe.synthetic.sampling import sample_hands

PARENTS = [0 if j % 4 == 1 else j - 1 for j in range(1, 21)]
seeds = st.integers(0, 2**63)


def bones(joints: np.ndarray) -> np.ndarray:
    """Lengths [N, 20] of the bones that end at joints 1 to 20."""
    return np.linalg.norm(joints[:, 1:] - joints[:, PARENTS], axis=2)


@settings(max_examples=15, deadline=None)
@given(seed=seeds)
def test_random_numbers_are_uniform_normal_and_independent(seed: int) -> None:
    rng = CounterRng(seed, np.arange(4000), "test")
    single, pair = rng.uniform(), rng.uniform(2)
    other = CounterRng(seed, np.arange(4000), "another").uniform()
    assert stats.kstest(single, "uniform").pvalue > 1e-6
    assert stats.kstest(rng.normal(), "norm").pvalue > 1e-6
    for x in (pair[:, 0], pair[:, 1], other, np.roll(single, 1)):
        assert abs(np.corrcoef(single, x)[0, 1]) < 0.1
    assert np.bincount(rng.categorical([1, 2, 1]), minlength=3) == pytest.approx([1000, 2000, 1000], abs=200)


@settings(max_examples=20, deadline=None)
@given(seed=seeds, start=st.integers(0, 5000), split=st.integers(1, 11))
def test_a_frame_is_the_same_in_every_batch(seed: int, start: int, split: int) -> None:
    together = poses(12, seed, start=start)
    parts = [poses(split, seed, start=start), poses(12 - split, seed, start=start + split)]
    for key, value in together.items():
        assert np.array_equal(value, np.concatenate([part[key] for part in parts])), key


def test_another_seed_or_frame_is_another_hand() -> None:
    joints = np.concatenate([poses(200, seed)["joints3d_mm"] for seed in (0, 1)])
    assert len(np.unique(joints.reshape(400, -1), axis=0)) == 400


def test_any_integer_is_a_seed() -> None:
    assert np.isfinite(poses(1, -5)["joints3d_mm"]).all()


@settings(max_examples=10, deadline=None)
@given(seed=seeds)
def test_a_person_keeps_the_finger_bones_in_every_pose(seed: int) -> None:
    placed = sample_hands(np.arange(90), seed, person=np.arange(90) % 3)
    lengths = bones(placed.joints)
    # The palm's arch lifts the knuckles, so that wrist to MCP may change by a few mm; no phalanx may.
    phalanges = [j - 1 for j in range(1, 21) if j % 4 != 1]
    for person in range(3):
        mine = lengths[placed.person == person]
        assert len(mine) == 30
        assert np.ptp(mine[:, phalanges], axis=0).max() < 1e-2
        assert np.ptp(mine, axis=0).max() < 8
    assert np.ptp(lengths[:3], axis=0).max() > 0.5  # persons differ


@settings(max_examples=10, deadline=None)
@given(seed=seeds)
def test_without_the_spread_everybody_has_the_mean_hand(seed: int) -> None:
    hand = sample_anatomy(seed, np.arange(50), proportions=0)
    unit = hand.length[:, None]
    assert np.allclose(hand.bones / unit[..., None], BONES)
    assert np.allclose(hand.palm / unit, PALM)
    assert np.ptp(hand.length) > 5
    spread = sample_anatomy(seed, np.arange(50))
    assert np.std(np.log(spread.palm / spread.bones[:, 1:, 0]), axis=0).min() > 0.25


@settings(max_examples=10, deadline=None)
@given(seed=seeds)
def test_joint_limits_hold_and_the_joints_bend_by_the_angles(seed: int) -> None:
    frames = np.arange(300)
    angles = sample_angles(CounterRng(seed, frames, "pose"))
    limits = [(angles.flexion[..., k], r) for k, r in enumerate((MCP_LIMITS, PIP_LIMITS, DIP_LIMITS))]
    limits += [(angles.thumb_flexion[:, k], r) for k, r in enumerate((THUMB_MCP_LIMITS, THUMB_IP_LIMITS))]
    for value, (low, high) in limits:
        assert value.min() >= low
        assert value.max() <= high
    assert ((angles.closure >= 0) & (angles.closure <= 1)).all()

    posed = forward_kinematics(sample_anatomy(seed, frames), angles)
    bone = posed.joints[:, 1:] - posed.joints[:, PARENTS]
    bone /= np.linalg.norm(bone, axis=2, keepdims=True)
    back = posed.back
    for finger in range(5):
        for joint in (1, 2):  # between neighbouring phalanges: PIP and DIP, the thumb's MCP and IP
            a, b = bone[:, 4 * finger + joint], bone[:, 4 * finger + joint + 1]
            # Towards the palm is positive, and the palm is away from the back.
            bend = np.rad2deg(np.arctan2(-(b * back[:, finger, joint - 1]).sum(1), (a * b).sum(1)))
            expected = angles.thumb_flexion[:, joint - 1] if finger == 0 else angles.flexion[:, finger - 1, joint]
            assert np.allclose(bend, expected, atol=1e-6)
    assert np.allclose(np.linalg.norm(back, axis=3), 1)
    along = np.stack([bone[:, [4 * f + 1, 4 * f + 2, 4 * f + 3]] for f in range(5)], 1)
    assert np.abs((along * back).sum(3)).max() < 1e-9


def test_gestures_reach_fists_open_hands_and_every_run_of_fingers() -> None:
    assert sum(GESTURES.values()) == pytest.approx(1)
    assert len(np.unique(FINGER_RUNS, axis=0)) == len(FINGER_RUNS) == 11
    closure = sample_angles(CounterRng(0, np.arange(6000), "pose")).closure
    states = {tuple(row) for row in (closure < 0.4)}
    assert len(states) == 16
    assert (closure > 0.7).all(1).mean() > 0.03
    assert (closure < 0.2).all(1).mean() > 0.03


def test_the_thumb_is_radial_and_a_curled_finger_palmar() -> None:
    frames = np.arange(2000)
    angles = sample_angles(CounterRng(1, frames, "pose"))
    joints = forward_kinematics(sample_anatomy(1, frames, 0), angles).joints
    assert (joints[:, 1, 0] > 0).all()
    assert (joints[:, 5, 0] > joints[:, 17, 0]).all()
    curled = angles.flexion[:, 1].sum(1) > 150
    middle = joints[:, 12] - joints[:, 9]
    assert curled.any()
    assert (middle[curled, 2] > 0).all()


@settings(max_examples=10, deadline=None)
@given(seed=seeds)
def test_a_left_hand_is_a_right_hand_in_the_mirror(seed: int) -> None:
    right, left = poses(20, seed, left=0), poses(20, seed, left=1)
    assert not right["is_left"].any()
    assert left["is_left"].all()
    assert np.array_equal(left["joints3d_mm"], right["joints3d_mm"] * np.array([-1, 1, 1], np.float32))
    # The principal point is the axis of the flip.
    assert np.allclose(left["joints2d_px"][..., 0], 320 - right["joints2d_px"][..., 0], atol=2e-4)
    assert np.array_equal(left["K"], right["K"])


def test_handedness_of_the_camera_frame() -> None:
    """Little to index, wrist to fingers and back to palm make a right-handed frame on a right hand alone."""
    placed = sample_hands(np.arange(4000), 2, proportions=0)
    x = placed.joints
    up, across = x[:, 9] - x[:, 0], x[:, 5] - x[:, 17]
    palmar = np.cross(across, up) * np.where(placed.is_left, -1, 1)[:, None]
    # Fingers curl to the palmar side: of those that are well bent, all tips lie there.
    tip = x[:, 12] - x[:, 9]
    height = (tip * palmar).sum(1) / np.linalg.norm(palmar, axis=1)
    bent = np.linalg.norm(tip, axis=1) < 50
    assert bent.sum() > 500
    assert (height[bent] > 0).mean() > 0.99


@settings(max_examples=10, deadline=None)
@given(seed=seeds, near=st.floats(2, 5), far=st.floats(6, 20), off=st.floats(0.01, 0.2))
def test_cameras_stay_in_their_ranges(seed: int, near: float, far: float, off: float) -> None:
    ranges = CameraRanges(distance=(near, far), off_axis=off, length_px=(100, 150), shift_px=40)
    placed = sample_hands(np.arange(100), seed, cameras=ranges)
    joints, K = placed.joints, placed.K
    middle = joints.mean(1)
    length = sample_anatomy(seed, np.arange(100)).length
    distance = middle[:, 2] / length
    assert distance.min() > near - 1e-4
    assert distance.max() < far + 1e-4
    assert np.hypot(*(middle[:, :2] / middle[:, 2:]).T).max() <= off * 1.0001
    px = middle[:, :2] / middle[:, 2:] * K[:, [0, 1], [0, 1]] + K[:, :2, 2]
    assert np.linalg.norm(px - 160, axis=1).max() <= 40.01
    assert (K[:, 0, 0] / distance).max() < 150.1
    assert (K[:, 0, 0] / distance).min() > 99.9


def test_2d_joints_are_the_projections_of_3d_joints() -> None:
    made = {name: values.astype(np.float64) for name, values in poses(200, 6).items()}
    pixels = np.einsum("nij,nkj->nki", made["K"], made["joints3d_mm"])
    in_front = (made["joints3d_mm"][..., 2] > 50).all(1)
    assert np.abs(pixels[..., :2] / pixels[..., 2:] - made["joints2d_px"])[in_front].max() < 2e-2


def test_rotations_are_uniform_over_all_orientations() -> None:
    rotations = sample_rotations(CounterRng(5, np.arange(20000), "camera"))
    assert np.allclose(np.einsum("nij,nkj->nik", rotations, rotations), np.eye(3), atol=1e-12)
    assert np.allclose(np.linalg.det(rotations), 1)
    for axis in range(3):
        # Every coordinate of a rotated axis is uniform in [-1, 1] (Archimedes).
        for coordinate in range(3):
            assert stats.kstest(rotations[:, coordinate, axis], stats.uniform(-1, 2).cdf).pvalue > 1e-4
    # The angle of a uniform rotation has density (1 - cos) / pi.
    angle = np.arccos(np.clip((np.trace(rotations, axis1=1, axis2=2) - 1) / 2, -1, 1))
    assert stats.kstest(angle, lambda a: (a - np.sin(a)) / np.pi).pvalue > 1e-4
    v = np.arange(24.0).reshape(2, 4, 3)
    assert np.allclose(rotate(rotations[:2], v), np.einsum("nij,nkj->nki", rotations[:2], v))


def test_the_root_is_the_wrist_or_a_palm_point_near_the_middle() -> None:
    wrist, palm = poses(500, 4), poses(500, 4, root="palm")
    assert np.array_equal(wrist["joints3d_mm"][:, 1:], palm["joints3d_mm"][:, 1:])
    x = wrist["joints3d_mm"]
    off = np.linalg.norm(palm["joints3d_mm"][:, 0] - (x[:, 0] + x[:, 9]) / 2, axis=1)
    assert 3 < np.median(off) < 0.08 * HAND_LENGTH_MM
    mean_hands = sample_hands(np.arange(50), 4, proportions=0)
    assert np.allclose(mean_hands.palm, mean_hands.joints[:, [0, 9]].mean(1), atol=1e-3)
    with pytest.raises(ValueError, match="elbow"):
        poses(1, root="elbow")  # type: ignore[arg-type]


def test_dtypes_and_no_frames() -> None:
    made = poses(0)
    assert {name: (v.shape, v.dtype.name) for name, v in made.items()} == {
        "joints3d_mm": ((0, 21, 3), "float32"),
        "joints2d_px": ((0, 21, 2), "float32"),
        "K": ((0, 3, 3), "float32"),
        "is_left": ((0,), "bool"),
    }
    assert 0.45 < poses(4000)["is_left"].mean() < 0.55
