"""Drawing the view of every sample of a batch: the paper's augmentation (supplementary, 1.1)."""

from __future__ import annotations

import math

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Generator, Tensor

from cvhpe.modality import View


class Augmentation(BaseModel):
    """How far a view may stray: the paper's rotation, shift and flip; scale is off as in the paper."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rotation_deg: float = Field(45.0, ge=0, le=180, description="turn, uniform in [-this, this] degrees")
    shift: float = Field(0.05, ge=0, le=0.5, description="move, uniform in [-this, this] of the crop's side")
    scale: float = Field(0.0, ge=0, le=0.5, description="enlarge, log-uniform in [1 / (1 + this), 1 + this]")
    flip: float = Field(0.5, ge=0, le=1, description="chance of a mirror image, which swaps the hand side")
    swap: float = Field(0.0, ge=0, le=1, description="chance to be seen as another hand is; for runs of joints alone")
    noise_px: float = Field(0.0, ge=0, description="largest pixel noise on 2D joints, for half of the samples")


def draw_views(palm: Tensor, augmentation: Augmentation, generator: Generator, margin: float = 1.0) -> View:
    """One view for each of ``palm``'s samples ``[B]``, on the CPU, out of ``generator`` alone."""
    n = palm.shape[0]
    u = torch.rand(n, 5, generator=generator)
    sym = 2 * u - 1
    return View(
        angle=sym[:, 0] * math.radians(augmentation.rotation_deg),
        scale=torch.exp(sym[:, 1] * math.log1p(augmentation.scale)),
        shift=sym[:, 2:4] * augmentation.shift,
        flip=u[:, 4] < augmentation.flip,
        palm=palm.float(),
        margin=margin,
    )


def blur(joints2d: Tensor, crop: Tensor, noise_px: float, generator: Generator, n: int, first: int = 0) -> Tensor:
    """2D joints ``[m, J, 2]`` (crop fractions) with Gaussian noise, as a detector's would have.

    Half of the samples stay clean, the others get a standard deviation uniform in [0, ``noise_px``] pixels of their
    frame; ``crop`` ``[m, 3]`` says how many pixels a fraction is. They are the samples ``first`` to ``first + m`` of
    a batch of ``n``, for all of which is drawn.
    """
    sigma = (2 * torch.rand(n, generator=generator) - 1).clamp_min(0) * noise_px
    noise = torch.randn(n, *joints2d.shape[1:], generator=generator) * sigma[:, None, None]
    return joints2d + noise[first : first + len(joints2d)] / crop[:, None, 2:]
