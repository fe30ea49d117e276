"""Two small valid modalities, one of points and one of images, in plain torch."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cvhpe import Modality, ModelShape, Posterior, View

DOTS = (5, 2)


# --- a valid point modality -------------------------------------------------------------------------


class DotsEncoder(nn.Module):
    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(10, 32), nn.ReLU())
        self.mu = nn.Linear(34, latent_dim)
        self.logvar = nn.Linear(34, latent_dim)

    def forward(self, x: Tensor, side: Tensor) -> Posterior:
        h = torch.cat([self.body(x), side], 1)
        return Posterior(self.mu(h), self.logvar(h))


def dots_decoder(latent_dim: int) -> nn.Module:
    return nn.Sequential(nn.Linear(latent_dim, 32), nn.ReLU(), nn.Linear(32, 10), nn.Unflatten(1, DOTS))


def dots_loss(pred: Tensor, target: Tensor) -> Tensor:
    known = target.isfinite().all(-1, keepdim=True)
    return ((pred.float() - target.masked_fill(~known, 0)) * known).square().flatten(1).mean(1)


def dots_augment(x: Tensor, view: View, *, sign: float = 1.0, grow: float = 1.0, flip: bool = True) -> Tensor:
    c, s = torch.cos(view.angle), sign * torch.sin(view.angle)
    f = torch.where(view.flip & flip, -1.0, 1.0)
    rotation = torch.stack([torch.stack([f * c, -s], -1), torch.stack([f * s, c], -1)], -2)
    return view.scale[:, None, None] ** grow * (x @ rotation.mT) + view.shift[:, None]


def dots_fake(n: int, generator: torch.Generator) -> Tensor:
    return torch.rand(n, *DOTS, generator=generator) - 0.5


def dots_derive(fields: dict[str, Tensor]) -> Tensor:
    return fields["joints2d"][:, :5]


def dots_metric(pred: Tensor, target: Tensor) -> Tensor:
    return (pred - target).norm(dim=-1).amax(1)


def dots_fused(pred: Tensor, stored: Tensor, view: View) -> Tensor:
    return dots_loss(pred, dots_augment(stored, view))


def dots_draw(axes, sample, **style) -> None:
    axes.scatter(sample[:, 0], sample[:, 1], **style)


VALID_DOTS = Modality(
    name="dots",
    shape=DOTS,
    units="fraction of the crop",
    geometry="points2d",
    encoder=DotsEncoder,
    decoder=dots_decoder,
    loss=dots_loss,
    augment=dots_augment,
    fake=dots_fake,
    reads=("joints2d",),
    derive=dots_derive,
    fused_loss=dots_fused,
    draw=dots_draw,
    metrics={"worst": dots_metric},
    api=1,
)


# --- a valid image modality -------------------------------------------------------------------------


class GreyEncoder(nn.Module):
    def __init__(self, latent_dim: int, *, size: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 4, 4), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
        self.heads = nn.Linear(4 * (size // 4) ** 2 + 2, 2 * latent_dim)

    def forward(self, x: Tensor, side: Tensor) -> Posterior:
        return Posterior(*self.heads(torch.cat([self.body(x), side], 1)).chunk(2, 1))


def grey_decoder(latent_dim: int, *, size: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(latent_dim, (size // 4) ** 2),
        nn.Unflatten(1, (1, size // 4, size // 4)),
        nn.ConvTranspose2d(1, 1, 4, 4),
    )


def grey_loss(pred: Tensor, target: Tensor) -> Tensor:
    return (pred.float() - target.float()).square().flatten(1).mean(1)


def grey_augment(x: Tensor, view: View, *, size: int, margin: bool = True, corner: bool = False) -> Tensor:
    """The pixel formula of View with ``grid_sample``: grid coordinates are 2 * fraction."""
    x = x[:, None].float() / 255 - 0.5 if x.dtype == torch.uint8 else x
    zoom = view.scale * (view.margin if margin else 1.0)
    c, s = torch.cos(view.angle) / zoom, torch.sin(view.angle) / zoom
    f = torch.where(view.flip, -1.0, 1.0)
    centred = (torch.arange(size, device=x.device) - (size - 1) / 2) / size + (1.5 / size if corner else 0.0)
    qx = centred[None, None, :] - view.shift[:, 0, None, None]
    qy = centred[None, :, None] - view.shift[:, 1, None, None]
    px = f[:, None, None] * (c[:, None, None] * qx + s[:, None, None] * qy)
    py = -s[:, None, None] * qx + c[:, None, None] * qy
    return F.grid_sample(x, 2 * torch.stack([px, py], -1), align_corners=False)


def grey_fake(n: int, generator: torch.Generator, *, size: int) -> Tensor:
    return F.interpolate(torch.rand(n, 1, 6, 6, generator=generator), (size, size), mode="bilinear") - 0.5


def grey_derive(fields: dict[str, Tensor]) -> Tensor:
    return fields["rgb"].float().mean(-1).to(torch.uint8)


def build_grey(modality: Modality | None, shape: ModelShape) -> Modality:
    size = shape.image_size
    return Modality(
        name="grey",
        shape=(1, size, size),
        units="[-0.5, 0.5]",
        geometry="image",
        encoder=partial(GreyEncoder, size=size),
        decoder=partial(grey_decoder, size=size),
        loss=grey_loss,
        augment=partial(grey_augment, size=size),
        fake=partial(grey_fake, size=size),
        reads=("rgb",),
        derive=grey_derive,
        configure=build_grey,
        api=1,
    )


VALID_GREY = build_grey(None, ModelShape(image_size=64))
