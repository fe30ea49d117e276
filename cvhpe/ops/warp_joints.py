"""``warp_joints``: joints under a view, with the root shifted to the palm, in one pass. Schema: csrc/ops."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cvhpe.ops.extension_loader import below_autograd, kernel_state, once_differentiable, uses_kernels
from cvhpe.ops.view_transform import (
    Palm,
    check_joints,
    compute_dtype,
    transform_joints_reference,
    view_tensors,
)
from cvhpe.plugin.contract import View


def warp_joints(joints: Tensor, view: View | None = None, palm: Palm | None = None, relative: bool = False) -> Tensor:
    """Transform joints as a view shows them: shift the root to the palm, subtract it, apply the view.

    With ``F`` the flip in x and ``R`` the rotation from x to y, 2D joints become ``scale * R(angle) @ F @ p + shift``
    and 3D joints ``R(angle) @ F @ p`` about the z axis, without scale and shift. Differentiable in ``joints``.

    Args:
        joints: ``[B, J, 2]`` in fractions of the crop, or ``[B, J, 3]``; float32, float64, bfloat16 or float16.
        view: ``B`` views; None applies none.
        palm: Root and root shift joint; None shifts nothing, and for ``relative`` the root is joint 0.
        relative: Subtract the shifted root.

    Returns:
        The transformed joints, of the same shape and dtype.

    Raises:
        RuntimeError: An argument does not fit; the message names it.

    Example:
        >>> view = View.identity(1)
        >>> view.angle[:] = torch.pi / 2   # from x to y
        >>> view.shift[:, 1] = 0.25
        >>> warp_joints(torch.tensor([[[0.5, 0.0]]]), view).round(decimals=3).abs()
        tensor([[[0.0000, 0.7500]]])
    """
    if not uses_kernels(joints):
        return warp_joints_reference(joints, view, palm, relative)
    inputs = (joints, *view_tensors(view, palm), relative)
    if torch.compiler.is_compiling():
        return torch.ops.cvhpe.warp_joints(*inputs)
    if joints.requires_grad and torch.is_grad_enabled():
        return _WarpJoints.apply(*inputs)
    with below_autograd():
        return torch.ops.cvhpe.warp_joints.default(*inputs)


def warp_joints_reference(
    joints: Tensor, view: View | None = None, palm: Palm | None = None, relative: bool = False
) -> Tensor:
    """Reference implementation of :func:`warp_joints`.

    Args:
        joints: As of :func:`warp_joints`.
        view: As of :func:`warp_joints`.
        palm: As of :func:`warp_joints`.
        relative: As of :func:`warp_joints`.

    Returns:
        The transformed joints, of the same shape and dtype.
    """
    tensors = view_tensors(view, palm)
    check_joints("warp_joints", "joints", joints, tensors, relative)
    return transform_joints_reference(joints.to(compute_dtype(joints)), tensors, relative).to(joints.dtype)


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(*inputs[1:6])
    ctx.options = inputs[6:]


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return torch.ops.cvhpe.warp_joints_backward(grad, *ctx.saved_tensors, *ctx.options), *(None,) * 8


class _WarpJoints(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        _save_for_backward(ctx, inputs, None)
        with below_autograd():
            return torch.ops.cvhpe.warp_joints.default(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        with below_autograd():
            return once_differentiable("warp_joints", _backward(ctx, grad))


def _fake(joints: Tensor, *rest: Any) -> Tensor:
    check_joints("warp_joints", "joints", joints, rest[:7], rest[7])
    return joints.new_empty(joints.shape)


if kernel_state().loaded:
    torch.library.register_fake("cvhpe::warp_joints", _fake)
    torch.library.register_fake("cvhpe::warp_joints_backward", _fake)
    torch.library.register_autograd("cvhpe::warp_joints", _backward, setup_context=_save_for_backward)
