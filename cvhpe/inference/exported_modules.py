"""What an exported file computes: stored pixels or 2D joints in pixels -> encoders, fusion, decoder -> millimetres.

Its inputs and its output are :class:`Port` s; :mod:`cvhpe.inference.export` writes the file and checks it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cvhpe.errors import UserError
from cvhpe.evaluation.evaluate import palm_of
from cvhpe.geometry.skeleton import layout
from cvhpe.models.fusion import FusionParams, fuse
from cvhpe.plugin.contract import Modality, View
from cvhpe.runs.run_dir import Run
from cvhpe.uncertainty.fusion import calibration_of, fusion_params

_STORED = {"rgb": (torch.uint8, 3), "depth": (torch.uint16, 0), "mask": (torch.uint8, 0)}
"""Packed pictures: their type and channels, 0 for a picture without a channel axis."""


@dataclass(frozen=True)
class Port:
    """One input or output of an exported file: its name, type, axes (the first is the batch) and meaning."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    meaning: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values for the file's metadata."""
        dtype = str(self.dtype).removeprefix("torch.")
        return {"name": self.name, "dtype": dtype, "shape": ["batch", *self.shape], "meaning": self.meaning}


class Pixels(nn.Module):
    """Stored pixels, as a picture modality normalises them: a scale and an offset, or one value a code.

    The map is read off the modality's own ``augment``, so that whatever a plugin does to a pixel is done here.
    """

    table: Tensor | None

    def __init__(self, modality: Modality) -> None:
        super().__init__()
        self.dtype, self.channels = _STORED[modality.reads[0]]
        table = pixel_table(modality)
        self.offset = float(table[0])
        self.scale = float((table[-1] - table[0]) / (len(table) - 1))
        straight = self.offset + self.scale * torch.arange(len(table), dtype=torch.float64)
        affine = bool((table.double() - straight).abs().max() <= 1e-6 * (table.max() - table.min()))
        self.register_buffer("table", None if affine else table)

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 3, 1, 2) if self.channels else x[:, None]
        if self.table is None:
            return x.to(torch.float32) * self.scale + self.offset
        return self.table[x.to(torch.int64)]


