"""Pose swap augmentation: the pose of one sample at the position, orientation and camera of another.

A data set of a few thousand frames shows every pose from one direction and at one position. If everything that a run
reads follows from the joints, a pose can take the palm orientation, the root position and the camera of any other
sample: it is rotated in 3D until the palms coincide, moved to the other root, projected by the other camera and cropped
anew. If the hand sides differ, the pose is flipped first and takes the other's side.
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
from cvhpe.data.packing.crops import FRAME_MARGIN, MAX_FRACTION, MIN_JOINTS
from cvhpe.data.packing.pack import Pack
from cvhpe.errors import UserError
from cvhpe.plugin.contract import Fields, Modality

MIN_DEPTH_MM = 100.0
"""A hand that a swap would bring nearer to the camera than this keeps its place."""


class PalmJoints(NamedTuple):
    """Four joints of a rigid palm.

    The y axis of its frame runs from ``wrist`` to ``middle_mcp``, x roughly from ``index_mcp`` to ``little_mcp``. The
    frame of the other hand side is the mirror image.
    """

    wrist: int
    middle_mcp: int
    index_mcp: int
    little_mcp: int


PALM_JOINTS: Mapping[str, PalmJoints] = {
    "hand21": PalmJoints(0, 9, 5, 17),
    "icvl16": PalmJoints(0, 7, 4, 13),
    "nyu14": PalmJoints(11, 13, 11, 12),
}
"""Layout -> root and three knuckles. The NYU layout has no knuckles: both sides of the wrist and the palm serve."""


@dataclass(frozen=True)
class CropRule:
    """How samples are cropped: ``factor`` times the joints' bounding box, or a cube of half edge ``cube`` mm.

    kind: ``joints`` or ``cube``, as in :class:`cvhpe.data.packing.crops.CropOptions`.
    """

    kind: str
    factor: float
    cube: float

    @staticmethod
    def of(packs: Sequence[Pack]) -> CropRule:
        """The rule that all data sets of a run share.

        Args:
            packs: The data sets.

        Returns:
            The rule.

        Raises:
            UserError: They are cropped by different rules.
        """
        rules = {CropRule(p.meta.crop_kind, p.meta.crop_factor, p.meta.cube_mm) for p in packs}
        if len(rules) != 1:
            raise UserError(
                "the data sets are cropped in different ways, so poses cannot be swapped; "
                "--set augmentation.pose_swap_prob=0, or one data set at a time"
            )
        return rules.pop()

    def crop(self, xyz: Tensor, uv: Tensor, K: Tensor) -> Tensor:
        """The crops of hands.

        Args:
            xyz: ``[B, J, 3]`` mm, camera frame.
            uv: ``[B, J, 2]`` their projections, px.
            K: ``[B, 3, 3]`` intrinsics.

        Returns:
            ``[B, 3]`` centre x, centre y and side, px.
        """
        if self.kind == "cube":
            centre = (xyz.amin(1) + xyz.amax(1)) / 2
            focal = (K[:, 0, 0] * K[:, 1, 1]).abs().sqrt()
            side = 2 * self.cube * focal / centre[:, 2]
            return torch.cat([project_joints(centre[:, None], K)[:, 0], side[:, None]], 1)
        # As in packing.crops: joints far outside the frame do not count; the principal point is its middle.
        middle = K[:, None, :2, 2]
        near = ((uv - middle).abs() <= middle * (1 + 2 * FRAME_MARGIN)).all(-1, keepdim=True)
        counts = near | (near.sum(1, keepdim=True) < MIN_JOINTS)
        low, high = uv.where(counts, torch.inf).amin(1), uv.where(counts, -torch.inf).amax(1)
        side = ((high - low).amax(1) * self.factor).clamp_min(8.0)
        return torch.cat([(low + high) / 2, side[:, None]], 1)


def project_joints(xyz: Tensor, K: Tensor) -> Tensor:
    """Pixels of joints in front of their cameras; :func:`cvhpe.geometry.camera.project` on tensors.

    Args:
        xyz: ``[B, J, 3]`` camera frame, z above 0.
        K: ``[B, 3, 3]`` intrinsics.

    Returns:
        ``[B, J, 2]`` px.
    """
    p = xyz @ K.transpose(1, 2)
    return p[..., :2] / p[..., 2:]


def palm_frame(xyz: Tensor, palm: PalmJoints) -> Tensor:
    """The orientation of palms.

    Args:
        xyz: ``[B, J, 3]`` joints.
        palm: Which of them span the palm.

    Returns:
        ``[B, 3, 3]`` rotations whose columns are the palm's x, y and z axis.

    Example:
        >>> x = torch.zeros(1, 18, 3)
        >>> x[0, 9, 1], x[0, 5, 0], x[0, 17, 0] = 1, -1, 1
        >>> palm_frame(x, PALM_JOINTS["hand21"])[0].abs()
        tensor([[1., 0., 0.],
                [0., 1., 0.],
                [0., 0., 1.]])
    """
    y = normalize(xyz[:, palm.middle_mcp] - xyz[:, palm.wrist], dim=-1)
    z = normalize(torch.linalg.cross(xyz[:, palm.little_mcp] - xyz[:, palm.index_mcp], y), dim=-1)
    return torch.stack([torch.linalg.cross(y, z), y, z], 2)


class PoseSwap:
    """Gives samples the position, orientation and camera of other samples, with a probability.

    Args:
        prob: Probability of a swap, for each sample.
        batches: The data: samples to swap, and those whose places they take.

    Raises:
        UserError: The palm of the data's layout is unknown, or its data sets are cropped by different rules.
    """

    def __init__(self, prob: float, batches: Batches) -> None:
        if batches.layout not in PALM_JOINTS:
            raise UserError(
                f"layout {batches.layout}: its palm joints are unknown, so poses cannot be swapped; "
                "--set augmentation.pose_swap_prob=0"
            )
        self.prob, self.palm, self.rule = prob, PALM_JOINTS[batches.layout], CropRule.of(batches.packs)
        arrays = batches.arrays()
        self.swappable = swappable(arrays, self.palm)
        rows = self.swappable.nonzero()[:, 0]
        self.targets = {name: arrays[name][rows] for name in ("K", "root_mm", "side")}
        self.targets["frame"] = palm_frame(arrays["joints3d"][rows], self.palm)

    @staticmethod
    def from_config(config: Config, modalities: Mapping[str, Modality], batches: Batches) -> PoseSwap | None:
        """The pose swap of a run.

        Args:
            config: Its settings.
            modalities: Its modalities. Images cannot follow a swap: everything they read must be in ``JOINT_FIELDS``.
            batches: Its training data.

        Returns:
            None if the settings ask for none, a modality cannot follow, or fewer than two samples have 3D joints, 2D
            joints and a camera.
        """
        reads = {name for modality in modalities.values() for name in modality.reads}
        if not config.augmentation.pose_swap_prob or not reads <= JOINT_FIELDS:
            return None
        swap = PoseSwap(config.augmentation.pose_swap_prob, batches)
        return swap if len(swap.targets["side"]) > 1 else None

    def __call__(self, fields: Fields, generator: Generator, batch_size: int, first: int = 0) -> Fields:
        """Swap a random choice of samples.

        Choices are sampled for the whole batch, so that a part of it gets what it gets in the whole.

        Args:
            fields: ``[m, ...]`` of the samples ``first`` to ``first + m`` of a batch.
            generator: On the CPU.
            batch_size: Samples in the whole batch.
            first: Place of the first sample in the batch.

        Returns:
            The fields, some of their hands moved.
        """
        chosen = torch.rand(batch_size, generator=generator) < self.prob
        target = torch.randint(len(self.targets["side"]), (batch_size,), generator=generator)
        part = slice(first, first + len(fields["side"]))
        rows = (chosen[part] & self.swappable[fields["index"]]).nonzero()[:, 0]
        return self.swap(fields, rows, target[part][rows])

    def swap(self, fields: Fields, rows: Tensor, target: Tensor) -> Fields:
        """Give samples the place of given targets.

        Args:
            fields: ``[m, ...]``.
            rows: ``[n]`` which of them to change.
            target: ``[n]`` indices into :attr:`targets`.

        Returns:
            The fields; hands that would come nearer than :data:`MIN_DEPTH_MM` are unchanged.
        """
        to = {name: values[target] for name, values in self.targets.items()}
        sign = torch.ones(len(rows), 3)
        sign[:, 0] = torch.where(fields["side"][rows] == to["side"], 1.0, -1.0)
        scale = fields["scale_mm"][rows, None, None]
        hand = fields["joints3d"][rows] * sign[:, None]
        rotation = to["frame"] @ palm_frame(hand, self.palm).transpose(1, 2)
        hand = hand @ rotation.transpose(1, 2)
        xyz = hand * scale + to["root_mm"][:, None]
        fits = xyz[..., 2].amin(1) > MIN_DEPTH_MM
        rows, hand, xyz = rows[fits], hand[fits], xyz[fits]
        K = to["K"][fits]
        uv = project_joints(xyz, K)
        crop = self.rule.crop(xyz, uv, K)
        new = {
            "joints3d": hand,
            "joints2d": ((uv - crop[:, None, :2]) / crop[:, None, 2:]).clamp(-MAX_FRACTION, MAX_FRACTION),
            "crop": crop,
            "K": K,
            "root_mm": to["root_mm"][fits],
            "side": to["side"][fits],
        }
        return {**fields, **{name: fields[name].index_copy(0, rows, values) for name, values in new.items()}}


def swappable(fields: Fields, palm: PalmJoints) -> Tensor:
    """Which samples have all 2D and 3D joints, a camera, and a palm that spans a plane.

    Args:
        fields: ``[N, ...]``.
        palm: Joints of the palm.

    Returns:
        ``[N]`` bool.
    """
    finite = torch.stack([fields[n].isfinite().flatten(1).all(1) for n in ("joints3d", "joints2d", "K", "root_mm")])
    frame = palm_frame(fields["joints3d"], palm).nan_to_num()
    return finite.all(0) & fields["has_joints3d"] & fields["has_joints2d"] & (torch.linalg.det(frame) > 0.5)
