"""Labelled skeletons of synthetic hands, without pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from cvhpe.synthetic.anatomy import hands
from cvhpe.synthetic.cameras import POSES, Shot, place, project, rotations, turn
from cvhpe.synthetic.counter_rng import Draws, as_seed
from cvhpe.synthetic.pose import angles, palm_point, pose

Array = np.ndarray

# From the palm's frame (x radial, y distal, z palmar) to a camera that looks at the palm, fingers up.
FACING = np.array([1.0, -1.0, -1.0])
MIRROR = np.array([-1.0, 1.0, 1.0])
_CHUNK = 4096


def poses(
    n: int,
    seed: int | np.random.Generator = 0,
    *,
    root: Literal["wrist", "palm"] = "wrist",
    proportions: bool | float = True,
    persons: int | None = None,
    left: float = 0.5,
    start: int = 0,
    shot: Shot = POSES,
    size: int = 320,
) -> dict[str, Array]:
    """Draw ``n`` hands as a camera sees them: skeletons alone, for training on poses without pictures.

    n: how many. seed: any integer, or a generator, from which one is drawn. start: number of the first
    frame; frame ``i`` of a seed is the same in every batch.
    root: what joint 0 is, the wrist (as RHD labels it; the palm is then half way to joint 9) or a palm
    point that lies where a person's data set might have put it (STB labels the palm).
    proportions: True spreads bone lengths and label positions far beyond anatomy, False gives everybody
    the mean hand, a number between gives as much of it.
    persons: how many different hands; by default every frame is somebody else's.
    left: share of left hands. shot: camera. size: side of the frame, px (hands may lie partly outside).

    Returns ``joints3d_mm`` float32 [n, 21, 3] (hand21, camera frame: x right, y down, z forward),
    ``joints2d_px`` float32 [n, 21, 2], ``K`` float32 [n, 3, 3], ``is_left`` bool [n], ``person`` int64 [n].

    A left hand is its right twin seen in a mirror, ``left=1`` against ``left=0``:

    >>> a, b = poses(3, 1, left=0), poses(3, 1, left=1)
    >>> bool((a["joints3d_mm"] * np.array([-1, 1, 1]) == b["joints3d_mm"]).all())
    True
    """
    world = as_seed(seed)
    # A few thousand frames at a time stay in the processor's cache.
    parts = [
        _batch(np.arange(at, min(at + _CHUNK, start + n)), world, root, float(proportions), persons, left, shot, size)
        for at in range(start, start + n, _CHUNK)
    ]
    if not parts:
        parts = [_batch(np.arange(0), world, root, float(proportions), persons, left, shot, size)]
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


@dataclass(frozen=True)
class Placed:
    """N hands before their cameras; camera frame, mm, float64.

    joints: ``[N, 21, 3]`` hand21, wrist first. palm: ``[N, 3]`` where the labels of a data set might have
    put the palm. axes: ``[N, 3, 3]``, its rows the radial, distal and palmar unit vectors of the palm.
    back: ``[N, 5, 3, 3]`` unit vectors to the dorsal side of each phalanx. K: ``[N, 3, 3]``.
    is_left: ``[N]`` bool. person: ``[N]`` int64. length: ``[N]`` hand length, mm.
    """

    joints: Array
    palm: Array
    axes: Array
    back: Array
    K: Array
    is_left: Array
    person: Array
    length: Array


def place_hands(
    frame: Array,
    seed: int,
    *,
    person: Array | None = None,
    proportions: float = 1.0,
    left: float | Array = 0.5,
    shot: Shot = POSES,
    size: int = 320,
    which: str = "",
) -> Placed:
    """The hands of the frames ``frame`` ``[N]`` in front of their cameras; arguments as in :func:`poses`.

    person: ``[N]`` whose hands; by default the frame's own number. left: a number or ``[N]``.
    which: names another draw of the same frames, such as the second hand of each.
    """
    person = frame if person is None else person
    hand = hands(seed, person, proportions)
    posed = pose(hand, angles(Draws(seed, frame, f"pose{which}")))
    draw = Draws(seed, frame, f"camera{which}")
    rotation = rotations(draw)
    intrinsics, centre = place(draw, hand.length, shot, size)
    is_left = Draws(seed, frame, f"side{which}").chance(left)
    mirror = np.where(is_left[:, None, None], MIRROR, 1.0)
    points = np.concatenate([posed.joints, palm_point(hand, posed.joints)[:, None]], 1)
    middle = posed.joints.mean(1, keepdims=True)
    points = (turn(rotation, (points - middle) * FACING) + centre[:, None]) * mirror
    axes = np.broadcast_to(np.diag(FACING), (len(frame), 3, 3))
    return Placed(
        joints=points[:, :21],
        palm=points[:, 21],
        axes=turn(rotation, axes) * mirror,
        back=turn(rotation, posed.back * FACING) * mirror[..., None],
        K=intrinsics,
        is_left=is_left,
        person=person.astype(np.int64),
        length=hand.length,
    )


def _batch(
    frame: Array, seed: int, root: str, proportions: float, persons: int | None, left: float, shot: Shot, size: int
) -> dict[str, Array]:
    person = frame if persons is None else frame % persons
    placed = place_hands(frame, seed, person=person, proportions=proportions, left=left, shot=shot, size=size)
    joints = placed.joints
    if root == "palm":
        joints = np.concatenate([placed.palm[:, None], joints[:, 1:]], 1)
    elif root != "wrist":
        raise ValueError(f"root {root!r}: 'wrist' or 'palm'")
    return {
        "joints3d_mm": joints.astype(np.float32),
        "joints2d_px": project(placed.K, joints).astype(np.float32),
        "K": placed.K.astype(np.float32),
        "is_left": placed.is_left,
        "person": placed.person,
    }
