"""The contract of a modality plugin: :class:`Modality`, :class:`Posterior`, :class:`View`, :class:`ModelShape`.

The core knows no modality. It encodes, samples, decodes and compares through the callables of a
:class:`Modality`. All modalities of a batch share one :class:`View`, so an image and its joints
rotate, scale, shift and flip together.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Generator, Tensor, nn

Geometry = Literal["image", "points2d", "points3d", "none"]
CameraFrame = Literal["camera", "root"]
Fields = Mapping[str, Tensor]
"""Samples of a packed data set: field -> ``[B, ...]``, as :class:`cvhpe.data.loader.Batches` yields them."""


class Posterior(NamedTuple):
    """The approximate posterior q(z|x) = N(mu, diag exp(logvar)) (paper, section 3).

    Attributes:
        mu: Mean, ``[B, D]``.
        logvar: Logarithm of the variance, ``[B, D]``.
    """

    mu: Tensor
    logvar: Tensor


@dataclass(frozen=True)
class View:
    """Geometric augmentation of a batch: one similarity transform a sample, shared by all modalities.

    A point at crop fraction ``p`` (crop centre (0, 0), edges at +-0.5, x right, y down) moves to
    ``scale * R(angle) @ F @ p + shift``. ``F`` negates x where ``flip`` is set; ``R`` rotates x
    towards y. Root-relative 3D joints follow with ``R(angle) @ F`` about the optical axis; scale and
    shift change the image of a hand, not the hand.

    Attributes:
        angle: ``[B]`` float32, radians.
        scale: ``[B]`` float32, above 1 enlarges.
        shift: ``[B, 2]`` float32, fraction of the crop's side.
        flip: ``[B]`` bool; a flip also swaps the hand side.
        root_shift_weight: ``[B]`` float32, how far the root joint moves from its label towards the
            middle-finger MCP: 0.5 makes a palm of a labelled wrist, 0 keeps the label.
        margin: Side of the stored images in units of the crop that the network sees (1: equal).

    Example:
        >>> View.identity(2).packed.shape
        torch.Size([2, 5])
    """

    angle: Tensor
    scale: Tensor
    shift: Tensor
    flip: Tensor
    root_shift_weight: Tensor
    margin: float = 1.0

    @staticmethod
    def identity(n: int, device: torch.device | str = "cpu") -> View:
        """Return the view that changes nothing.

        Args:
            n: Batch size.
            device: Device of the tensors.

        Returns:
            ``n`` identity views, margin 1.

        Example:
            >>> View.identity(2).scale
            tensor([1., 1.])
        """
        zero, one = torch.zeros(n, device=device), torch.ones(n, device=device)
        return View(zero, one, zero.new_zeros(n, 2), torch.zeros(n, dtype=torch.bool, device=device), zero.clone())

    @property
    def packed(self) -> Tensor:
        """``[B, 5]`` float32 as the kernels read it: angle, scale, shift x, shift y, flip (0 or 1)."""
        return torch.cat(
            [self.angle[:, None], self.scale[:, None], self.shift, self.flip[:, None].to(self.angle.dtype)], 1
        )

    def __len__(self) -> int:
        return self.angle.shape[0]

    def map(self, change: Callable[[str, Tensor], Tensor]) -> View:
        """Apply ``change(name, tensor)`` to each tensor; ``margin`` stays."""
        angle, scale, shift, flip, weight = (
            change(name, getattr(self, name)) for name in ("angle", "scale", "shift", "flip", "root_shift_weight")
        )
        return View(angle, scale, shift, flip, weight, self.margin)

    def to(self, device: torch.device | str) -> View:
        """Move the tensors to a device."""
        return self.map(lambda _, tensor: tensor.to(device))

    def select(self, rows: Tensor) -> View:
        """Select samples of the batch by an index or a mask ``[B]``."""
        return self.map(lambda _, tensor: tensor[rows])


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """Sizes of a run that its modalities follow; the defaults are the paper's.

    Attributes:
        image_size: Side of the network's input images, pixels.
        joints: Number of joints of the run's layout.
        root: Index of the root joint.
        root_shift_joint: Index of the joint towards which ``View.root_shift_weight`` moves the root.
        hidden_dim: Units of a hidden layer of joint networks.
        num_hidden_layers: Hidden layers of joint networks.
        backbone: Image encoder: ``"resnet18"``, ``"resnet50"`` or ``"keypoints"``.
        joint_network: Joint network, ``"paper"`` or ``"lifter"``.
        joint_loss: Loss of 3D joints: ``"mse"``, squared error, or ``"l2"``, Euclidean distance.
    """

    image_size: int = 256
    joints: int = 21
    root: int = 0
    root_shift_joint: int = 9
    hidden_dim: int = 512
    num_hidden_layers: int = 5
    backbone: str = "resnet18"
    joint_network: str = "paper"
    joint_loss: str = "mse"


@dataclass(frozen=True, kw_only=True)
class Modality:
    """One input or output modality of the model. ``docs/contract.md`` describes every field in full.

    Attributes:
        name: lower_snake_case, unique among the installed plugins.
        shape: Shape of one network-ready sample, without the batch axis.
        units: Units of a network-ready sample, for people.
        encoder: ``latent_dim -> nn.Module``, called as ``module(x [B, *shape], side [B, 2]) -> Posterior``;
            ``side`` is the one-hot hand side (left, right), zeros where it is not known.
        decoder: ``latent_dim -> nn.Module``, called as ``module(z [B, D]) -> [B, *shape]``.
        loss: ``(pred, target) -> [B]``, least at the target.
        augment: ``(x, view) -> [B, *shape]``; ``x`` is a stored or a network-ready batch.
        fake: ``(n, generator) -> [n, *shape]``, network-ready samples for tests and benchmarks.
        geometry: How samples follow a view.
        reads: Stored fields the modality is made from; by default the one of its own name.
        derive: ``fields -> stored batch``; needed where ``reads`` names other fields than its own.
        configure: ``(modality, ModelShape) -> modality`` in other sizes.
        fused_loss: ``(pred, stored, view) -> [B]``, equal to ``loss(pred, augment(stored, view))``; used where
            the modality is only a target of a step.
        frame: ``"root"`` for a modality of cameras that look at the root joint. The 2D and 3D joints of all
            modalities of such a run are rectified (:mod:`cvhpe.data.packing.rectification`), which needs ``K``.
        refine: ``(joints [B, J, 3] mm, x [B, *shape]) -> joints``, adjusts predicted root-relative joints to the
            network-ready input ``x``; used in evaluation.
        draw: ``(axes, sample, **style) -> None``, plots a sample on matplotlib axes.
        metrics: name -> ``(pred, target) -> [B]``.
        api: Contract version that the plugin was written for (``cvhpe.plugin.registry.API_VERSION``).
    """

    name: str
    shape: tuple[int, ...]
    units: str
    encoder: Callable[[int], nn.Module]
    decoder: Callable[[int], nn.Module]
    loss: Callable[[Tensor, Tensor], Tensor]
    augment: Callable[[Tensor, View], Tensor]
    fake: Callable[[int, Generator], Tensor]
    geometry: Geometry = "none"
    reads: tuple[str, ...] = ()
    derive: Callable[[Mapping[str, Tensor]], Tensor] | None = None
    configure: Callable[[Modality, ModelShape], Modality] | None = None
    fused_loss: Callable[[Tensor, Tensor, View], Tensor] | None = None
    frame: CameraFrame = "camera"
    refine: Callable[[Tensor, Tensor], Tensor] | None = None
    draw: Callable[..., None] | None = None
    metrics: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = field(default_factory=dict)
    api: int = 1

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name):
            raise ValueError(f"modality name {self.name!r}: use lower_snake_case")
        if not self.reads:
            object.__setattr__(self, "reads", (self.name,))

    def stored(self, fields: Fields) -> Tensor:
        """Return the modality's stored batch, made from the fields of a packed data set."""
        return fields[self.reads[0]] if self.derive is None else self.derive(fields)

    def sized(self, shape: ModelShape) -> Modality:
        """Return this modality with the sizes of a run."""
        return self if self.configure is None else self.configure(self, shape)

    def __repr__(self) -> str:
        return f"Modality({self.name!r}, shape={self.shape}, units={self.units!r})"


def hand_side(side: Tensor, known: bool = True) -> Tensor:
    """One-hot encode the hand side.

    Args:
        side: ``[B]`` integers, 0 left, 1 right.
        known: Whether the network may know the side; otherwise the result is zero.

    Returns:
        ``[B, 2]`` float32 (left, right).

    Example:
        >>> hand_side(torch.tensor([0, 1]))
        tensor([[1., 0.],
                [0., 1.]])
    """
    one_hot = torch.nn.functional.one_hot(side.long(), 2).float()
    return one_hot if known else torch.zeros_like(one_hot)
