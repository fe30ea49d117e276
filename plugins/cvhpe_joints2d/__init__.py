"""The 2D joints, in fractions of the hand crop: centre (0, 0), edges at +-0.5."""

from __future__ import annotations

from functools import partial

import torch
from torch import Generator, Tensor

from cvhpe import Modality, ModelShape, hookimpl
from cvhpe.models.blocks import joint_decoder, joint_encoder
from cvhpe.models.losses import fused_points_loss, points_loss
from cvhpe.ops import Palm, warp_joints


def fake(n: int, generator: Generator, *, shape: ModelShape) -> Tensor:
    return torch.rand(n, shape.joints, 2, generator=generator) - 0.5


def draw(axes, sample, **style) -> None:
    from cvhpe.viz.skeleton import plot_hand_2d

    plot_hand_2d(axes, sample, **style)


def build(modality: Modality | None, shape: ModelShape) -> Modality:
    palm = Palm(shape.root, shape.root_shift_joint)
    return Modality(
        name="joints2d",
        shape=(shape.joints, 2),
        units="fraction of the crop, centre 0",
        geometry="points2d",
        encoder=partial(joint_encoder, shape=shape, k=2, centred=True),
        decoder=partial(joint_decoder, shape=shape, k=2),
        loss=points_loss,
        augment=partial(warp_joints, palm=palm),
        fake=partial(fake, shape=shape),
        configure=build,
        fused_loss=partial(fused_points_loss, root=shape.root, root_shift_joint=shape.root_shift_joint, relative=False),
        draw=draw,
    )


@hookimpl
def cvhpe_modalities() -> list[Modality]:
    return [build(None, ModelShape())]
