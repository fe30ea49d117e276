"""Checks of a data set's labels: units, joint order, hand side, projection."""

from __future__ import annotations

import numpy as np

from cvhpe.plugin.sample import Sample
from cvhpe.testing.check import require, skip_check
from cvhpe.testing.dataset_under_test import DatasetUnderTest

BONE_MM = (4.0, 150.0)
"""Range of the median length of every bone of a layout, palm bones included."""
CURL_MM = 12.0
"""Fingertips this far out of the palm's plane determine the hand side."""
HAND_MM = (60.0, 260.0)
"""Range of the distance from the root to the farthest fingertip."""


def joints_are_in_mm(s: DatasetUnderTest) -> None:
    """3D joints are a hand in mm, in front of the camera"""
    samples = s.labelled("joints3d")
    extent = np.nanmedian([_hand_extent(x, s) for x in samples])
    unit = "metres: multiply by 1000" if extent < 1 else "cm: multiply by 10" if extent < 30 else "another unit"
    require(
        HAND_MM[0] < extent < HAND_MM[1],
        f"the farthest joint is {extent:.3g} from the root",
        f"use mm; this looks like {unit}",
    )
    depth = np.nanmedian([np.nanmedian(x.joints3d_mm[:, 2]) for x in samples])  # type: ignore[index]
    if any(x.K is not None for x in samples):
        require(depth > 0, f"the median z is {depth:.3g} mm", "z points forward, away from the camera")


def _hand_extent(x: Sample, s: DatasetUnderTest) -> float:
    from cvhpe.geometry.skeleton import layout

    assert x.joints3d_mm is not None
    root = layout(s.open(s.splits[0]).layout).root
    return float(np.nanmax(np.linalg.norm(x.joints3d_mm - x.joints3d_mm[root], axis=1)))


def joint_order_is_the_layouts(s: DatasetUnderTest) -> None:
    """the joints are in the layout's order: bone lengths are plausible, fingers point away from the root"""
    from cvhpe.geometry.skeleton import layout

    samples = s.labelled("joints3d")
    hand = layout(s.open(s.splits[0]).layout)
    xyz = np.stack([np.asarray(x.joints3d_mm) for x in samples])
    length = np.nanmedian([np.linalg.norm(xyz[:, a] - xyz[:, b], axis=1) for a, b in hand.bones], axis=1)
    for (a, b), mm in zip(hand.bones, length, strict=True):
        require(
            not mm < BONE_MM[0] and not mm > BONE_MM[1],
            f"the bone {hand.joints[a]} - {hand.joints[b]} is {mm:.1f} mm long",
            f"check the order of the joints against the layout {hand.name!r}, and the units",
        )
    # The layout's tree is nearly a shortest one: a wrong order of joints makes it longer in any pose.
    rng = np.random.default_rng(0)
    shuffled = [_tree_length(xyz[:, rng.permutation(len(hand))], hand.bones) for _ in range(20)]
    require(
        _tree_length(xyz, hand.bones) < 0.8 * np.median(shuffled),
        "the bones are as long as in a random order of joints",
        f"give the order of {hand.name!r}",
    )
    nearest = min(
        hand.fingers,
        key=lambda f: np.nanmedian(np.linalg.norm(xyz[:, hand.fingers[f][0]] - xyz[:, hand.root], axis=1)),
    )
    is_full_hand = len(hand) == 21 and s.spec.root == "wrist"
    require(
        not is_full_hand or nearest == "thumb",
        f"the {nearest}'s base is nearest to the wrist",
        f"the thumb should: give the order of {hand.name!r}",
    )
    backwards = [
        f for f, at in hand.fingers.items() if len(at) > 2 and _is_backwards(xyz[:, list(at)], xyz[:, hand.root])
    ]
    require(
        not backwards,
        f"the finger {', '.join(backwards)} runs from tip to base",
        f"give the order of {hand.name!r}",
    )


def hand_sides_are_right(s: DatasetUnderTest) -> None:
    """side 0 is a left hand and 1 a right one: fingers bend towards the palm, which the knuckles determine"""
    from cvhpe.geometry.skeleton import layout

    samples = s.labelled("joints3d")
    hand = layout(s.open(s.splits[0]).layout)
    if not {"index_mcp", "little_mcp", "index_tip", "little_tip"} <= set(hand.joints):
        skip_check(f"layout {hand.name!r} has no knuckles")
    right = []
    for x in samples:
        xyz = np.asarray(x.joints3d_mm)
        index, little = (xyz[hand.index(f"{f}_mcp")] - xyz[hand.root] for f in ("index", "little"))
        palm = np.cross(index, little)  # points out of the palm of a right hand
        fingers = [
            xyz[hand.index(f"{f}_tip")] - xyz[hand.index(f"{f}_mcp")] for f in ("index", "middle", "ring", "little")
        ]
        curl = np.mean(fingers, 0) @ palm / np.linalg.norm(palm)
        if abs(curl) > CURL_MM:
            right.append((curl > 0) == bool(x.side))
    if len(right) < 3:
        skip_check("too few bent fingers to determine the hand side")
    fix = "0 is left, 1 is right; x points right, y down and z forward: a negated axis makes the other hand"
    require(np.mean(right) > 0.5, f"{len(right) - sum(right)} of {len(right)} hands bend their fingers backwards", fix)


def _tree_length(xyz: np.ndarray, bones: tuple[tuple[int, int], ...]) -> float:
    return float(np.nanmedian(sum(np.linalg.norm(xyz[:, a] - xyz[:, b], axis=1) for a, b in bones)))


def _is_backwards(finger: np.ndarray, root: np.ndarray) -> bool:
    """Whether the distance from the root falls along the finger, in the median over hands.

    The tip of a bent finger is near the root as well, but its second joint is not.
    """
    base, second, tip = (np.linalg.norm(finger[:, i] - root, axis=1) for i in (0, 1, -1))
    return bool(np.nanmedian(base - tip) > 0 and np.nanmedian(base - second) > 0)


def joints_project_onto_the_image(s: DatasetUnderTest) -> None:
    """K @ xyz / z gives the 2D joints, to a few pixels"""
    samples = [x for x in s.labelled("joints3d") if x.K is not None and x.joints2d_px is not None]
    if not samples:
        skip_check("no sample has 3D joints, 2D joints and K")
    errors = []
    for x in samples:
        xyz, uv, camera = np.asarray(x.joints3d_mm), np.asarray(x.joints2d_px), np.asarray(x.K)
        front = xyz[:, 2] > 0
        p = xyz[front] @ camera.T
        errors.append(np.linalg.norm(p[:, :2] / p[:, 2:] - uv[front], axis=1))
    median = float(np.nanmedian(np.concatenate(errors)))
    fix = "the centre of the top-left pixel is (0, 0), x right, y down; K belongs to the image as given"
    require(median < 3.0, f"projected 3D joints lie {median:.1f} px (median) beside the 2D joints", fix)


HAND_TESTS = (
    joints_are_in_mm,
    joint_order_is_the_layouts,
    hand_sides_are_right,
    joints_project_onto_the_image,
)
