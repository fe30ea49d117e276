"""The proportions of a synthetic person's hand.

A rendered hand needs human bones; a network for several data sets needs every position at which their annotators put a
knuckle. So the lengths vary much more than anatomy does (a tenth to a quarter, by bone, finger and row), and the
labelled knuckle slides along the finger.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cvhpe.synthetic.counter_rng import CounterRng

Array = np.ndarray

HAND_LENGTH_MM = 187.0

# Shares of the hand length. Thumb: first metacarpal, proximal, distal phalanx; the others: proximal, middle,
# distal phalanx up to the finger tip. Phalanges follow published radiographic means, rounded.
BONES = np.array(
    [
        [0.247, 0.169, 0.146],
        [0.213, 0.120, 0.105],
        [0.239, 0.141, 0.114],
        [0.221, 0.137, 0.114],
        [0.175, 0.097, 0.105],
    ]
)
PALM = np.array([0.503, 0.501, 0.460, 0.439])  # wrist to MCP of index .. little
RAY_DEG = np.array([12.0, 0.0, -12.0, -24.0])  # direction wrist -> MCP, from the middle ray towards the thumb
THUMB_BASE = np.array([0.12, 0.11, 0.05])
ARCH = np.array([0.020, -0.005, 0.010, 0.050])  # how far the palm's arch can lift each MCP out of the plane
ROLL_DEG = np.array([-10.0, 0.0, 8.0, 16.0])  # curled fingers converge on the scaphoid


@dataclass(frozen=True)
class HandAnatomy:
    """Right hands of N persons; mm, frame of the palm: x radial, y distal, z palmar, wrist at 0.

    Attributes:
        length: ``[N]`` hand length.
        palm: ``[N, 4]`` wrist to MCP, index .. little.
        ray: ``[N, 4]`` directions wrist -> MCP, rad.
        bones: ``[N, 5, 3]`` as in :data:`BONES`.
        thumb_base: ``[N, 3]``.
        arch: ``[N, 4]`` lift of each MCP, mm.
        roll: ``[N, 4]`` of each finger about its axis, rad.
        palm_point: ``[N, 3]`` share of wrist -> middle MCP at which a data set labels the palm, and its lateral and
            palmar offset, mm.
    """

    length: Array
    palm: Array
    ray: Array
    bones: Array
    thumb_base: Array
    arch: Array
    roll: Array
    palm_point: Array

    def __len__(self) -> int:
        return len(self.length)


def sample_anatomy(seed: int, person: Array, proportions: float = 1.0) -> HandAnatomy:
    """Sample the hands of persons.

    Args:
        seed: Any integer.
        person: ``[N]`` integer ids.
        proportions: Spread of the proportions: 1 as training needs it, 0 gives everybody the mean hand (size still
            varies).

    Returns:
        The hands.

    Example:
        >>> h = sample_anatomy(0, np.array([3, 4, 3]))
        >>> h.bones.shape, bool((h.bones[0] == h.bones[2]).all()), bool((h.bones[0] == h.bones[1]).all())
        ((3, 5, 3), True, False)
    """
    rng, size_rng = CounterRng(seed, person, "anatomy"), CounterRng(seed, person, "size")
    n, amount = len(rng), float(proportions)
    length = HAND_LENGTH_MM * np.exp(size_rng.normal(sigma=0.07))

    def spread(sigma: float, *shape: int) -> Array:
        return np.exp(amount * rng.normal(*shape, sigma=sigma))

    bones = np.broadcast_to(BONES, (n, 5, 3)) * spread(0.12, 5, 3)
    bones[:, 0] *= spread(0.20, 1)
    bones[:, 1:] *= spread(0.08, 4, 1)
    for row, sigma in enumerate((0.25, 0.20, 0.25)):
        bones[:, 1:, row] *= spread(sigma, 1)
    bones[:, 2, 0] *= spread(0.10)
    palm_length = spread(0.15, 1)
    palm = PALM * palm_length * spread(0.25, 1) * spread(0.12, 4)

    # The knuckle's label slides: the palm gains what the proximal phalanx loses.
    slide = amount * (rng.uniform(1, low=-0.05, high=0.25)) * bones[:, 1:, 0]
    palm, bones[:, 1:, 0] = palm + slide, bones[:, 1:, 0] - slide

    thumb_base = THUMB_BASE * palm_length + amount * rng.uniform(3, low=-0.06, high=0.06)
    point = np.array([0.5, 0.0, 0.0]) + amount * rng.normal(3) * np.array([0.05, 0.02, 0.03])
    mm = length[:, None]
    return HandAnatomy(
        length=length,
        palm=palm * mm,
        ray=np.deg2rad(RAY_DEG) * spread(0.3, 1),
        bones=bones * mm[..., None],
        thumb_base=thumb_base * mm,
        arch=ARCH * mm * (0.575 + amount * rng.uniform(1, low=-0.425, high=0.425)),
        roll=np.deg2rad(ROLL_DEG) * (0.8 + amount * rng.uniform(1, low=-0.5, high=0.5)),
        palm_point=point * np.concatenate([np.ones_like(mm), mm, mm], 1),
    )
