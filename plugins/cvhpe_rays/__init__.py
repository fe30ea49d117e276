"""The 2D joints of a known camera, as rays in a frame whose z axis goes through the palm.

A crop shows what a hand looks like; its rays also show from which direction and how large: ``(x/z, y/z)`` of every
joint after the camera was rotated towards the palm. The paper's networks do not have this, so runs with this modality
compare only with one another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import torch
from torch import Generator, Tensor
from torch.nn.functional import normalize, pad

from cvhpe import Modality, ModelShape, View, hookimpl
from cvhpe.models.blocks import joint_decoder, joint_encoder
from cvhpe.models.losses import points_loss
from cvhpe.ops import Palm, warp_joints

INPUT_SCALE = 8.0
"""A hand at arm's length spans rays of about a tenth; networks expect inputs of about 1."""
MAX_FRACTION = 1.0
"""Stored crop fractions are clipped here."""
PULL = 0.75
"""How far joints move towards their rays. A ray is more precise than a prediction, but the predicted depths belong
to the predicted joints."""


def derive(fields: Mapping[str, Tensor]) -> Tensor:
    """``[B, J, 2]``: x/z and y/z of the 2D joints; NaN where the stored crop fraction was clipped."""
    crop, K = fields["crop"], fields["K"]
    fractions = fields["joints2d"]
    known = (fractions.abs() < MAX_FRACTION).all(-1, keepdim=True)
    uv = torch.where(known, fractions, torch.nan) * crop[:, None, 2:] + crop[:, None, :2]
    rays = torch.cat([uv, torch.ones_like(uv[..., :1])], 2) @ torch.linalg.inv_ex(K).inverse.transpose(1, 2)
    return rays[..., :2] / rays[..., 2:]


def augment(x: Tensor, view: View, *, palm: Palm) -> Tensor:
    """``[B, J, 2]``: wrist to palm, then flip and rotation. Scale and shift move the crop, not the rays."""
    identity = View.identity(len(view), x.device)
    return warp_joints(x, replace(view, scale=identity.scale, shift=identity.shift), palm)


def refine(joints: Tensor, x: Tensor, *, root: int) -> Tensor:
    """Predicted joints ``[B, J, 3]`` mm, root-relative, moved towards the rays ``[B, J, 2]`` they were predicted from.

    First the whole hand: the translation t that minimises the sum over joints of the squared distance from ``joints +
    t`` to the joint's ray, a linear system of three unknowns. Then each joint by :data:`PULL` of the way to the nearest
    point of its ray. The palm is a midpoint of two labels and not a projection, so its ray does not count. The result
    is relative to the middle of the hand, which a network predicts better than any one joint.
    """
    ray = normalize(pad(x, (0, 1), value=1.0), dim=-1)
    counts = x.isfinite().all(-1)
    counts[:, root] = False
    ray = torch.where(counts[..., None], ray, 0.0)
    across = counts[..., None, None] * torch.eye(3) - ray[..., :, None] * ray[..., None, :]  # projects off each ray
    system = across.sum(1) + 1e-6 * torch.eye(3)
    shift = torch.linalg.solve(system, -(across @ joints[..., None]).sum(1))[..., 0]
    placed = joints + shift[:, None]
    placed = placed - PULL * (across @ placed[..., None])[..., 0]
    refined = placed - placed.mean(1, keepdim=True) + joints.mean(1, keepdim=True)
    refined[:, root] = 0.0
    return refined


def fake(n: int, generator: Generator, *, shape: ModelShape) -> Tensor:
    return 0.3 * (torch.rand(n, shape.joints, 2, generator=generator) - 0.5)


def draw(axes, sample, **style) -> None:
    from cvhpe.viz.skeleton import plot_hand_2d

    plot_hand_2d(axes, sample, **style)


def build(modality: Modality | None, shape: ModelShape) -> Modality:
    return Modality(
        name="rays",
        shape=(shape.joints, 2),
        units="x/z and y/z of a camera that looks at the palm",
        geometry="none",
        reads=("joints2d", "crop", "K"),
        derive=derive,
        encoder=partial(joint_encoder, shape=shape, k=2, centred=True, input_scale=INPUT_SCALE),
        decoder=partial(joint_decoder, shape=shape, k=2),
        loss=points_loss,
        augment=partial(augment, palm=Palm(shape.root, shape.root_shift_joint)),
        fake=partial(fake, shape=shape),
        configure=build,
        draw=draw,
        frame="root",
        refine=partial(refine, root=shape.root),
    )


@hookimpl
def cvhpe_modalities() -> list[Modality]:
    return [build(None, ModelShape())]
