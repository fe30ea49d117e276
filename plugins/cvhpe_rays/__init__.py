"""The 2D joints of a camera that is known: as rays, in a frame whose z axis goes through the palm.

A crop tells how a hand looks, its rays also from where and how large: ``(x/z, y/z)`` of every joint before a camera
that was turned to look at the palm. That is more than the paper gives its networks, and numbers of runs with this
modality belong to a track of their own.
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
"""A hand at arm's length spreads over rays of a tenth; networks are made for inputs about 1."""
FARTHEST = 1.0
"""Stored fractions end here, wherever beyond it a joint is."""
PULL = 0.75
"""How far joints move towards their rays: most of the way, since a ray is surer than a network, but not all of it,
since the depths that the network chose belong to the joints it chose."""


def derive(fields: Mapping[str, Tensor]) -> Tensor:
    """``[B, J, 2]``: x/z and y/z of where the 2D joints are seen; NaN beyond what a crop fraction can say."""
    crop, K = fields["crop"], fields["K"]
    fractions = fields["joints2d"]
    known = (fractions.abs() < FARTHEST).all(-1, keepdim=True)
    uv = torch.where(known, fractions, torch.nan) * crop[:, None, 2:] + crop[:, None, :2]
    rays = torch.cat([uv, torch.ones_like(uv[..., :1])], 2) @ torch.linalg.inv_ex(K).inverse.transpose(1, 2)
    return rays[..., :2] / rays[..., 2:]


def augment(x: Tensor, view: View, *, palm: Palm) -> Tensor:
    """``[B, J, 2]``: wrist to palm, mirrored and turned about the axis. A crop's place and size are not the hand's."""
    still = View.identity(len(view), x.device)
    return warp_joints(x, replace(view, scale=still.scale, shift=still.shift), palm)


def refine(joints: Tensor, x: Tensor, *, root: int) -> Tensor:
    """Predicted joints ``[B, J, 3]`` mm, root-relative, moved towards the rays ``[B, J, 2]`` they were made from.

    First the hand as a whole: the translation t that minimises the sum over joints of the squared distance from
    ``joints + t`` to the joint's ray, a linear system of three unknowns. Then each joint by :data:`PULL` of the way
    to the nearest point of its ray. The palm is where two other points' labels meet half-way, and so no projection
    itself: it has no say. What the moved joints are relative to is the middle of the hand, which the network knows
    better than any one joint.
    """
    ray = normalize(pad(x, (0, 1), value=1.0), dim=-1)
    counts = x.isfinite().all(-1)
    counts[:, root] = False
    ray = torch.where(counts[..., None], ray, 0.0)
    across = counts[..., None, None] * torch.eye(3) - ray[..., :, None] * ray[..., None, :]
    whole = across.sum(1) + 1e-6 * torch.eye(3)
    shift = torch.linalg.solve(whole, -(across @ joints[..., None]).sum(1))[..., 0]
    placed = joints + shift[:, None]
    placed = placed - PULL * (across @ placed[..., None])[..., 0]
    found = placed - placed.mean(1, keepdim=True) + joints.mean(1, keepdim=True)
    found[:, root] = 0.0
    return found


def fake(n: int, generator: Generator, *, shape: ModelShape) -> Tensor:
    return 0.3 * (torch.rand(n, shape.joints, 2, generator=generator) - 0.5)


def draw(axes, sample, **style) -> None:
    from cvhpe.viz.skeleton import plot_hand_2d

    plot_hand_2d(axes, sample, **style)


def build(modality: Modality | None, shape: ModelShape) -> Modality:
    return Modality(
        name="rays",
        shape=(shape.joints, 2),
        units="x/z and y/z before a camera that looks at the palm",
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
