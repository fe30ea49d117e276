"""The proportions of a synthetic person's hand.

Two needs meet here. A rendered hand wants human bones; a network that must serve several data sets wants
to have met every place at which their annotators put a knuckle. So the lengths vary much wider than anatomy
does (a tenth to a quarter, by bone, finger and row), and the labelled knuckle slides along the finger.
``benchmarks/synthetic_lifter.py --ablate`` measures what that is worth on real labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cvhpe.synthetic.counter_rng import Draws

Array = np.ndarray

HAND_LENGTH_MM = 187.0
FINGERS = ("thumb", "index", "middle", "ring", "little")

# Share of the hand length. Thumb: first metacarpal, proximal, distal phalanx; the others: proximal, middle,
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
class Hands:
    """Right hands of N persons; lengths in mm, frame of the palm: x radial, y distal, z palmar, wrist at 0.

    length: ``[N]`` hand length. palm: ``[N, 4]`` wrist to MCP, index .. little. ray: ``[N, 4]`` rad.
    bones: ``[N, 5, 3]`` as in ``BONES``. thumb_base: ``[N, 3]``. arch, roll: ``[N, 4]`` mm and rad.
    palm_point: ``[N, 3]``: share of wrist -> middle MCP at which a data set labels "the palm", and its
    lateral and palmar offset in mm.
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

    def take(self, rows: Array) -> Hands:
        """The hands of some persons, in that order, with repetition."""
        return Hands(**{name: getattr(self, name)[rows] for name in self.__dataclass_fields__})


def hands(seed: int, person: Array, proportions: float = 1.0) -> Hands:
    """The hands of the persons ``person`` ``[N]`` (integer ids) of the world ``seed``.

    proportions: 1 spreads them as training needs it, 0 gives everybody the mean hand (size still
    varies), and values between give as much of it.

    >>> h = hands(0, np.array([3, 4, 3]))
    >>> h.bones.shape, bool((h.bones[0] == h.bones[2]).all()), bool((h.bones[0] == h.bones[1]).all())
    ((3, 5, 3), True, False)
    """
    draw, size = Draws(seed, person, "anatomy"), Draws(seed, person, "size")
    n, amount = len(draw), float(proportions)
    length = HAND_LENGTH_MM * np.exp(size.normal(sigma=0.07))

    def spread(sigma: float, *shape: int) -> Array:
        return np.exp(amount * draw.normal(*shape, sigma=sigma))

    bones = np.broadcast_to(BONES, (n, 5, 3)) * spread(0.12, 5, 3)
    bones[:, 0] *= spread(0.20, 1)
    bones[:, 1:] *= spread(0.08, 4, 1)
    for row, sigma in enumerate((0.25, 0.20, 0.25)):
        bones[:, 1:, row] *= spread(sigma, 1)
    bones[:, 2, 0] *= spread(0.10)
    palm_length = spread(0.15, 1)
    palm = PALM * palm_length * spread(0.25, 1) * spread(0.12, 4)

    # The knuckle's label slides: what the palm gains the proximal phalanx loses.
    slide = amount * (draw.uniform(1, low=-0.05, high=0.25)) * bones[:, 1:, 0]
    palm, bones[:, 1:, 0] = palm + slide, bones[:, 1:, 0] - slide

    thumb_base = THUMB_BASE * palm_length + amount * draw.uniform(3, low=-0.06, high=0.06)
    point = np.array([0.5, 0.0, 0.0]) + amount * draw.normal(3) * np.array([0.05, 0.02, 0.03])
    mm = length[:, None]
    return Hands(
        length=length,
        palm=palm * mm,
        ray=np.deg2rad(RAY_DEG) * spread(0.3, 1),
        bones=bones * mm[..., None],
        thumb_base=thumb_base * mm,
        arch=ARCH * mm * (0.575 + amount * draw.uniform(1, low=-0.425, high=0.425)),
        roll=np.deg2rad(ROLL_DEG) * (0.8 + amount * draw.uniform(1, low=-0.5, high=0.5)),
        palm_point=point * np.concatenate([np.ones_like(mm), mm, mm], 1),
    )
