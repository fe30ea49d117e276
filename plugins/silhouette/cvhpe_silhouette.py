"""Hand silhouettes from a data set's part mask: 0.5 on the hand, -0.5 elsewhere."""

from functools import partial

import torch

from cvhpe import Modality, ModelShape, hookimpl
from cvhpe.models.backbones import ImageDecoder, ImageEncoder
from cvhpe.models.losses import image_loss
from cvhpe.ops import warp_image


def derive(fields):
    """uint8 [B, S, S], 255 on any part of the hand."""
    return (fields["mask"] > 0).to(torch.uint8) * 255


def augment(x, view, *, size):
    """Stored uint8 [B, S, S] or network-ready float [B, 1, H, W] -> float [B, 1, size, size], soft outline."""
    if x.dtype == torch.uint8:
        return warp_image(x, view, size, mean=127.5, scale=1 / 255)
    return warp_image(x, view, size, layout="NCHW", fill=-0.5)


def fake(n, generator, *, size):
    blobs = torch.rand(n, 1, 6, 6, generator=generator)
    return torch.nn.functional.interpolate(blobs, size=(size, size), mode="bicubic").gt(0.5).float() - 0.5


def iou(pred, target):
    """Intersection over union of the two silhouettes, [B]; 1 where both are empty."""
    a, b = (pred > 0).flatten(1), (target > 0).flatten(1)
    return ((a & b).sum(1) + 1e-6) / ((a | b).sum(1) + 1e-6)


def draw(axes, sample, **style):
    axes.imshow(sample[0], **{"cmap": "gray", "vmin": -0.5, "vmax": 0.5} | style)
    axes.set_axis_off()


def build(_, shape):
    size = shape.image_size
    return Modality(
        name="silhouette",
        shape=(1, size, size),
        units="0.5 on the hand, -0.5 elsewhere",
        geometry="image",
        reads=("mask",),
        derive=derive,
        encoder=partial(ImageEncoder, 1, size, backbone=shape.backbone),
        decoder=partial(ImageDecoder, 1, size),
        loss=image_loss,
        augment=partial(augment, size=size),
        fake=partial(fake, size=size),
        configure=build,
        draw=draw,
        metrics={"iou": iou},
        api=1,
    )


@hookimpl
def cvhpe_modalities():
    return [build(None, ModelShape())]
