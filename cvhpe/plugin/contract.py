"""The contract a modality plugin meets: :class:`Modality`, :class:`Posterior`, :class:`View`.

The core knows no modality. It encodes, samples, decodes and compares through the callables of a
:class:`Modality`, and hands every modality of a batch the same :class:`View`, so that an image and
its joints always turn together.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import torch
from torch import Generator, Tensor, nn

Geometry = Literal["image", "points2d", "points3d", "none"]
Frame = Literal["camera", "root"]
Fields = Mapping[str, Tensor]
"""Samples of a packed data set: field -> ``[B, ...]``, as :class:`cvhpe.data.loader.Batches` gives them."""


class Posterior(NamedTuple):
    """q(z|x) = N(mu, diag exp(logvar)), both ``[B, D]`` (paper section 3)."""

    mu: Tensor
    logvar: Tensor


@dataclass(frozen=True)
class View:
    """FusionParams each stored sample of a batch is looked at: one geometric draw, shared by every modality.

    A point at crop fraction ``p`` (centre of the crop (0, 0), its edges at +-0.5, x right, y down)
    is seen at ``scale * R(angle) @ F @ p + shift``, where ``F`` mirrors x where ``flip`` is set and
    ``R`` turns x towards y. Root-relative 3D joints follow with ``R(angle) @ F`` about the optical
    axis; scale and shift change the picture of a hand, not the hand.

    angle: ``[B]`` float32, radians.
    scale: ``[B]`` float32, above 1 enlarges.
    shift: ``[B, 2]`` float32, fraction of the crop's side.
    flip: ``[B]`` bool; a flip also swaps the hand side.
    root_shift_weight: ``[B]`` float32, how far the root joint moves from where it is labelled towards the
        middle-finger MCP: 0.5 turns a labelled wrist into a palm, 0 leaves it.
    margin: how much wider the stored images are than the crop that the network sees (1 = equal).

    >>> v = View.identity(2)
    >>> v.packed.shape
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
        """The view that changes nothing, for ``n`` samples."""
        zero, one = torch.zeros(n, device=device), torch.ones(n, device=device)
        return View(zero, one, zero.new_zeros(n, 2), torch.zeros(n, dtype=torch.bool, device=device), zero)

    @property
    def packed(self) -> Tensor:
        """``[B, 5]`` float32: angle, scale, shift x, shift y, flip (0 or 1), as the kernels read it."""
        return torch.cat(
            [self.angle[:, None], self.scale[:, None], self.shift, self.flip[:, None].to(self.angle.dtype)], 1
        )

    def __len__(self) -> int:
        return self.angle.shape[0]

    def to(self, device: torch.device | str) -> View:
        """The same views on a device."""
        return replace(
            self, **{k: getattr(self, k).to(device) for k in ("angle", "scale", "shift", "flip", "root_shift_weight")}
        )

    def select(self, rows: Tensor) -> View:
        """The views of some samples of the batch; ``rows`` is an index or a mask ``[B]``."""
        return replace(
            self, **{k: getattr(self, k)[rows] for k in ("angle", "scale", "shift", "flip", "root_shift_weight")}
        )


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """The sizes that a run asks of its modalities; paper's values are the defaults."""

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
    """One thing a hand can be seen as. ``docs/contract.md`` says more of every field.

    name: lower_snake_case, unique among the installed plugins.
    shape: one network-ready sample, without the batch axis.
    units: of a network-ready sample, for people.
    geometry: how the modality turns with a view, so that the test kit can check it.
    encoder: ``latent_dim -> nn.Module`` called as ``module(x [B, *shape], side [B, 2]) -> Posterior``;
        ``side`` is the one-hot hand side (left, right), all zero where it is not known.
    decoder: ``latent_dim -> nn.Module`` called as ``module(z [B, D]) -> [B, *shape]``.
    loss: ``(pred, target) -> [B]``, least at the target.
    augment: ``(x, view) -> [B, *shape]``: a stored batch, or a network-ready one, seen under the view.
    fake: ``(n, generator) -> [n, *shape]`` network-ready samples for tests and benchmarks.
    reads: the fields of a packed data set it is made from; by default the one of its own name.
    derive: makes the stored batch from the fields in ``reads``; needed where ``reads`` names others.
    configure: ``(modality, ModelShape) -> modality`` with other sizes.
    fused_loss: ``(pred, raw_target, view) -> [B]``: augment and loss in one kernel; used where the
        modality is only a target in a step.
    frame: ``"root"`` where it is made for cameras that look at the palm: the 2D and 3D joints of all modalities of
        a run with it are turned so first (:mod:`cvhpe.data.packing.rectification`), which needs known cameras.
    refine: ``(joints mm [B, J, 3], x [B, *shape]) -> joints mm``: 3D joints that were predicted from it, made to
        agree with what else it says of them; used in evaluation.
    draw: ``(axes, sample, **style) -> None`` on matplotlib axes.
    metrics: name -> ``(pred, target) -> [B]``.
    api: the version of this contract the plugin was written for (``cvhpe.plugin.registry.API_VERSION``); a plugin that
        does not say was written for the first.
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
    frame: Frame = "camera"
    refine: Callable[[Tensor, Tensor], Tensor] | None = None
    draw: Callable[..., None] | None = None
    metrics: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = field(default_factory=dict)
    api: int = 1

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name):
            raise ValueError(f"modality name {self.name!r}: use lower_snake_case")
        if not self.reads:
            object.__setattr__(self, "reads", (self.name,))

    def stored(self, fields: Mapping[str, Tensor]) -> Tensor:
        """The modality's stored batch, out of the fields a packed data set gives."""
        return fields[self.reads[0]] if self.derive is None else self.derive(fields)

    def sized(self, shape: ModelShape) -> Modality:
        """This modality with the sizes of a run."""
        return self if self.configure is None else self.configure(self, shape)

    def __repr__(self) -> str:
        return f"Modality({self.name!r}, shape={self.shape}, units={self.units!r})"


def hand_side(side: Tensor, known: bool = True) -> Tensor:
    """One-hot hand side ``[B, 2]`` (left, right) of integer sides ``[B]``; zeros where not ``known``.

    >>> hand_side(torch.tensor([0, 1]))
    tensor([[1., 0.],
            [0., 1.]])
    """
    one_hot = torch.nn.functional.one_hot(side.long(), 2).float()
    return one_hot if known else torch.zeros_like(one_hot)