def pixel_table(modality: Modality) -> Tensor:
    """What a picture modality makes of every code of its stored pixels: float32 ``[256]`` or ``[65536]``.

    UserError where a pixel of the network's picture is not made of the one stored pixel at its place.
    """
    dtype, channels = _STORED[modality.reads[0]]
    codes = torch.iinfo(dtype).max + 1
    size = modality.shape[-1]
    shape = (size, size, *([channels] if channels else []))
    pictures = -(-codes // int(np.prod(shape)))

    def seen(stored: Tensor) -> Tensor:
        out = modality.augment(modality.stored({modality.reads[0]: stored}), View.identity(len(stored))).float()
        return out.permute(0, 2, 3, 1).reshape(stored.shape) if out.numel() == stored.numel() else out

    filled = torch.arange(pictures * int(np.prod(shape))) % codes
    found = seen(filled.to(dtype).view(pictures, *shape))
    if found.numel() != filled.numel():
        raise _not_by_pixel(modality)
    table = torch.zeros(codes)
    table[filled] = found.flatten()
    mixed = torch.randint(codes, (2, *shape), generator=torch.Generator().manual_seed(0))
    if (seen(mixed.to(dtype)) - table[mixed]).abs().max() > 1e-4 * (table.max() - table.min()):
        raise _not_by_pixel(modality)
    return table


def _not_by_pixel(modality: Modality) -> UserError:
    return UserError(f"--from {modality.name}: its augment does not normalise pixel by pixel, so it cannot be exported")


class Points(nn.Module):
    """2D joints px ``[B, J, 2]`` -> fractions of the square crop about them, a wrist root moved to the palm."""

    def __init__(self, factor: float, root: int, root_shift_joint: int, weight: float) -> None:
        super().__init__()
        self.factor, self.root, self.root_shift_joint, self.weight = factor, root, root_shift_joint, weight

    def forward(self, px: Tensor) -> Tensor:
        low, high = px.amin(1, keepdim=True), px.amax(1, keepdim=True)
        side = ((high - low).amax(2, keepdim=True) * self.factor).clamp_min(8.0)
        at = (px - (low + high) / 2) / side
        root = at[:, self.root] + self.weight * (at[:, self.root_shift_joint] - at[:, self.root])
        return torch.cat([at[:, : self.root], root[:, None], at[:, self.root + 1 :]], 1)


class Exported(nn.Module):
    """The inputs in order, then ``hand`` where the run knows it -> the target."""

    scale: Tensor

    def __init__(self, run: Run, names: Sequence[str], target: str, root: str) -> None:
        super().__init__()
        self.names, self.target = tuple(names), target
        self.encoders = nn.ModuleList(run.model.encoders[name] for name in names)
        self.decoder = run.model.decoders[target]
        self.prepare = nn.ModuleList(preparation(run, name, root) for name in names)
        how = fusion_params(calibration_of(run.metadata.training), names)
        known = {name: torch.tensor(list(one)) for name, one in how["precisions"].items()}
        self.how = FusionParams(weights=how["weights"], precisions=known)
        self.knows_side = run.knows_side
        self.refines = refines(run, names, target)
        self.register_buffer("scale", scale_of(run) if target == "joints3d" else torch.ones(1))

    def forward(self, *inputs: Tensor) -> Tensor:
        if self.knows_side:
            side = (inputs[-1][:, None] == torch.arange(2)).float()
        else:
            side = torch.zeros(inputs[0].shape[0], 2)
        seen = {name: prepare(x) for name, prepare, x in zip(self.names, self.prepare, inputs, strict=False)}
        posteriors = {name: encoder(seen[name], side) for name, encoder in zip(self.names, self.encoders, strict=True)}
        out = self.decoder(fuse(posteriors, **self.how).mu) * self.scale
        for name, refine in self.refines.items():
            out = refine(out, seen[name])
        return out


def refines(run: Run, names: Sequence[str], target: str) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """What inputs say of 3D joints beside a posterior (``Modality.refine``)."""
    if target != "joints3d":
        return {}
    found = {name: run.model.modalities[name].refine for name in names}
    return {name: refine for name, refine in found.items() if refine is not None}


def scale_of(run: Run) -> Tensor:
    """What decoded 3D joints are multiplied by, ``[J, 1]``: mm of the unit, and 0 for the root, which is the origin."""
    scale = torch.full((len(layout(run.metadata.layout)), 1), run.metadata.mean_scale_mm)
    scale[layout(run.metadata.layout).root] = 0.0
    return scale


def preparation(run: Run, name: str, root: str) -> nn.Module:
    """What is done to an input before its encoder."""
    modality = run.model.modalities[name]
    if takes_pixels(modality):
        return Pixels(modality)
    if takes_points(modality):
        movable = layout(run.metadata.layout).palm is not None
        weight = 0.5 if root == "wrist" and run.metadata.root == "palm" and movable else 0.0
        return Points(run.config.crop_factor, *palm_of(run.metadata.layout)[:2], weight)
    return nn.Identity()


def takes_pixels(modality: Modality) -> bool:
    """Whether a modality is made of one packed picture."""
    return modality.geometry == "image" and len(modality.reads) == 1 and modality.reads[0] in _STORED


def takes_points(modality: Modality) -> bool:
    """Whether a modality is the packed 2D joints."""
    return modality.geometry == "points2d" and modality.reads == ("joints2d",)


def ports(run: Run, names: Sequence[str], target: str, root: str) -> tuple[list[Port], Port]:
    """The inputs and the output of an exported file."""
    found = []
    for name in names:
        modality = run.model.modalities[name]
        if takes_pixels(modality):
            dtype, channels = _STORED[modality.reads[0]]
            shape = (*modality.shape[-2:], *([channels] if channels else []))
            meaning = (
                f"stored {modality.reads[0]} of the hand's square crop, {run.config.crop_factor} times its joints' box"
            )
            found.append(Port(name, dtype, shape, meaning))
        elif takes_points(modality):
            meaning = f"px of any frame, x right, y down; layout {run.metadata.layout}, root {root}; all joints known"
            found.append(Port(f"{name}_px", torch.float32, modality.shape, meaning))
        else:
            unit = run.model.unit_mm if "joints3d" in modality.reads else 0.0
            here = f"; a bone is {unit:.6g} mm, the training hands' mean" if unit else ""
            found.append(Port(name, torch.float32, modality.shape, modality.units + here))
    if run.knows_side:
        found.append(Port("hand", torch.int64, (), "0 left, 1 right"))
    made = run.model.modalities[target]
    if target != "joints3d":
        return found, Port(target, torch.float32, made.shape, made.units)
    meaning = "mm relative to the root joint; camera frame, x right, y down, z forward"
    if run.has_scale:
        meaning += "; multiply by (own bone length / scale_mm) where the middle PIP-MCP bone is known"
    return found, Port("joints3d_mm", torch.float32, made.shape, meaning)
