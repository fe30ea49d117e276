"""The flesh on a synthetic skeleton: groups of tapered capsules, each group blended into one smooth body.

Fingers are bodies of their own, so that two that touch keep a crease between them; what does merge (knuckles,
webbing, thenar, wrist) belongs to the palm's body, which also holds the root of every finger.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

Array = np.ndarray

PALM_PART, PERSON_PART = 15, 16
"""Parts 0..14 are thumb, index .. little, each distal, middle, proximal; 15 the palm; 16 the forearm."""

# Radii as shares of the hand length: at each finger's three joints and its tip.
RADII = np.array(
    [
        [0.070, 0.058, 0.053, 0.043],
        [0.055, 0.049, 0.0425, 0.036],
        [0.057, 0.050, 0.0435, 0.037],
        [0.054, 0.047, 0.0410, 0.035],
        [0.048, 0.042, 0.0365, 0.031],
    ]
)


@dataclass(frozen=True)
class Body:
    """K tapered capsules blended together; camera frame, mm, float32.

    Attributes:
        a: ``[K, 3]`` first ends.
        b: ``[K, 3]`` second ends.
        ra: ``[K]`` radii at ``a``.
        rb: ``[K]`` radii at ``b``.
        part: ``[K]`` see :data:`PALM_PART`; -1 for an object.
        back: ``[K, 3]`` unit vectors to the dorsal side.
        at: ``[K]`` position of ``a`` along its bone.
        long: ``[K]`` length of that bone.
        blend: Width of the blend.
        kind: skin, cloth or object.
        finger: 0 thumb .. 4 little, -1 for other bodies.
    """

    a: Array
    b: Array
    ra: Array
    rb: Array
    part: Array
    back: Array
    at: Array
    long: Array
    blend: float
    kind: str
    finger: int = -1


@dataclass(frozen=True)
class Flesh:
    """The thickness of a person's hand (factors about 1) and the angles of the wrist (radians)."""

    thick: float = 1.0
    taper: float = 1.0
    palm: float = 1.0
    arm: float = 1.0
    bend: float = 0.0
    deviate: float = 0.0


class _Builder:
    """Collects the capsules of one body."""

    def __init__(self, blend: float, kind: str, finger: int = -1) -> None:
        self.rows: list[tuple[Array, Array, float, float, int, Array, float, float]] = []
        self.blend, self.kind, self.finger = blend, kind, finger

    def add(
        self, a: Array, b: Array, ra: float, rb: float, part: int, back: Array, at: float = 0.0, long: float = 1.0
    ) -> None:
        self.rows.append((a, b, ra, rb, part, back, at, long))

    def build(self) -> Body:
        a, b, ra, rb, part, back, at, long = (np.array(column) for column in zip(*self.rows, strict=True))
        f = np.float32
        capsules = a.astype(f), b.astype(f), ra.astype(f), rb.astype(f)
        return Body(*capsules, part, back.astype(f), at, long, self.blend, self.kind, self.finger)


def _finger(finger: int, chain: Array, backs: Array, radius: Array) -> Body:
    """One finger: three phalanges with their pads (the thumb: two, and its metacarpal's far half)."""
    body = _Builder(2.2, "skin", finger)
    tip = chain[3] - (chain[3] - chain[2]) * min(0.45 * radius[3] / np.linalg.norm(chain[3] - chain[2]), 0.4)
    ends = np.concatenate([chain[:3], tip[None]])
    for bone in range(3):
        a, b, back, part = ends[bone], ends[bone + 1], backs[bone], 3 * finger + 2 - bone
        long = float(np.linalg.norm(b - a))
        waist = 0.96 * 0.5 * (radius[bone] + radius[bone + 1])
        middle, pad = 0.5 * (a + b), 0.22 * waist * back
        if finger or bone:
            # Slightly thinner than the bone before it, so that the ball of a joint belongs to one of them.
            body.add(a, middle, radius[bone] * 0.96, waist, part, back, 0.0, long)
        body.add(middle, b, waist, radius[bone + 1] * 0.97, part, back, 0.5 * long, long)
        if bone == 2:
            pulp = b - 0.16 * waist * back
            body.add(middle - 0.8 * pad, pulp, 0.88 * waist, 0.80 * radius[3], part, back, 0.5 * long, long)
        elif finger or bone:
            body.add(middle - pad, middle - pad + 1e-3 * back, 0.93 * waist, 0.93 * waist, part, back, 0.5 * long, long)
    return body.build()


