"""Made-up views and stored batches, in the shapes and dtypes that a packed data set gives."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Generator, Tensor

from cvhpe.plugin.contract import View


def generator(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


def random_view(n: int, generator: Generator, *, margin: float = 1.0) -> View:
    """``n`` different views that keep the middle of the picture in sight; every other one is a flip."""
    u = torch.rand(n, 4, generator=generator)
    return View(
        angle=(2 * u[:, 0] - 1) * (0.8 * math.pi),
        scale=0.85 + 0.3 * u[:, 1],
        shift=(u[:, 2:] - 0.5) * 0.1,
        flip=torch.arange(n) % 2 == 1,
        root_shift_weight=torch.zeros(n),
        margin=margin,
    )


def flip_view(n: int) -> View:
    """The view that mirrors and does nothing else."""
    return replace(View.identity(n), flip=torch.ones(n, dtype=torch.bool))


def mapped(view: View, change: Callable[[str, Tensor], Tensor]) -> View:
    """The view with ``change(name, tensor)`` in place of each of its tensors."""
    angle, scale, shift, flip, palm = (
        change(k, getattr(view, k)) for k in ("angle", "scale", "shift", "flip", "root_shift_weight")
    )
    return View(angle, scale, shift, flip, palm, view.margin)


def fake_fields(n: int, generator: Generator, *, size: int = 96, joints: int = 21) -> dict[str, Tensor]:
    """A stored batch of every field that a packed data set can bring, pictures of ``size`` pixels.

    >>> fake_fields(2, torch.Generator().manual_seed(0))["rgb"].shape
    torch.Size([2, 96, 96, 3])
    """

    def numbers(*shape: int) -> Tensor:
        return torch.rand(n, *shape, generator=generator)

    def smooth(*shape: int) -> Tensor:
        coarse = numbers(*shape, 8, 8)
        return torch.nn.functional.interpolate(coarse, size=(size, size), mode="bicubic").clamp(0, 1)

    joints3d = torch.randn(n, joints, 3, generator=generator)
    centre = torch.tensor([160.0, 120.0, 100.0])
    return {
        "rgb": (255 * smooth(3)).to(torch.uint8).permute(0, 2, 3, 1).contiguous(),
        "depth": (60000 * smooth(1)[:, 0]).to(torch.int32).to(torch.uint16),
        "mask": (smooth(1)[:, 0] > 0.5).to(torch.uint8),
        "joints3d": joints3d - joints3d[:, :1],
        "joints2d": 0.8 * numbers(joints, 2) - 0.4,
        "visible": numbers(joints) > 0.2,
        "side": torch.randint(0, 2, (n,), generator=generator),
        "root_shift_weight": torch.zeros(n),
        "scale_mm": 30 + 10 * numbers(),
        "K": torch.tensor([[300.0, 0, 160], [0, 300, 120], [0, 0, 1]]).expand(n, 3, 3).clone(),
        "crop": centre.expand(n, 3).clone(),
        "group": torch.arange(n),
    }


def disc(batch: int, size: tuple[int, int], at: Tensor, radius: float) -> Tensor:
    """A filled disc at crop fractions ``at`` ``[B, 2]``: bool ``[B, H, W]``."""
    h, w = size
    y = ((torch.arange(h) - (h - 1) / 2) / h)[None, :, None]
    x = ((torch.arange(w) - (w - 1) / 2) / w)[None, None, :]
    return (x - at[:, 0, None, None]).square() + (y - at[:, 1, None, None]).square() <= radius**2


def centroid(weight: Tensor) -> Tensor:
    """Centre of mass of pictures ``[B, H, W]``, as crop fractions ``[B, 2]``."""
    h, w = weight.shape[1:]
    total = weight.sum((1, 2)).clamp_min(1e-12)
    x = (weight.sum(1) * ((torch.arange(w) - (w - 1) / 2) / w)).sum(1) / total
    y = (weight.sum(2) * ((torch.arange(h) - (h - 1) / 2) / h)).sum(1) / total
    return torch.stack([x, y], 1)


def seen_points(points: Tensor, view: View) -> Tensor:
    """Where 2D points ``[B, J, 2]`` are seen: ``scale * R(angle) @ F @ p + shift``, as the View says."""
    return view.scale[:, None, None] * turned(points, view) + view.shift[:, None]


def turned(points: Tensor, view: View) -> Tensor:
    """``R(angle) @ F @ p`` on x and y of ``[B, J, 2 or 3]``; z stays."""
    x = torch.where(view.flip[:, None], -points[..., 0], points[..., 0])
    y = points[..., 1]
    c, s = torch.cos(view.angle)[:, None], torch.sin(view.angle)[:, None]
    return torch.cat([torch.stack([c * x - s * y, s * x + c * y], -1), points[..., 2:]], -1)
