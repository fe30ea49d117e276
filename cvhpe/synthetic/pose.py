"""Poses of a synthetic hand: joint angles, and the 21 joints that follow from them.

Angles are in degrees, joints in mm in the frame of a right palm: x radial, y distal, z palmar. Fingers are sampled one
by one: poses differ mostly in which fingers are stretched, so one closure for all fingers is too little.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cvhpe.synthetic.anatomy import HandAnatomy
from cvhpe.synthetic.counter_rng import CounterRng

Array = np.ndarray

GESTURES = {"states": 0.50, "free": 0.33, "closure": 0.09, "pinch": 0.055, "open": 0.025}
MCP_LIMITS, PIP_LIMITS, DIP_LIMITS = (-25.0, 92.0), (-5.0, 112.0), (-10.0, 85.0)
THUMB_MCP_LIMITS, THUMB_IP_LIMITS = (-15.0, 65.0), (-25.0, 85.0)
ABDUCTION_DEG = np.array([11.0, 1.0, -8.0, -18.0])
EXTENDED_PROB = np.array([0.55, 0.45, 0.35, 0.45])

# Every run of neighbouring fingers that can be stretched while the others are curled, and the fist.
FINGER_RUNS = np.array([[a <= f < b for f in range(4)] for a in range(4) for b in range(a + 1, 5)] + [[False] * 4])


@dataclass(frozen=True)
class JointAngles:
    """Joint angles of N hands, degrees.

    Attributes:
        closure: ``[N, 4]`` in [0, 1], index .. little.
        flexion: ``[N, 4, 3]`` at MCP, PIP and DIP.
        abduction: ``[N, 4]`` from the middle ray towards the thumb.
        thumb_polar: ``[N]`` between the first metacarpal and the palm's y axis.
        thumb_azimuth: ``[N]`` from radial to palmar.
        thumb_flexion: ``[N, 2]`` at MCP and IP.
        thumb_twist: ``[N]`` of the plane in which the thumb bends.
    """

    closure: Array
    flexion: Array
    abduction: Array
    thumb_polar: Array
    thumb_azimuth: Array
    thumb_flexion: Array
    thumb_twist: Array


@dataclass(frozen=True)
class PosedHands:
    """Joints of N hands in the frame of the palm.

    Attributes:
        joints: ``[N, 21, 3]`` mm, layout hand21 with the wrist (0, 0, 0) as root.
        back: ``[N, 5, 3, 3]`` unit vectors to the dorsal side of each phalanx (and the thumb's metacarpal).
    """

    joints: Array
    back: Array


def _closures(rng: CounterRng) -> tuple[Array, Array]:
    """Finger closures ``[N, 4]`` and which hands pinch ``[N]``."""
    n = len(rng)
    kind = rng.categorical(list(GESTURES.values()))
    u = rng.uniform(4)
    runs = FINGER_RUNS[np.minimum((rng.uniform() * len(FINGER_RUNS)).astype(int), len(FINGER_RUNS) - 1)]
    extended = np.where(rng.bernoulli(0.5, 1), runs, rng.bernoulli(EXTENDED_PROB, 4))
    states = np.where(extended, 0.35 * u**3, 1 - 0.35 * u**2)
    closed_hand = np.clip(rng.uniform(1) + rng.normal(4, sigma=0.08), 0, 1)
    rest = np.where(rng.bernoulli(0.5, 1), u * 0.25, rng.uniform(4))
    pinch = np.concatenate([0.35 + 0.30 * rng.uniform(1), rest[:, 1:]], 1)
    return np.stack([states, u, closed_hand, pinch, 0.12 * u], 1)[np.arange(n), kind], kind == 3


def sample_angles(rng: CounterRng) -> JointAngles:
    """Sample the joint angles of a batch of hands."""
    closure, pinch = _closures(rng)
    # Half of a finger's deviation is the hand's habit, half its own.
    half = np.sqrt(0.5)
    balance = np.clip(0.25 * half * (rng.normal(1) + rng.normal(4)), -0.9, 0.9)
    rest = 3 + 12 * half * (rng.normal(1) + rng.normal(4))
    noise = rng.normal(4, 3, sigma=9)
    mcp = np.clip(rest + 85 * closure * (1 + balance) + noise[..., 0], *MCP_LIMITS)
    pip = np.clip(4 + 95 * closure * (1 - balance) + noise[..., 1], *PIP_LIMITS)
    dip = np.clip(0.667 * pip + noise[..., 2], *DIP_LIMITS)
    spread = rng.uniform(1, low=-0.5, high=1.1) * ABDUCTION_DEG + rng.normal(4, sigma=4)
    abduction = spread * (0.35 + 0.65 * np.cos(np.deg2rad(mcp)))

    tied = np.clip(closure[:, :3].mean(1) + rng.normal(sigma=0.15), 0, 1)
    opposition = np.where(rng.bernoulli(0.5), rng.uniform(), tied)
    opposition = np.where(pinch, 0.65 + 0.35 * opposition, opposition)
    polar = rng.uniform(low=18, high=62) * (1 - 0.25 * opposition) + rng.normal(sigma=5)
    azimuth = -25 + 100 * opposition + rng.normal(sigma=25)
    thumb_mcp = rng.uniform(low=THUMB_MCP_LIMITS[0], high=THUMB_MCP_LIMITS[1])
    bent = rng.uniform(low=THUMB_IP_LIMITS[0], high=THUMB_IP_LIMITS[1])
    thumb_ip = np.where(rng.bernoulli(0.35), np.clip(rng.normal(sigma=8), *THUMB_IP_LIMITS), bent)
    return JointAngles(
        closure=closure,
        flexion=np.stack([mcp, pip, dip], 2),
        abduction=abduction,
        thumb_polar=np.clip(polar, 5, 80),
        thumb_azimuth=np.clip(azimuth, -80, 130),
        thumb_flexion=np.stack([thumb_mcp, thumb_ip], 1),
        thumb_twist=rng.normal(sigma=15),
    )


def _unit(v: Array) -> Array:
    return v / np.sqrt((v * v).sum(-1, keepdims=True))


def _fingers(hand: HandAnatomy, angles: JointAngles) -> tuple[Array, Array]:
    """Joints ``[N, 4, 4, 3]`` and backs ``[N, 4, 3, 3]`` of index .. little."""
    lift = hand.arch * (0.3 + 0.7 * angles.closure[:, 3:])
    knuckle = np.stack([hand.palm * np.sin(hand.ray), hand.palm * np.cos(hand.ray), lift], 2)
    angle, roll = np.deg2rad(angles.abduction), hand.roll
    along = np.stack([np.sin(angle), np.cos(angle), np.zeros_like(angle)], 2)
    across = np.stack([np.cos(angle), -np.sin(angle), np.zeros_like(angle)], 2)
    palmar = across * np.sin(roll)[..., None]
    palmar[..., 2] += np.cos(roll)
    bend = np.cumsum(np.deg2rad(angles.flexion), 2)[..., None]
    direction = along[:, :, None] * np.cos(bend) + palmar[:, :, None] * np.sin(bend)
    back = along[:, :, None] * np.sin(bend) - palmar[:, :, None] * np.cos(bend)
    chain = knuckle[:, :, None] + np.cumsum(direction * hand.bones[:, 1:, :, None], 2)
    return np.concatenate([knuckle[:, :, None], chain], 2), back


def _thumb(hand: HandAnatomy, angles: JointAngles) -> tuple[Array, Array]:
    """Joints ``[N, 4, 3]`` and backs ``[N, 3, 3]`` of the thumb."""
    polar, azimuth, twist = (np.deg2rad(a) for a in (angles.thumb_polar, angles.thumb_azimuth, angles.thumb_twist))
    first = np.stack([np.sin(polar) * np.cos(azimuth), np.cos(polar), np.sin(polar) * np.sin(azimuth)], 1)
    # The thumb bends towards the fingers, and across the palm the less it points out of the plane.
    aim = np.broadcast_to(np.array([-0.85, 0.0, 0.5]), first.shape)
    flexor = _unit(aim - first * (aim * first).sum(1, keepdims=True))
    side = np.cross(first, flexor)
    flexor = flexor * np.cos(twist)[:, None] + side * np.sin(twist)[:, None]
    flexion = np.deg2rad(angles.thumb_flexion)
    bend = np.cumsum(np.concatenate([np.zeros_like(flexion[:, :1]), flexion], 1), 1)[..., None]
    direction = first[:, None] * np.cos(bend) + flexor[:, None] * np.sin(bend)
    back = first[:, None] * np.sin(bend) - flexor[:, None] * np.cos(bend)
    chain = hand.thumb_base[:, None] + np.cumsum(direction * hand.bones[:, 0, :, None], 1)
    return np.concatenate([hand.thumb_base[:, None], chain], 1), back


def forward_kinematics(hand: HandAnatomy, angles: JointAngles) -> PosedHands:
    """The 21 joints of hands.

    Args:
        hand: N hands.
        angles: Their joint angles.

    Returns:
        Their joints.

    Example:
        >>> from cvhpe.synthetic.anatomy import sample_anatomy
        >>> frames = np.arange(2)
        >>> posed = forward_kinematics(sample_anatomy(0, frames), sample_angles(CounterRng(0, frames, "pose")))
        >>> posed.joints.shape, posed.back.shape
        ((2, 21, 3), (2, 5, 3, 3))
    """
    fingers, finger_backs = _fingers(hand, angles)
    thumb, thumb_back = _thumb(hand, angles)
    n = len(hand)
    wrist = np.zeros((n, 1, 3))
    joints = np.concatenate([wrist, thumb, fingers.reshape(n, 16, 3)], 1)
    return PosedHands(joints, np.concatenate([thumb_back[:, None], finger_backs], 1))


def labelled_palm(hand: HandAnatomy, joints: Array) -> Array:
    """Where a data set that labels the palm puts it.

    Args:
        hand: N hands.
        joints: ``[N, 21, 3]`` their joints, frame of the palm, mm.

    Returns:
        ``[N, 3]`` frame of the palm, mm.
    """
    share, offset = hand.palm_point[:, :1], hand.palm_point[:, 1:]
    point = joints[:, 0] + share * (joints[:, 9] - joints[:, 0])
    return point + np.stack([offset[:, 0], np.zeros(len(hand)), offset[:, 1]], 1)
