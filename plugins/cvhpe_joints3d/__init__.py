"""The 3D joints: root-relative, in lengths of the hand's own middle-finger bone (paper, protocols T and S)."""

from __future__ import annotations

from functools import partial

import torch
from torch import Generator, Tensor

from cvhpe import Modality, ModelShape, hookimpl
from cvhpe.models.blocks import joint_decoder, joint_encoder
from cvhpe.models.losses import distance_loss, fused_points_loss, points_loss
from cvhpe.ops import Palm, warp_joints


def fake(n: int, generator: Generator, *, shape: ModelShape) -> Tensor:
    x = torch.randn(n, shape.joints, 3, generator=generator)
    return x - x[:, shape.root, None]


def draw(axes, sample, **style) -> None:
    from cvhpe.viz.skeleton import plot_hand_3d

    plot_hand_3d(axes, sample, **style)


def build(modality: Modality | None, shape: ModelShape) -> Modality:
    palm = Palm(shape.root, shape.root_shift_joint)
    fused = partial(fused_points_loss, root=shape.root, root_shift_joint=shape.root_shift_joint, relative=True)
    squared = shape.joint_loss == "mse"
    return Modality(
        name="joints3d",
        shape=(shape.joints, 3),
        units="bones (middle PIP to MCP), relative to the root joint",
        geometry="points3d",
        encoder=partial(joint_encoder, shape=shape, k=3, centred=False),
        decoder=partial(joint_decoder, shape=shape, k=3),
        loss=points_loss if squared else distance_loss,
        augment=partial(warp_joints, palm=palm, relative=True),
        fake=partial(fake, shape=shape),
        configure=build,
        fused_loss=fused if squared else None,
        draw=draw,
    )


@hookimpl
def cvhpe_modalities() -> list[Modality]:
    return [build(None, ModelShape())]
