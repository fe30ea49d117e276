"""Swapped poses: the hand of one sample where another stands, turned as that one is and seen by its camera.

A data set of a few thousand frames shows every pose from one side and at one place. Where all that a run
looks at follows from the joints, a pose may be seen from any side that any hand of the data was seen from:
turned in 3D until its palm lies as the other's, put at the other's root, projected by the other's camera
and cropped anew. A left hand that takes a right hand's place is mirrored first, and a right one from then on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn.functional import normalize

from cvhpe.config.presets import JOINT_FIELDS
from cvhpe.config.schema import Config
from cvhpe.data.loader import Batches
from cvhpe.data.packing.crops import FARTHEST, LEAST_JOINTS, NEAR_FRAME
from cvhpe.data.packing.pack import Pack
from cvhpe.errors import UserError
from cvhpe.plugin.contract import Fields, Modality

NEAR = 100.0
"""mm. A hand that would come nearer to the camera than this, or behind it, stays where it was."""


class PalmJoints(NamedTuple):
    """Four joints of a rigid palm: the frame's y axis runs from ``wrist`` to ``fore``, x roughly ``left`` to ``right``.

    They are the same on a left hand and on a right one, whose frame is the mirror image.
    """

    wrist: int
    fore: int
    left: int
    right: int


PALMS: Mapping[str, PalmJoints] = {
    "hand21": PalmJoints(0, 9, 5, 17),
    "icvl16": PalmJoints(0, 7, 4, 13),
    "nyu14": PalmJoints(11, 13, 11, 12),
}
"""Layout -> root, middle, index and little knuckle; the NYU layout has no knuckles, but palm and wrist."""


@dataclass(frozen=True)
class CropRule:
    """FusionParams samples are cropped: ``factor`` times the joints' box, or a cube of half edge ``cube`` mm.

    kind: ``joints`` or ``cube``, as in :class:`cvhpe.data.packing.crops.CropOptions`.
    """

    kind: str
    factor: float
    cube: float

    @staticmethod
    def of(packs: Sequence[Pack]) -> CropRule:
        """The rule that all data of a run share."""
        found = {CropRule(p.meta.crop_kind, p.meta.crop_factor, p.meta.cube_mm) for p in packs}
        if len(found) != 1:
            raise UserError(
                "the data sets are cropped in different ways, so that hands cannot swap places; "
                "--set augmentation.pose_swap_prob=0, or one data set at a time"
            )
        return found.pop()

    def crop(self, xyz: Tensor, uv: Tensor, K: Tensor) -> Tensor:
        """Centre x, centre y, side: ``[B, 3]`` px, of hands ``[B, J, 3]`` mm that are seen at ``[B, J, 2]`` px."""
        if self.kind == "cube":
            centre = (xyz.amin(1) + xyz.amax(1)) / 2
            focal = (K[:, 0, 0] * K[:, 1, 1]).abs().sqrt()
            return torch.cat([project(centre[:, None], K)[:, 0], (2 * self.cube * focal / centre[:, 2])[:, None]], 1)
        # As in packing.crops: joints far outside the frame do not count; the principal point is its middle.
        middle = K[:, None, :2, 2]
        near = ((uv - middle).abs() <= middle * (1 + 2 * NEAR_FRAME)).all(-1, keepdim=True)
        counts = near | (near.sum(1, keepdim=True) < LEAST_JOINTS)
        low, high = uv.where(counts, torch.inf).amin(1), uv.where(counts, -torch.inf).amax(1)
        side = ((high - low).amax(1) * self.factor).clamp_min(8.0)
        return torch.cat([(low + high) / 2, side[:, None]], 1)


def project(xyz: Tensor, K: Tensor) -> Tensor:
    """Pixels ``[B, J, 2]`` of points ``[B, J, 3]`` before their cameras ``[B, 3, 3]``."""
    p = xyz @ K.transpose(1, 2)
    return p[..., :2] / p[..., 2:]


def palm_frame(xyz: Tensor, palm: PalmJoints) -> Tensor:
    """Rotations ``[B, 3, 3]`` whose columns are a palm's x, y and z axis, of joints ``[B, J, 3]``.

    >>> x = torch.zeros(1, 18, 3)
    >>> x[0, 9, 1], x[0, 5, 0], x[0, 17, 0] = 1, -1, 1
    >>> palm_frame(x, PALMS["hand21"])[0].abs()
    tensor([[1., 0., 0.],
            [0., 1., 0.],
            [0., 0., 1.]])
    """
    y = normalize(xyz[:, palm.fore] - xyz[:, palm.wrist], dim=-1)
    z = normalize(torch.linalg.cross(xyz[:, palm.right] - xyz[:, palm.left], y), dim=-1)
    return torch.stack([torch.linalg.cross(y, z), y, z], 2)


class Swap:
    """Swaps the pose of a sample into another one's place, with a chance, out of a generator alone."""

    def __init__(self, chance: float, batches: Batches) -> None:
        if batches.layout not in PALMS:
            raise UserError(
                f"layout {batches.layout}: where its palm is, is not known, so that hands cannot swap places; "
                "--set augmentation.pose_swap_prob=0"
            )
        self.chance, self.palm, self.rule = chance, PALMS[batches.layout], CropRule.of(batches.packs)
        everything = batches.arrays()
        self.whole = complete(everything, self.palm)
        rows = self.whole.nonzero()[:, 0]
        self.places = {name: everything[name][rows] for name in ("K", "root_mm", "side")}
        self.places["frame"] = palm_frame(everything["joints3d"][rows], self.palm)

    @staticmethod
    def of(config: Config, modalities: Mapping[str, Modality], batches: Batches) -> Swap | None:
        """The swap of a run; None where its settings want none, or a modality or the data could not follow.

        Pictures cannot; nor can samples without 3D joints, 2D joints and a camera.
        """
        reads = {name for modality in modalities.values() for name in modality.reads}
        if not config.augmentation.pose_swap_prob or not reads <= JOINT_FIELDS:
            return None
        swap = Swap(config.augmentation.pose_swap_prob, batches)
        return swap if len(swap.places["side"]) > 1 else None

    def __call__(self, fields: Fields, generator: Generator, n: int, first: int = 0) -> Fields:
        """The fields ``[m, ...]`` with some of their hands in other places.

        They are the samples ``first`` to ``first + m`` of a batch of ``n``, for all of which is drawn.
        """
        chosen = torch.rand(n, generator=generator) < self.chance
        place = torch.randint(len(self.places["side"]), (n,), generator=generator)
        own = slice(first, first + len(fields["side"]))
        rows = (chosen[own] & self.whole[fields["index"]]).nonzero()[:, 0]
        return self.put(fields, rows, place[own][rows])

    def put(self, fields: Fields, rows: Tensor, place: Tensor) -> Fields:
        """The fields with the hands of ``rows`` ``[m]`` put at the places numbered ``place`` ``[m]``."""
        there = {name: values[place] for name, values in self.places.items()}
        mirror = torch.ones(len(rows), 3)
        mirror[:, 0] = torch.where(fields["side"][rows] == there["side"], 1.0, -1.0)
        scale = fields["scale_mm"][rows, None, None]
        hand = fields["joints3d"][rows] * mirror[:, None]
        turn = there["frame"] @ palm_frame(hand, self.palm).transpose(1, 2)
        hand = hand @ turn.transpose(1, 2)
        xyz = hand * scale + there["root_mm"][:, None]
        fits = xyz[..., 2].amin(1) > NEAR
        rows, hand, xyz = rows[fits], hand[fits], xyz[fits]
        K = there["K"][fits]
        uv = project(xyz, K)
        crop = self.rule.crop(xyz, uv, K)
        new = {
            "joints3d": hand,
            "joints2d": ((uv - crop[:, None, :2]) / crop[:, None, 2:]).clamp(-FARTHEST, FARTHEST),
            "crop": crop,
            "K": K,
            "root_mm": there["root_mm"][fits],
            "side": there["side"][fits],
        }
        return {**fields, **{name: fields[name].index_copy(0, rows, values) for name, values in new.items()}}


def complete(fields: Fields, palm: PalmJoints) -> Tensor:
    """``[N]`` bool: the samples that have all 2D and 3D joints, a camera, and a palm that spans a plane."""
    finite = torch.stack([fields[n].isfinite().flatten(1).all(1) for n in ("joints3d", "joints2d", "K", "root_mm")])
    frame = palm_frame(fields["joints3d"], palm).nan_to_num()
    return finite.all(0) & fields["has_joints3d"] & fields["has_joints2d"] & (torch.linalg.det(frame) > 0.5)
