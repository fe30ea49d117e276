"""Labelled skeletons of synthetic hands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from cvhpe.synthetic.anatomy import sample_anatomy
from cvhpe.synthetic.cameras import (
    POSE_CAMERAS,
    CameraRanges,
    project_pinhole,
    rotate,
    sample_cameras,
    sample_rotations,
)
from cvhpe.synthetic.counter_rng import CounterRng
from cvhpe.synthetic.pose import forward_kinematics, labelled_palm, sample_angles

Array = np.ndarray

# From the palm's frame (x radial, y distal, z palmar) to a camera that looks at the palm, fingers up.
FACING = np.array([1.0, -1.0, -1.0])
FLIP = np.array([-1.0, 1.0, 1.0])
_CHUNK = 4096  # frames that fit the processor's cache


def poses(
    n: int, seed: int = 0, *, root: Literal["wrist", "palm"] = "wrist", left: float = 0.5, start: int = 0
) -> dict[str, Array]:
    """Sample hands as a camera sees them: skeletons, for training on poses.

    Args:
        n: Number of frames, each of another person.
        seed: Any integer.
        root: What joint 0 is: the wrist (as RHD labels it; the palm is then the midpoint to joint 9), or a palm point
            where a data set's annotators might have put it (STB labels the palm).
        left: Share of left hands. A left hand is the right hand of the same frame, flipped.
        start: Number of the first frame; frame ``i`` of a seed is the same in every batch.

    Returns:
        ``joints3d_mm`` float32 ``[n, 21, 3]`` (hand21, camera frame), ``joints2d_px`` float32 ``[n, 21, 2]`` in a frame
        of 320 px (hands may lie partly outside), ``K`` float32 ``[n, 3, 3]`` and ``is_left`` bool ``[n]``.

    Raises:
        ValueError: ``root`` is neither of the two.

    Example:
        >>> a, b = poses(3, 1, left=0), poses(3, 1, left=1)
        >>> bool((a["joints3d_mm"] * np.array([-1, 1, 1]) == b["joints3d_mm"]).all())
        True
    """
    if root not in ("wrist", "palm"):
        raise ValueError(f"root {root!r}: 'wrist' or 'palm'")
    chunks = []
    for at in range(start, start + max(n, 1), _CHUNK):
        placed = sample_hands(np.arange(at, min(at + _CHUNK, start + n)), seed, left=left)
        joints = placed.joints
        if root == "palm":
            joints = np.concatenate([placed.palm[:, None], joints[:, 1:]], 1)
        arrays = {"joints3d_mm": joints, "joints2d_px": project_pinhole(placed.K, joints), "K": placed.K}
        chunks.append({name: a.astype(np.float32) for name, a in arrays.items()} | {"is_left": placed.is_left})
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}


@dataclass(frozen=True)
class PlacedHands:
    """N hands in front of their cameras; camera frame, mm, float64.

    Attributes:
        joints: ``[N, 21, 3]`` hand21, wrist first.
        palm: ``[N, 3]`` where the labels of a data set might have put the palm.
        axes: ``[N, 3, 3]``, rows: radial, distal and palmar unit vectors of the palm.
        back: ``[N, 5, 3, 3]`` unit vectors to the dorsal side of each phalanx.
        K: ``[N, 3, 3]`` intrinsics.
        is_left: ``[N]`` bool.
        person: ``[N]`` integers.
        length: ``[N]`` hand length, mm.
    """

    joints: Array
    palm: Array
    axes: Array
    back: Array
    K: Array
    is_left: Array
    person: Array
    length: Array


def sample_hands(
    frame: Array,
    seed: int,
    *,
    person: Array | None = None,
    proportions: float = 1.0,
    left: float | Array = 0.5,
    cameras: CameraRanges = POSE_CAMERAS,
    size: int = 320,
    stream: str = "",
) -> PlacedHands:
    """Sample the hands of frames and their cameras.

    Args:
        frame: ``[N]`` frame numbers.
        seed: Any integer.
        person: ``[N]`` whose hands; by default each frame has its own person.
        proportions: Spread of bone lengths and label positions, 0 (everybody has the mean hand) to 1 (far beyond
            anatomy).
        left: Probability of a left hand, a number or ``[N]``.
        cameras: What cameras are sampled from.
        size: Side of the frame, px.
        stream: Name of another sample of the same frames, such as the second hand of each.

    Returns:
        The hands.
    """
    person = frame if person is None else person
    anatomy = sample_anatomy(seed, person, proportions)
    posed = forward_kinematics(anatomy, sample_angles(CounterRng(seed, frame, f"pose{stream}")))
    rng = CounterRng(seed, frame, f"camera{stream}")
    rotation = sample_rotations(rng)
    K, centre = sample_cameras(rng, anatomy.length, cameras, size)
    is_left = CounterRng(seed, frame, f"side{stream}").bernoulli(left)
    flip = np.where(is_left[:, None, None], FLIP, 1.0)
    points = np.concatenate([posed.joints, labelled_palm(anatomy, posed.joints)[:, None]], 1)
    middle = posed.joints.mean(1, keepdims=True)
    points = (rotate(rotation, (points - middle) * FACING) + centre[:, None]) * flip
    axes = np.broadcast_to(np.diag(FACING), (len(frame), 3, 3))
    return PlacedHands(
        joints=points[:, :21],
        palm=points[:, 21],
        axes=rotate(rotation, axes) * flip,
        back=rotate(rotation, posed.back * FACING) * flip[..., None],
        K=K,
        is_left=is_left,
        person=person.astype(np.int64),
        length=anatomy.length,
    )
