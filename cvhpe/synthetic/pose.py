"""FusionParams a synthetic hand is held: joint angles, and the 21 joints that follow from them.

Angles are degrees in this file (the anatomy of a hand is written in degrees), joints are mm in the frame
of a right palm: x radial, y distal, z palmar. Fingers are drawn one by one: what people do with their hands
is mostly a choice of which fingers are stretched, so a single closure of the whole hand teaches too little.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cvhpe.synthetic.anatomy import Hands
from cvhpe.synthetic.counter_rng import Draws

Array = np.ndarray

GESTURES = {"states": 0.50, "free": 0.33, "closure": 0.09, "pinch": 0.055, "open": 0.025}
MCP_LIMITS, PIP_LIMITS, DIP_LIMITS = (-25.0, 92.0), (-5.0, 112.0), (-10.0, 85.0)
THUMB_MCP_LIMITS, THUMB_IP_LIMITS = (-15.0, 65.0), (-25.0, 85.0)
ABDUCTION_DEG = np.array([11.0, 1.0, -8.0, -18.0])
EXTENDED = np.array([0.55, 0.45, 0.35, 0.45])

# Every run of neighbouring fingers that can be stretched while the others are curled, the fist included.
RUNS = np.array([[a <= f < b for f in range(4)] for a in range(4) for b in range(a + 1, 5)] + [[False] * 4])


@dataclass(frozen=True)
class Angles:
    """Joint angles of N hands, degrees.

    closure: ``[N, 4]`` in [0, 1], index .. little. flexion: ``[N, 4, 3]`` at MCP, PIP, DIP.
    abduction: ``[N, 4]`` from the middle ray towards the thumb. thumb_polar: ``[N]`` between the first
    metacarpal and the palm's y. thumb_azimuth: ``[N]`` from radial to palmar. thumb_flexion: ``[N, 2]``
    at MCP and IP. thumb_twist: ``[N]``, of the plane in which the thumb bends.
    """

    closure: Array
    flexion: Array
    abduction: Array
    thumb_polar: Array
    thumb_azimuth: Array
    thumb_flexion: Array
    thumb_twist: Array


@dataclass(frozen=True)
class Posed:
    """joints: ``[N, 21, 3]`` mm, layout hand21 with the wrist (0, 0, 0) as root, frame of the palm.
    back: ``[N, 5, 3, 3]`` unit vectors to the dorsal side of each phalanx (the thumb's metacarpal too).
    """

    joints: Array
    back: Array


def _closures(draw: Draws) -> tuple[Array, Array]:
    """Finger closures ``[N, 4]`` and which hands pinch ``[N]``."""
    n = len(draw)
    kind = draw.choice(list(GESTURES.values()))
    u = draw.uniform(4)
    runs = RUNS[np.minimum((draw.uniform() * len(RUNS)).astype(int), len(RUNS) - 1)]
    extended = np.where(draw.chance(0.5, 1), runs, draw.chance(EXTENDED, 4))
    states = np.where(extended, 0.35 * u**3, 1 - 0.35 * u**2)
    whole = np.clip(draw.uniform(1) + draw.normal(4, sigma=0.08), 0, 1)
    rest = np.where(draw.chance(0.5, 1), u * 0.25, draw.uniform(4))
    pinch = np.concatenate([0.35 + 0.30 * draw.uniform(1), rest[:, 1:]], 1)
    return np.stack([states, u, whole, pinch, 0.12 * u], 1)[np.arange(n), kind], kind == 3


def angles(draw: Draws) -> Angles:
    """Draw the joint angles of a batch of hands."""
    closure, pinch = _closures(draw)
    # Half of a finger's deviation is the hand's habit, half its own.
    half = np.sqrt(0.5)
    balance = np.clip(0.25 * half * (draw.normal(1) + draw.normal(4)), -0.9, 0.9)
    rest = 3 + 12 * half * (draw.normal(1) + draw.normal(4))
    noise = draw.normal(4, 3, sigma=9)
    mcp = np.clip(rest + 85 * closure * (1 + balance) + noise[..., 0], *MCP_LIMITS)
    pip = np.clip(4 + 95 * closure * (1 - balance) + noise[..., 1], *PIP_LIMITS)
    dip = np.clip(0.667 * pip + noise[..., 2], *DIP_LIMITS)
    spread = draw.uniform(1, low=-0.5, high=1.1) * ABDUCTION_DEG + draw.normal(4, sigma=4)
    abduction = spread * (0.35 + 0.65 * np.cos(np.deg2rad(mcp)))

    tied = np.clip(closure[:, :3].mean(1) + draw.normal(sigma=0.15), 0, 1)
    opposition = np.where(draw.chance(0.5), draw.uniform(), tied)
    opposition = np.where(pinch, 0.65 + 0.35 * opposition, opposition)
    polar = draw.uniform(low=18, high=62) * (1 - 0.25 * opposition) + draw.normal(sigma=5)
    azimuth = -25 + 100 * opposition + draw.normal(sigma=25)
    thumb_mcp = draw.uniform(low=THUMB_MCP_LIMITS[0], high=THUMB_MCP_LIMITS[1])
    bent = draw.uniform(low=THUMB_IP_LIMITS[0], high=THUMB_IP_LIMITS[1])
    thumb_ip = np.where(draw.chance(0.35), np.clip(draw.normal(sigma=8), *THUMB_IP_LIMITS), bent)
    return Angles(
        closure=closure,
        flexion=np.stack([mcp, pip, dip], 2),
        abduction=abduction,
        thumb_polar=np.clip(polar, 5, 80),
        thumb_azimuth=np.clip(azimuth, -80, 130),
        thumb_flexion=np.stack([thumb_mcp, thumb_ip], 1),
        thumb_twist=draw.normal(sigma=15),
    )


def _unit(v: Array) -> Array:
    return v / np.sqrt((v * v).sum(-1, keepdims=True))


def _fingers(hand: Hands, held: Angles) -> tuple[Array, Array]:
    """Joints ``[N, 4, 4, 3]`` and backs ``[N, 4, 3, 3]`` of index .. little."""
    lift = hand.arch * (0.3 + 0.7 * held.closure[:, 3:])
    knuckle = np.stack([hand.palm * np.sin(hand.ray), hand.palm * np.cos(hand.ray), lift], 2)
    turn, roll = np.deg2rad(held.abduction), hand.roll
    along = np.stack([np.sin(turn), np.cos(turn), np.zeros_like(turn)], 2)
    across = np.stack([np.cos(turn), -np.sin(turn), np.zeros_like(turn)], 2)
    palmar = across * np.sin(roll)[..., None]
    palmar[..., 2] += np.cos(roll)
    bend = np.cumsum(np.deg2rad(held.flexion), 2)[..., None]
    direction = along[:, :, None] * np.cos(bend) + palmar[:, :, None] * np.sin(bend)
    back = along[:, :, None] * np.sin(bend) - palmar[:, :, None] * np.cos(bend)
    chain = knuckle[:, :, None] + np.cumsum(direction * hand.bones[:, 1:, :, None], 2)
    return np.concatenate([knuckle[:, :, None], chain], 2), back


def _thumb(hand: Hands, held: Angles) -> tuple[Array, Array]:
    """Joints ``[N, 4, 3]`` and backs ``[N, 3, 3]`` of the thumb."""
    polar, azimuth, twist = (np.deg2rad(a) for a in (held.thumb_polar, held.thumb_azimuth, held.thumb_twist))
    first = np.stack([np.sin(polar) * np.cos(azimuth), np.cos(polar), np.sin(polar) * np.sin(azimuth)], 1)
    # It bends towards the fingers, and the more across the palm the less it stands out of the plane.
    aim = np.broadcast_to(np.array([-0.85, 0.0, 0.5]), first.shape)
    root_shift_joint = _unit(aim - first * (aim * first).sum(1, keepdims=True))
    side = np.cross(first, root_shift_joint)
    root_shift_joint = root_shift_joint * np.cos(twist)[:, None] + side * np.sin(twist)[:, None]
    flexion = np.deg2rad(held.thumb_flexion)
    bend = np.cumsum(np.concatenate([np.zeros_like(flexion[:, :1]), flexion], 1), 1)[..., None]
    direction = first[:, None] * np.cos(bend) + root_shift_joint[:, None] * np.sin(bend)
    back = first[:, None] * np.sin(bend) - root_shift_joint[:, None] * np.cos(bend)
    chain = hand.thumb_base[:, None] + np.cumsum(direction * hand.bones[:, 0, :, None], 1)
    return np.concatenate([hand.thumb_base[:, None], chain], 1), back


def pose(hand: Hands, held: Angles) -> Posed:
    """Forward kinematics: the 21 joints of hands held at these angles.

    >>> from cvhpe.synthetic.anatomy import hands
    >>> frames = np.arange(2)
    >>> posed = pose(hands(0, frames), angles(Draws(0, frames, "pose")))
    >>> posed.joints.shape, posed.back.shape
    ((2, 21, 3), (2, 5, 3, 3))
    """
    fingers, finger_backs = _fingers(hand, held)
    thumb, thumb_back = _thumb(hand, held)
    n = len(hand)
    wrist = np.zeros((n, 1, 3))
    joints = np.concatenate([wrist, thumb, fingers.reshape(n, 16, 3)], 1)
    return Posed(joints, np.concatenate([thumb_back[:, None], finger_backs], 1))


def palm_point(hand: Hands, joints: Array) -> Array:
    """``[N, 3]`` where a data set that labels the palm would put it, frame of the palm, mm."""
    share, offset = hand.palm_point[:, :1], hand.palm_point[:, 1:]
    point = joints[:, 0] + share * (joints[:, 9] - joints[:, 0])
    return point + np.stack([offset[:, 0], np.zeros(len(hand)), offset[:, 1]], 1)
