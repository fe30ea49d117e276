"""Checks of a data set's labels: units, order of the joints, hand side, projection."""

from __future__ import annotations

from unittest import SkipTest

import numpy as np

from cvhpe.plugin.sample import Sample
from cvhpe.testing.check import require
from cvhpe.testing.data_subject import DataSubject

BONE_MM = (4.0, 150.0)  # every bone of a layout, palm bones included, median over the samples looked at
CURL_MM = 12.0  # fingertips this far out of the palm's plane say on which side the palm is
HAND_MM = (60.0, 260.0)  # root to the farthest fingertip


def joints_are_in_mm(s: DataSubject) -> None:
    """3D joints are a hand in mm, in front of the camera"""
    samples = s.labelled("joints3d")
    reach = np.nanmedian([_reach(x, s) for x in samples])
    meant = "metres: multiply by 1000" if reach < 1 else "cm: multiply by 10" if reach < 30 else "scaled otherwise"
    require(
        HAND_MM[0] < reach < HAND_MM[1],
        f"a hand reaches {reach:.3g} from its root",
        f"give mm; this looks as if {meant}",
    )
    depth = np.nanmedian([np.nanmedian(x.joints3d_mm[:, 2]) for x in samples])  # type: ignore[index]
    if any(x.K is not None for x in samples):
        require(depth > 0, f"the median z is {depth:.3g} mm", "z points forward, away from the camera")


def _reach(x: Sample, s: DataSubject) -> float:
    from cvhpe.geometry.skeleton import layout

    assert x.joints3d_mm is not None
    root = layout(s.open(s.splits[0]).layout).root
    return float(np.nanmax(np.linalg.norm(x.joints3d_mm - x.joints3d_mm[root], axis=1)))


def joints_are_in_the_layouts_order(s: DataSubject) -> None:
    """the joints stand in the layout's order: bones have the length of bones, fingers grow away from the root"""
    from cvhpe.geometry.skeleton import layout

    samples = s.labelled("joints3d")
    one = layout(s.open(s.splits[0]).layout)
    xyz = np.stack([np.asarray(x.joints3d_mm) for x in samples])
    length = np.nanmedian([np.linalg.norm(xyz[:, a] - xyz[:, b], axis=1) for a, b in one.bones], axis=1)
    for (a, b), mm in zip(one.bones, length, strict=True):
        require(
            not mm < BONE_MM[0] and not mm > BONE_MM[1],
            f"the bone {one.joints[a]} - {one.joints[b]} is {mm:.1f} mm long",
            f"check the order of the joints against the layout {one.name!r}, and the units",
        )
    # In a wrong order the sum of all bones grows, however the hand is bent: the true tree is nearly a shortest one.
    order = np.random.default_rng(0)
    shuffled = [_tree(xyz[:, order.permutation(len(one))], one.bones) for _ in range(20)]
    own = _tree(xyz, one.bones)
    require(
        own < 0.8 * np.median(shuffled),
        "the bones are as long as in a random order of joints",
        f"give the order of {one.name!r}",
    )
    nearest = min(
        one.fingers, key=lambda f: np.nanmedian(np.linalg.norm(xyz[:, one.fingers[f][0]] - xyz[:, one.root], axis=1))
    )
    whole = len(one) == 21 and s.spec.root == "wrist"
    require(
        not whole or nearest == "thumb",
        f"the {nearest} starts nearest to the wrist",
        f"the thumb should: give the order of {one.name!r}",
    )
    backwards = [
        f for f, at in one.fingers.items() if len(at) > 2 and _is_backwards(xyz[:, list(at)], xyz[:, one.root])
    ]
    require(
        not backwards, f"the finger {', '.join(backwards)} runs from tip to base", f"give the order of {one.name!r}"
    )


def hand_sides_are_right(s: DataSubject) -> None:
    """side 0 is a left hand and 1 a right one: fingers curl towards the palm that the knuckles' order implies"""
    from cvhpe.geometry.skeleton import layout

    samples = s.labelled("joints3d")
    one = layout(s.open(s.splits[0]).layout)
    if not {"index_mcp", "little_mcp", "index_tip", "little_tip"} <= set(one.joints):
        raise SkipTest(f"layout {one.name!r} has no knuckles to tell by")
    right = []
    for x in samples:
        xyz = np.asarray(x.joints3d_mm)
        index, little = (xyz[one.index(f"{f}_mcp")] - xyz[one.root] for f in ("index", "little"))
        palm = np.cross(index, little)  # of a right hand it points out of the palm
        fingers = [
            xyz[one.index(f"{f}_tip")] - xyz[one.index(f"{f}_mcp")] for f in ("index", "middle", "ring", "little")
        ]
        curl = np.mean(fingers, 0) @ palm / np.linalg.norm(palm)
        if abs(curl) > CURL_MM:
            right.append((curl > 0) == bool(x.side))
    if len(right) < 3:
        raise SkipTest("too few bent fingers to tell a left hand from a right one")
    mend = "0 is left, 1 is right; x points right, y down and z forward: a mirrored axis makes the other hand"
    require(np.mean(right) > 0.5, f"{len(right) - sum(right)} of {len(right)} hands bend their fingers backwards", mend)


def _tree(xyz: np.ndarray, bones: tuple[tuple[int, int], ...]) -> float:
    return float(np.nanmedian(sum(np.linalg.norm(xyz[:, a] - xyz[:, b], axis=1) for a, b in bones)))


def _is_backwards(finger: np.ndarray, root: np.ndarray) -> bool:
    """The base of a finger is nearer to the root than its tip, except in a tight fist: the median decides."""
    base, tip = (np.linalg.norm(finger[:, i] - root, axis=1) for i in (0, -1))
    return bool(np.nanmedian(base - tip) > 0)


def joints_project_onto_the_picture(s: DataSubject) -> None:
    """K @ xyz / z gives the 2D joints, to a few pixels"""
    samples = [x for x in s.labelled("joints3d") if x.K is not None and x.joints2d_px is not None]
    if not samples:
        raise SkipTest("no sample has 3D joints, 2D joints and K")
    errors = []
    for x in samples:
        xyz, uv, camera = np.asarray(x.joints3d_mm), np.asarray(x.joints2d_px), np.asarray(x.K)
        front = xyz[:, 2] > 0
        p = xyz[front] @ camera.T
        errors.append(np.linalg.norm(p[:, :2] / p[:, 2:] - uv[front], axis=1))
    median = float(np.nanmedian(np.concatenate(errors)))
    mend = "pixels count from the centre of the top-left pixel (0, 0), x right, y down; K belongs to the frame as given"
    require(median < 3.0, f"projected 3D joints lie {median:.1f} px (median) beside the 2D joints", mend)


HAND_TESTS = (
    joints_are_in_mm,
    joints_are_in_the_layouts_order,
    hand_sides_are_right,
    joints_project_onto_the_picture,
)
