"""The RGB modality: a colour image of the hand in [-0.5, 0.5], 256x256 in the paper (supplementary, 1.1)."""

from __future__ import annotations

from functools import partial

import torch
from torch import Generator, Tensor
from torch.nn.functional import interpolate

from cvhpe import Modality, ModelShape, View, hookimpl
from cvhpe.models.backbones import ImageDecoder
from cvhpe.models.keypoint_encoder import image_encoder
from cvhpe.models.losses import image_loss
from cvhpe.ops import warp_image


def augment(x: Tensor, view: View, *, size: int) -> Tensor:
    """Stored uint8 ``[B, H, W, 3]`` or network-ready float ``[B, 3, H, W]`` -> float ``[B, 3, size, size]``."""
    if x.dtype == torch.uint8:
        return warp_image(x, view, size, layout="NHWC", mean=127.5, scale=1 / 255)
    return warp_image(x, view, size, layout="NCHW", fill=-0.5)


def fake(n: int, generator: Generator, *, size: int) -> Tensor:
    """Smooth random images, which resampling changes little, as real ones."""
    grid = torch.rand(n, 3, 8, 8, generator=generator)
    return interpolate(grid, size=(size, size), mode="bicubic").clamp(0, 1) - 0.5


def draw(axes, sample, **style) -> None:
    axes.imshow(((sample + 0.5).clip(0, 1)).transpose(1, 2, 0), **style)
    axes.set_axis_off()


def build(modality: Modality | None, shape: ModelShape) -> Modality:
    size = shape.image_size
    return Modality(
        name="rgb",
        shape=(3, size, size),
        units="colour, [-0.5, 0.5]",
        geometry="image",
        encoder=partial(image_encoder, 3, shape=shape),
        decoder=partial(ImageDecoder, 3, size),
        loss=image_loss,
        augment=partial(augment, size=size),
        fake=partial(fake, size=size),
        configure=build,
        draw=draw,
    )


@hookimpl
def cvhpe_modalities() -> list[Modality]:
    return [build(None, ModelShape())]
