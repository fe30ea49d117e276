"""``warp_joints``: joints seen under a view, wrist moved to the palm, in one pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cvhpe.ops import extension_loader
from cvhpe.ops.view_transform import Palm, check_joints, parts_of, seen, wide
from cvhpe.plugin.contract import View


def warp_joints(joints: Tensor, view: View | None = None, palm: Palm | None = None, relative: bool = False) -> Tensor:
    """See joints under a view: palm shift of the root, then minus the new root, then the view.

    joints: ``[B, J, 2]`` crop fractions (seen at ``scale * R(angle) @ F @ p + shift``), or ``[B, J, 3]``
        (``R(angle) @ F`` about the z axis; no scale, no shift). ``F`` mirrors x, ``R`` turns x towards y.
    view: as many views as samples; None leaves the joints where they are.
    palm: which joint is the root and towards which it moves; None moves nothing and, for ``relative``, is root 0.
    relative: subtract the (moved) root first.

    Returns the shape and dtype of ``joints``; differentiable in ``joints`` alone. Raises RuntimeError for what does
    not fit, naming the argument.

    >>> import torch
    >>> from cvhpe.plugin.contract import View
    >>> view = View.identity(1)
    >>> view.angle[:] = torch.pi / 2   # a quarter turn, from x to y
    >>> view.shift[:, 1] = 0.25
    >>> warp_joints(torch.tensor([[[0.5, 0.0]]]), view).round(decimals=3).abs()
    tensor([[[0.0000, 0.7500]]])
    """
    if extension_loader.transformed() or not extension_loader.serves(joints.device.type):
        return warp_joints_twin(joints, view, palm, relative)
    inputs = (joints, *parts_of(view, palm), relative)
    if torch.compiler.is_compiling():
        return torch.ops.cvhpe.warp_joints(*inputs)
    if joints.requires_grad and torch.is_grad_enabled():
        return _WarpJoints.apply(*inputs)
    with extension_loader.below_autograd():
        return torch.ops.cvhpe.warp_joints.default(*inputs)


def warp_joints_twin(
    joints: Tensor, view: View | None = None, palm: Palm | None = None, relative: bool = False
) -> Tensor:
    """:func:`warp_joints` in pure torch."""
    parts = parts_of(view, palm)
    check_joints("warp_joints", "joints", joints, parts, relative)
    return seen(joints.to(wide(joints)), parts, relative).to(joints.dtype)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(*inputs[1:6])
    ctx.rest = inputs[6:]


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return torch.ops.cvhpe.warp_joints_backward(grad, *ctx.saved_tensors, *ctx.rest), *(None,) * 8


class _WarpJoints(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        _save(ctx, inputs, None)
        with extension_loader.below_autograd():
            return torch.ops.cvhpe.warp_joints.default(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        with extension_loader.below_autograd():
            return extension_loader.once_differentiable("warp_joints", _backward(ctx, grad))


def _fake(joints: Tensor, *rest: Any) -> Tensor:
    check_joints("warp_joints", "joints", joints, rest[:7], rest[7])
    return joints.new_empty(joints.shape)


if extension_loader.load().loaded:
    torch.library.register_fake("cvhpe::warp_joints", _fake)
    torch.library.register_fake("cvhpe::warp_joints_backward", _fake)
    torch.library.register_autograd("cvhpe::warp_joints", _backward, setup_context=_save)