def _between(a: Array, b: Array) -> Array:
    """The unit vector halfway between two."""
    return (a + b) / max(float(np.linalg.norm(a + b)), 1e-6)


def _palm(joints: Array, axes: Array, backs: Array, radius: Array, size: float, flesh: Flesh, arm: Array) -> Body:
    """Palm, webbing, thenar and hypothenar, the roots of the fingers and the wrist, in one body."""
    radial, distal, palmar = axes
    back, wrist, p = -palmar, joints[0], flesh.palm
    knuckles, thumb = joints[[5, 9, 13, 17]], joints[1:5]
    body = _Builder(5.5, "skin")
    for f in range(4):
        start = wrist + radial * (0.072 - 0.048 * f) * size + distal * 0.10 * size
        inner = knuckles[f] + palmar * 0.012 * size
        body.add(start, inner, 0.070 * size * p, 0.052 * size * p, PALM_PART, back)
        root = joints[5 + 4 * f + 1] - knuckles[f]
        r = radius[f + 1]
        long = float(np.linalg.norm(root))
        end = knuckles[f] + 0.40 * root
        body.add(knuckles[f], end, r[0] * 0.97, r[0] * 0.86, 3 * (f + 1) + 2, backs[f + 1, 0], 0.0, long)
        if f < 3:
            near = knuckles[f] + 0.20 * root
            far = knuckles[f + 1] + 0.20 * (joints[5 + 4 * (f + 1) + 1] - knuckles[f + 1])
            body.add(
                near + palmar * 0.008 * size, far + palmar * 0.008 * size, 0.036 * size, 0.036 * size, PALM_PART, back
            )
    # Thenar: the muscle over the first metacarpal, and the web between it and the index finger's.
    base, mcp = thumb[0], thumb[1]
    heel = wrist + radial * 0.055 * size + distal * 0.09 * size + palmar * 0.02 * size
    body.add(heel, 0.35 * base + 0.65 * mcp, 0.075 * size * p, 0.058 * size * p, PALM_PART, back)
    body.add(base, mcp, 0.060 * size * p, radius[0, 1] * 0.95, 2, _between(back, backs[0, 0]))
    belly = 0.5 * (base + mcp) * 0.65 + 0.35 * (0.55 * wrist + 0.45 * knuckles[0]) + palmar * 0.022 * size
    body.add(0.6 * belly + 0.4 * heel, belly, 0.078 * size * p, 0.070 * size * p, PALM_PART, back)
    index = knuckles[0] - wrist
    body.add(base + 0.55 * (mcp - base), wrist + 0.62 * index, 0.050 * size, 0.048 * size, PALM_PART, back)
    body.add(base + 0.85 * (mcp - base), wrist + 0.80 * index, 0.036 * size, 0.036 * size, PALM_PART, back)
    # Hypothenar, and the arm's end.
    edge = wrist - radial * 0.085 * size + distal * 0.10 * size + palmar * 0.025 * size
    little = wrist + (knuckles[3] - wrist) * 0.78 + palmar * 0.012 * size - radial * 0.012 * size
    body.add(edge, little, 0.072 * size * p, 0.052 * size * p, PALM_PART, back)
    body.add(
        0.5 * (edge + heel),
        0.35 * wrist + 0.65 * knuckles[1:3].mean(0),
        0.066 * size * p,
        0.05 * size * p,
        PALM_PART,
        back,
    )
    _arm(body, wrist, axes, size, flesh, arm, 0.0, 0.22)
    return body.build()


