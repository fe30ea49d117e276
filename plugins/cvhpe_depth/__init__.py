"""The depth modality: a depth map of a cube around the hand, -0.5 near to 0.5 far (supplementary, 1.1).

Stored as uint16 codes: 0 is a hole or background, 1 to 65535 run linearly from the cube's near face to its far one.
Holes become background, 0.5.
"""

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
    """Stored uint16 ``[B, H, W]`` or network-ready float ``[B, 1, H, W]`` -> float ``[B, 1, size, size]``.

    Nearest valid neighbour: the mean of hand and background would be a surface between them.
    """
    if x.dtype != torch.uint16:
        # Network-ready depth has no holes; a shift by 1 keeps every value away from 0, the code of a hole.
        return warp_image(x + 1, view, size, layout="NCHW", mode="nearest_hole", fill=1.5, mean=1.0)
    code = warp_image(x[..., None], view, size, layout="NHWC", mode="nearest_hole", mean=32768.0, scale=1 / 65534)
    return torch.where(code < -0.5, 0.5, code)


def fake(n: int, generator: Generator, *, size: int) -> Tensor:
    """A smooth bump in front of a far background."""
    grid = torch.rand(n, 1, 6, 6, generator=generator)
    bump = interpolate(grid, size=(size, size), mode="bicubic").clamp(0, 1) - 0.5
    return torch.where(bump > 0.2, 0.5, bump)


def draw(axes, sample, **style) -> None:
    axes.imshow(sample[0], **{"cmap": "bone_r", "vmin": -0.5, "vmax": 0.5} | style)
    axes.set_axis_off()


def build(modality: Modality | None, shape: ModelShape) -> Modality:
    size = shape.image_size
    return Modality(
        name="depth",
        shape=(1, size, size),
        units="share of the cube's depth, -0.5 near to 0.5 far",
        geometry="image",
        encoder=partial(image_encoder, 1, shape=shape),
        decoder=partial(ImageDecoder, 1, size),
        loss=image_loss,
        augment=partial(augment, size=size),
        fake=partial(fake, size=size),
        configure=build,
        draw=draw,
    )


@hookimpl
def cvhpe_modalities() -> list[Modality]:
    return [build(None, ModelShape())]
