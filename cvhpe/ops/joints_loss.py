"""``joints_loss``: mean squared error of joints against a target that is warped on the fly. Schema: csrc/ops."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cvhpe.ops.extension_loader import below_autograd, kernel_state, once_differentiable, uses_kernels
from cvhpe.ops.view_transform import (
    Palm,
    ViewTensors,
    check_joints,
    compute_dtype,
    transform_joints_reference,
    view_tensors,
)
from cvhpe.plugin.contract import View


def joints_loss(
    pred: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    view: View | None = None,
    palm: Palm | None = None,
    *,
    relative: bool = False,
    skip_nan: bool = False,
) -> Tensor:
    """Weighted mean squared error of each sample (paper section 3).

    ``sum_j w_j |pred_j - warped target_j|^2 / (k * sum_j w_j)``, where the target is warped as by
    :func:`cvhpe.ops.warp_joints`. Differentiable in ``pred`` and ``target``.

    Args:
        pred: ``[B, J, k]``, k 2 or 3; float32, float64, bfloat16 or float16.
        target: ``[B, J, k]`` as stored.
        weight: ``[B, J]`` float32; None weighs all joints alike. A joint of weight 0 is not read, and the loss of a
            sample whose weights are all 0 is 0.
        view: ``B`` views of the target; None applies none.
        palm: Root and root shift joint of the target; None shifts nothing.
        relative: Subtract the target's shifted root.
        skip_nan: Give weight 0 to joints whose warped target is not finite (unlabelled joints).

    Returns:
        ``[B]`` float32; float64 for float64 ``pred``.

    Raises:
        RuntimeError: An argument does not fit; the message names it.

    Example:
        >>> pred = torch.zeros(1, 2, 3)
        >>> joints_loss(pred, torch.tensor([[[1.0, 2.0, 3.0], [9.0, 9.0, 9.0]]]), torch.tensor([[1.0, 0.0]]))
        tensor([4.6667])
    """
    if not uses_kernels(pred, target):
        return joints_loss_reference(pred, target, weight, view, palm, relative=relative, skip_nan=skip_nan)
    inputs = (pred, target, weight, *view_tensors(view, palm), relative, skip_nan)
    needs_grad = torch.is_grad_enabled() and (pred.requires_grad or target.requires_grad)
    if torch.compiler.is_compiling():
        return torch.ops.cvhpe.joints_loss(*inputs, needs_grad)[0]
    if needs_grad:
        return _JointsLoss.apply(*inputs)
    with below_autograd():
        return torch.ops.cvhpe.joints_loss.default(*inputs, False)[0]


def joints_loss_reference(
    pred: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    view: View | None = None,
    palm: Palm | None = None,
    *,
    relative: bool = False,
    skip_nan: bool = False,
) -> Tensor:
    """Reference implementation of :func:`joints_loss`.

    Args:
        pred: As of :func:`joints_loss`.
        target: As of :func:`joints_loss`.
        weight: As of :func:`joints_loss`.
        view: As of :func:`joints_loss`.
        palm: As of :func:`joints_loss`.
        relative: As of :func:`joints_loss`.
        skip_nan: As of :func:`joints_loss`.

    Returns:
        ``[B]`` float32; float64 for float64 ``pred``.
    """
    tensors = view_tensors(view, palm)
    _check(pred, target, weight, tensors, relative)
    dtype = compute_dtype(pred)
    warped = transform_joints_reference(target.to(dtype), tensors, relative)
    weights = torch.ones(pred.shape[:2], dtype=dtype, device=pred.device) if weight is None else weight.to(dtype)
    if skip_nan:
        weights = torch.where(warped.isfinite().all(-1), weights, 0.0)
    counted = (weights != 0)[..., None]
    difference = torch.where(counted, pred.to(dtype) - torch.where(counted, warped, 0.0), 0.0)
    total = pred.shape[2] * weights.sum(1)
    return (weights[..., None] * (difference * difference)).sum((1, 2)) / torch.where(total == 0, 1.0, total)


def _check(pred: Tensor, target: Tensor, weight: Tensor | None, tensors: ViewTensors, relative: bool) -> None:
    check_joints("joints_loss", "pred", pred, tensors, relative)
    if target.shape != pred.shape:
        raise RuntimeError(
            f"joints_loss: target: shape {list(target.shape)}, expected that of pred, {list(pred.shape)}"
        )
    if not target.dtype.is_floating_point:
        raise RuntimeError("joints_loss: target: dtype is not floating point, expected float32, bfloat16 or float16")
    if weight is not None and (weight.shape != pred.shape[:2] or weight.dtype != torch.float32):
        raise RuntimeError(f"joints_loss: weight: shape {list(weight.shape)}, expected float32 {list(pred.shape[:2])}")


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(output[1], *inputs[3:8])
    ctx.options = inputs[8:11]
    ctx.target_dtype = inputs[1].dtype


def _backward(ctx: Any, grad_loss: Tensor, _: Tensor | None = None) -> tuple[Tensor | None, ...]:
    grad_of_sum, *view = ctx.saved_tensors
    grad = (grad_of_sum * grad_loss[:, None, None]).to(grad_of_sum.dtype)
    grad_target = None
    if ctx.needs_input_grad[1]:
        # the loss depends on pred - warp(target) alone, and warp is affine
        grad_target = torch.ops.cvhpe.warp_joints_backward(-grad.to(ctx.target_dtype), *view, *ctx.options)
    return grad, grad_target, *(None,) * 11


class _JointsLoss(torch.autograd.Function):
    """Forward computes the gradient of the sum of the losses; backward scales it."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        with below_autograd():
            output = torch.ops.cvhpe.joints_loss.default(*inputs, True)
        _save_for_backward(ctx, inputs, output)
        return output[0]

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor | None, ...]:
        return once_differentiable("joints_loss", _backward(ctx, grad_loss)[:-1])


def _fake(pred: Tensor, target: Tensor, weight: Tensor | None, *rest: Any) -> tuple[Tensor, Tensor]:
    _check(pred, target, weight, rest[:7], rest[7])
    return pred.new_empty(pred.shape[0], dtype=torch.float32), pred.new_empty(pred.shape if rest[-1] else 0)


if kernel_state().loaded:
    torch.library.register_fake("cvhpe::joints_loss", _fake)
    torch.library.register_autograd("cvhpe::joints_loss", _backward, setup_context=_save_for_backward)
