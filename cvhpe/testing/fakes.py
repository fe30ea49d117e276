"""Random views and stored batches, in the shapes and dtypes of a packed data set."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Generator, Tensor

from cvhpe.plugin.contract import View


def generator(seed: int = 0) -> Generator:
    """Make a seeded generator on the CPU."""
    return torch.Generator().manual_seed(seed)


def random_view(n: int, generator: Generator, *, margin: float = 1.0) -> View:
    """Sample views that keep the centre of the image visible; every other one is a flip.

    Args:
        n: Batch size.
        generator: Source of the random numbers.
        margin: Margin of the views.

    Returns:
        ``n`` different views.

    Example:
        >>> random_view(2, torch.Generator().manual_seed(0)).flip
        tensor([False,  True])
    """
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
    """Return ``n`` views that flip and change nothing else."""
    return replace(View.identity(n), flip=torch.ones(n, dtype=torch.bool))


def fake_fields(n: int, generator: Generator, *, size: int = 96, joints: int = 21) -> dict[str, Tensor]:
    """Make a stored batch of every field that a packed data set can have.

    Args:
        n: Batch size.
        generator: Source of the random numbers.
        size: Side of the images, pixels.
        joints: Number of joints.

    Returns:
        Field -> ``[n, ...]``, with the shapes, dtypes and units of ``docs/contract.md``.

    Example:
        >>> fake_fields(2, torch.Generator().manual_seed(0))["rgb"].shape
        torch.Size([2, 96, 96, 3])
    """

    def uniform(*shape: int) -> Tensor:
        return torch.rand(n, *shape, generator=generator)

    def smooth_images(*shape: int) -> Tensor:
        low_res = uniform(*shape, 8, 8)
        return torch.nn.functional.interpolate(low_res, size=(size, size), mode="bicubic").clamp(0, 1)

    joints3d = torch.randn(n, joints, 3, generator=generator)
    centre = torch.tensor([160.0, 120.0, 100.0])
    return {
        "rgb": (255 * smooth_images(3)).to(torch.uint8).permute(0, 2, 3, 1).contiguous(),
        "depth": (60000 * smooth_images(1)[:, 0]).to(torch.int32).to(torch.uint16),
        "mask": (smooth_images(1)[:, 0] > 0.5).to(torch.uint8),
        "joints3d": joints3d - joints3d[:, :1],
        "joints2d": 0.8 * uniform(joints, 2) - 0.4,
        "visible": uniform(joints) > 0.2,
        "side": torch.randint(0, 2, (n,), generator=generator),
        "root_shift_weight": torch.zeros(n),
        "scale_mm": 30 + 10 * uniform(),
        "K": torch.tensor([[300.0, 0, 160], [0, 300, 120], [0, 0, 1]]).expand(n, 3, 3).clone(),
        "crop": centre.expand(n, 3).clone(),
        "group": torch.arange(n),
    }


def disc(batch: int, size: tuple[int, int], centre: Tensor, radius: float) -> Tensor:
    """Draw a filled disc into each image of a batch.

    Args:
        batch: Batch size.
        size: Height and width, pixels.
        centre: ``[B, 2]``, crop fractions.
        radius: Crop fraction.

    Returns:
        ``[B, H, W]`` bool, True inside the disc.
    """
    h, w = size
    y = ((torch.arange(h) - (h - 1) / 2) / h)[None, :, None]
    x = ((torch.arange(w) - (w - 1) / 2) / w)[None, None, :]
    return (x - centre[:, 0, None, None]).square() + (y - centre[:, 1, None, None]).square() <= radius**2


def centroid(weight: Tensor) -> Tensor:
    """Return the centres of mass ``[B, 2]``, crop fractions, of images ``[B, H, W]``."""
    h, w = weight.shape[1:]
    total = weight.sum((1, 2)).clamp_min(1e-12)
    x = (weight.sum(1) * ((torch.arange(w) - (w - 1) / 2) / w)).sum(1) / total
    y = (weight.sum(2) * ((torch.arange(h) - (h - 1) / 2) / h)).sum(1) / total
    return torch.stack([x, y], 1)


def transform_points(points: Tensor, view: View) -> Tensor:
    """Apply a view to 2D points: ``scale * R(angle) @ F @ p + shift``.

    Args:
        points: ``[B, J, 2]``, crop fractions.
        view: The view.

    Returns:
        ``[B, J, 2]``.
    """
    return view.scale[:, None, None] * rotate_flip(points, view) + view.shift[:, None]


def rotate_flip(points: Tensor, view: View) -> Tensor:
    """Apply the rotation and flip of a view to x and y: ``R(angle) @ F @ p``.

    Args:
        points: ``[B, J, 2]`` or ``[B, J, 3]``.
        view: The view.

    Returns:
        Points of the same shape; z is unchanged.
    """
    x = torch.where(view.flip[:, None], -points[..., 0], points[..., 0])
    y = points[..., 1]
    c, s = torch.cos(view.angle)[:, None], torch.sin(view.angle)[:, None]
    return torch.cat([torch.stack([c * x - s * y, s * x + c * y], -1), points[..., 2:]], -1)
