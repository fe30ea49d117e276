"""Modules of an exported file: from stored pixels or 2D joints through encoders, fusion and decoder to mm.

Inputs and output are described by :class:`Port`; :mod:`cvhpe.inference.export` writes and checks the file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cvhpe.errors import UserError
from cvhpe.geometry.skeleton import layout
from cvhpe.models.fusion import FusionParams, fuse
from cvhpe.plugin.contract import Modality, View
from cvhpe.runs.run_dir import Run
from cvhpe.uncertainty.fusion import calibration_of, fusion_params

_STORED = {"rgb": (torch.uint8, 3), "depth": (torch.uint16, 0), "mask": (torch.uint8, 0)}
"""Stored image -> dtype and channels; 0: no channel axis."""


@dataclass(frozen=True)
class Port:
    """One input or output of an exported file.

    Attributes:
        name: Its name.
        dtype: Its type.
        shape: Without the batch axis.
        meaning: Units and conventions, for people.
    """

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    meaning: str

    def as_dict(self) -> dict[str, Any]:
        """Convert to plain values for the metadata of the file."""
        dtype = str(self.dtype).removeprefix("torch.")
        return {"name": self.name, "dtype": dtype, "shape": ["batch", *self.shape], "meaning": self.meaning}


class Pixels(nn.Module):
    """Normalise stored pixels as an image modality does, by a scale and an offset or by a lookup table.

    The map is sampled from the modality's ``augment``, so that it holds for any plugin.

    Args:
        modality: An image modality.
    """

    table: Tensor | None

    def __init__(self, modality: Modality) -> None:
        super().__init__()
        self.dtype, self.channels = _STORED[modality.reads[0]]
        table = pixel_table(modality)
        self.offset = float(table[0])
        self.scale = float((table[-1] - table[0]) / (len(table) - 1))
        line = self.offset + self.scale * torch.arange(len(table), dtype=torch.float64)
        affine = bool((table.double() - line).abs().max() <= 1e-6 * (table.max() - table.min()))
        self.register_buffer("table", None if affine else table)

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 3, 1, 2) if self.channels else x[:, None]
        if self.table is None:
            return x.to(torch.float32) * self.scale + self.offset
        return self.table[x.to(torch.int64)]


def pixel_table(modality: Modality) -> Tensor:
    """Tabulate the normalised value of every stored pixel value.

    Args:
        modality: An image modality.

    Returns:
        float32 ``[256]`` or ``[65536]``.

    Raises:
        UserError: If an output pixel depends on more than the stored pixel at its place.
    """
    dtype, channels = _STORED[modality.reads[0]]
    codes = torch.iinfo(dtype).max + 1
    size = modality.shape[-1]
    shape = (size, size, *([channels] if channels else []))
    num_images = -(-codes // int(np.prod(shape)))

    def normalised(stored: Tensor) -> Tensor:
        out = modality.augment(modality.stored({modality.reads[0]: stored}), View.identity(len(stored))).float()
        return out.permute(0, 2, 3, 1).reshape(stored.shape) if out.numel() == stored.numel() else out

    filled = torch.arange(num_images * int(np.prod(shape))) % codes
    values = normalised(filled.to(dtype).view(num_images, *shape))
    if values.numel() != filled.numel():
        raise _not_pixelwise(modality)
    table = torch.zeros(codes)
    table[filled] = values.flatten()
    shuffled = torch.randint(codes, (2, *shape), generator=torch.Generator().manual_seed(0))
    if (normalised(shuffled.to(dtype)) - table[shuffled]).abs().max() > 1e-4 * (table.max() - table.min()):
        raise _not_pixelwise(modality)
    return table


def _not_pixelwise(modality: Modality) -> UserError:
    return UserError(f"--from {modality.name}: its augment does not normalise pixel by pixel, so it cannot be exported")


class Points(nn.Module):
    """2D joints ``[B, J, 2]``, pixels -> fractions of their square crop, with the root shifted to the palm."""

    def __init__(self, factor: float, root: int, root_shift_joint: int, weight: float) -> None:
        super().__init__()
        self.factor, self.root, self.root_shift_joint, self.weight = factor, root, root_shift_joint, weight

    def forward(self, px: Tensor) -> Tensor:
        low, high = px.amin(1, keepdim=True), px.amax(1, keepdim=True)
        side = ((high - low).amax(2, keepdim=True) * self.factor).clamp_min(8.0)
        x = (px - (low + high) / 2) / side
        root = x[:, self.root] + self.weight * (x[:, self.root_shift_joint] - x[:, self.root])
        return torch.cat([x[:, : self.root], root[:, None], x[:, self.root + 1 :]], 1)


class Exported(nn.Module):
    """Inputs in order, then ``hand`` for a run of protocol H -> target."""

    scale: Tensor

    def __init__(self, run: Run, names: Sequence[str], target: str, root: str) -> None:
        super().__init__()
        self.names, self.target = tuple(names), target
        self.encoders = nn.ModuleList(run.model.encoders[name] for name in names)
        self.decoder = run.model.decoders[target]
        self.prepare = nn.ModuleList(_preparation(run, name, root) for name in names)
        fusion = fusion_params(calibration_of(run.metadata.training), names)
        precisions = {name: torch.tensor(list(values)) for name, values in fusion["precisions"].items()}
        self.fusion = FusionParams(weights=fusion["weights"], precisions=precisions)
        self.knows_side = run.knows_side
        self.refines = refine_functions(run, names, target)
        self.register_buffer("scale", scale_of(run) if target == "joints3d" else torch.ones(1))

    def forward(self, *inputs: Tensor) -> Tensor:
        if self.knows_side:
            side = (inputs[-1][:, None] == torch.arange(2)).float()
        else:
            side = torch.zeros(inputs[0].shape[0], 2)
        ready = {name: prepare(x) for name, prepare, x in zip(self.names, self.prepare, inputs, strict=False)}
        posteriors = {name: encoder(ready[name], side) for name, encoder in zip(self.names, self.encoders, strict=True)}
        out = self.decoder(fuse(posteriors, **self.fusion).mu) * self.scale
        for name, refine in self.refines.items():
            out = refine(out, ready[name])
        return out


def refine_functions(run: Run, names: Sequence[str], target: str) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """Collect the ``Modality.refine`` functions of the inputs.

    Args:
        run: The run.
        names: Inputs.
        target: Decoded modality; functions apply to ``joints3d`` only.

    Returns:
        Input -> function, for inputs that have one.
    """
    if target != "joints3d":
        return {}
    functions = {name: run.model.modalities[name].refine for name in names}
    return {name: refine for name, refine in functions.items() if refine is not None}


def scale_of(run: Run) -> Tensor:
    """Return the factor of decoded 3D joints, ``[J, 1]`` mm; 0 for the root, which is the origin."""
    scale = torch.full((len(layout(run.metadata.layout)), 1), run.metadata.mean_scale_mm)
    scale[layout(run.metadata.layout).root] = 0.0
    return scale


def _preparation(run: Run, name: str, root: str) -> nn.Module:
    """The module before an encoder."""
    modality = run.model.modalities[name]
    if takes_pixels(modality):
        return Pixels(modality)
    if takes_points(modality):
        skeleton = layout(run.metadata.layout)
        weight = skeleton.root_shift_weight(root, run.metadata.root)
        return Points(run.config.crop_factor, *skeleton.root_shift, weight)
    return nn.Identity()


def takes_pixels(modality: Modality) -> bool:
    """Whether a modality is made from one stored image."""
    return modality.geometry == "image" and len(modality.reads) == 1 and modality.reads[0] in _STORED


def takes_points(modality: Modality) -> bool:
    """Whether a modality is the stored 2D joints."""
    return modality.geometry == "points2d" and modality.reads == ("joints2d",)


def ports(run: Run, names: Sequence[str], target: str, root: str) -> tuple[list[Port], Port]:
    """Describe the inputs and the output of an exported file.

    Args:
        run: The run.
        names: Inputs.
        target: Decoded modality.
        root: Position of the root joint of 2D joints.

    Returns:
        The inputs, and the output.
    """
    inputs = []
    for name in names:
        modality = run.model.modalities[name]
        if takes_pixels(modality):
            dtype, channels = _STORED[modality.reads[0]]
            shape = (*modality.shape[-2:], *([channels] if channels else []))
            factor = run.config.crop_factor
            meaning = f"stored {modality.reads[0]} of the square crop, {factor} times the bounding box of the joints"
            inputs.append(Port(name, dtype, shape, meaning))
        elif takes_points(modality):
            meaning = f"px of any frame, x right, y down; layout {run.metadata.layout}, root {root}; all joints known"
            inputs.append(Port(f"{name}_px", torch.float32, modality.shape, meaning))
        else:
            unit = run.model.unit_mm if "joints3d" in modality.reads else 0.0
            unit_note = f"; the scale bone is {unit:.6g} mm, the mean of the training set" if unit else ""
            inputs.append(Port(name, torch.float32, modality.shape, modality.units + unit_note))
    if run.knows_side:
        inputs.append(Port("hand", torch.int64, (), "0 left, 1 right"))
    decoded = run.model.modalities[target]
    if target != "joints3d":
        return inputs, Port(target, torch.float32, decoded.shape, decoded.units)
    meaning = "mm relative to the root joint; camera frame, x right, y down, z forward"
    if run.has_scale:
        meaning += "; multiply by (own bone length / scale_mm) where the middle PIP-MCP bone is known"
    return inputs, Port("joints3d_mm", torch.float32, decoded.shape, meaning)