def _arm(
    body: _Builder, wrist: Array, axes: Array, size: float, flesh: Flesh, arm: Array, start: float, stop: float
) -> None:
    """The piece of the forearm between two distances from the wrist, in hand lengths: two cones side by side."""
    for side in (-1.0, 1.0):
        (a, ra), (b, rb) = (
            (
                wrist + size * (arm * s + axes[0] * side * flesh.arm * (0.046 + 0.016 * s)),
                size * flesh.arm * (0.090 + 0.034 * s),
            )
            for s in (start, stop)
        )
        body.add(a, b, ra, rb, PERSON_PART, -axes[2], start * size, size)


def _forearm(wrist: Array, axes: Array, size: float, flesh: Flesh, arm: Array, stop: float) -> Body:
    body = _Builder(5.5, "skin")
    _arm(body, wrist, axes, size, flesh, arm, 0.12, stop)
    return body.build()


def sleeve(wrist: Array, axes: Array, size: float, flesh: Flesh, start: float, stop: float, loose: float) -> Body:
    """Cloth around the forearm.

    Args:
        wrist: ``[3]`` mm.
        axes: ``[3, 3]`` of the palm.
        size: Hand length, mm.
        flesh: Of the person.
        start: Distance from the wrist, hand lengths.
        stop: Distance from the wrist, hand lengths.
        loose: How much wider than the arm, as a share.

    Returns:
        The body.
    """
    body = _Builder(7.0, "cloth")
    wide = replace(flesh, arm=flesh.arm * (1 + loose))
    _arm(body, wrist, axes, size, wide, arm_direction(axes, flesh), start, stop)
    return body.build()


def stick(a: Array, b: Array, radius: float) -> Body:
    """A round object to hold.

    Args:
        a: ``[3]`` first end, mm.
        b: ``[3]`` second end, mm.
        radius: mm.

    Returns:
        The body.
    """
    body = _Builder(1.0, "object")
    body.add(a, b, radius, radius, -1, np.array([0.0, 0.0, -1.0]))
    return body.build()


def arm_direction(axes: Array, flesh: Flesh) -> Array:
    """The direction of the forearm.

    Args:
        axes: ``[3, 3]`` of the palm.
        flesh: Of the person; its angles bend the wrist.

    Returns:
        ``[3]`` unit vector from the wrist away from the hand.
    """
    radial, distal, palmar = axes
    bent = np.cos(flesh.bend) * distal + np.sin(flesh.bend) * palmar
    return -(np.cos(flesh.deviate) * bent + np.sin(flesh.deviate) * radial)


def hand_bodies(
    joints: Array, axes: Array, backs: Array, size: float, flesh: Flesh, arm_length: float = 1.35
) -> list[Body]:
    """The bodies of a hand.

    Args:
        joints: ``[21, 3]`` hand21 with a wrist, mm.
        axes: ``[3, 3]`` of the palm, rows: radial, distal, palmar.
        backs: ``[5, 3, 3]`` unit vectors to the dorsal side of each phalanx.
        size: Hand length, mm.
        flesh: Of the person.
        arm_length: Length of the visible forearm, hand lengths, at least 0.2.

    Returns:
        Palm, thumb .. little, forearm.
    """
    radius = RADII * size * flesh.thick
    radius[:, 3] *= flesh.taper
    arm = arm_direction(axes, flesh)
    fingers = [_finger(f, joints[1 + 4 * f : 5 + 4 * f], backs[f], radius[f]) for f in range(5)]
    return [
        _palm(joints, axes, backs, radius, size, flesh, arm),
        *fingers,
        _forearm(joints[0], axes, size, flesh, arm, arm_length),
    ]
