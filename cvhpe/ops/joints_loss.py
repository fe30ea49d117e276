"""``joints_loss``: reconstruction loss of joints against a target that is warped on the fly."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from cvhpe.ops import extension_loader
from cvhpe.ops.view_transform import Palm, Parts, check_joints, parts_of, seen, wide
from cvhpe.plugin.contract import View

Kind = Literal["squared", "l1", "huber"]
KINDS = ("squared", "l1", "huber")


def kind_index(kind: str) -> int:
    """The kernels' number of a kind."""
    if kind not in KINDS:
        raise RuntimeError(f"joints_loss: kind: {kind!r}, expected one of {', '.join(KINDS)}")
    return KINDS.index(kind)


def joints_loss(
    pred: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    view: View | None = None,
    palm: Palm | None = None,
    *,
    kind: Kind = "squared",
    relative: bool = False,
    delta: float = 1.0,
    skip_nan: bool = False,
) -> Tensor:
    """Loss of every sample: ``sum_j w_j sum_c l(pred - seen target) / (k * sum_j w_j)`` -> ``[B]``.

    pred: ``[B, J, k]``, k 2 or 3; what a decoder gives.
    target: ``[B, J, k]`` as stored; :func:`cvhpe.ops.warp_joints` of it under ``view``, ``palm`` and ``relative`` is
        what ``pred`` is held against, made on the fly.
    weight: ``[B, J]`` float32, how much each joint counts (visibility); None counts all alike. A joint of weight 0
        counts for nothing, whatever its target is; where all weights are 0, so is the loss.
    kind: ``"squared"`` d^2, ``"l1"`` |d|, ``"huber"`` d^2 / 2 up to ``delta``, then delta (|d| - delta / 2).
    skip_nan: a joint whose seen target is not finite has weight 0 (it is not labelled).

    Returns float32 (float64 for float64 ``pred``). Differentiable in ``pred`` and ``target``.
    Raises RuntimeError for what does not fit, naming the argument.

    >>> pred = torch.zeros(1, 2, 3)
    >>> joints_loss(pred, torch.tensor([[[1.0, 2.0, 3.0], [9.0, 9.0, 9.0]]]), torch.tensor([[1.0, 0.0]]))
    tensor([4.6667])
    """
    if extension_loader.transformed() or not extension_loader.serves(pred.device.type):
        return joints_loss_twin(
            pred, target, weight, view, palm, kind=kind, relative=relative, delta=delta, skip_nan=skip_nan
        )
    inputs = (pred, target, weight, *parts_of(view, palm), relative, kind_index(kind), delta, skip_nan)
    wanted = torch.is_grad_enabled() and (pred.requires_grad or target.requires_grad)
    if torch.compiler.is_compiling():
        return torch.ops.cvhpe.joints_loss(*inputs, wanted)[0]
    if wanted:
        return _JointsLoss.apply(*inputs)
    with extension_loader.below_autograd():
        return torch.ops.cvhpe.joints_loss.default(*inputs, False)[0]


def joints_loss_twin(
    pred: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    view: View | None = None,
    palm: Palm | None = None,
    *,
    kind: Kind = "squared",
    relative: bool = False,
    delta: float = 1.0,
    skip_nan: bool = False,
) -> Tensor:
    """:func:`joints_loss` in pure torch."""
    parts = parts_of(view, palm)
    check_loss(pred, target, weight, parts, kind, relative)
    dtype = wide(pred)
    aim = seen(target.to(dtype), parts, relative)
    counts = torch.ones(pred.shape[:2], dtype=dtype, device=pred.device) if weight is None else weight.to(dtype)
    if skip_nan:
        counts = torch.where(aim.isfinite().all(-1), counts, 0.0)
    used = (counts != 0)[..., None]
    d = torch.where(used, pred.to(dtype) - torch.where(used, aim, 0.0), 0.0)
    if kind == "squared":
        each = d * d
    elif kind == "l1":
        each = d.abs()
    else:
        near = d.clamp(-delta, delta)
        each = near * (d - 0.5 * near)
    total = pred.shape[2] * counts.sum(1)
    return (counts[..., None] * each).sum((1, 2)) / torch.where(total == 0, 1.0, total)


def check_loss(pred: Tensor, target: Tensor, weight: Tensor | None, parts: Parts, kind: str, relative: bool) -> None:
    """Say which argument does not fit, in the words of the kernels."""
    check_joints("joints_loss", "pred", pred, parts, relative)
    if target.shape != pred.shape:
        raise RuntimeError(
            f"joints_loss: target: shape {list(target.shape)}, expected that of pred, {list(pred.shape)}"
        )
    if not target.dtype.is_floating_point:
        raise RuntimeError(
            "joints_loss: target: dtype is not floating point, expected float32, float64, bfloat16 or float16"
        )
    if weight is not None and (weight.shape != pred.shape[:2] or weight.dtype != torch.float32):
        raise RuntimeError(f"joints_loss: weight: shape {list(weight.shape)}, expected float32 {list(pred.shape[:2])}")
    kind_index(kind)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(output[1], *inputs[3:8])
    ctx.rest = inputs[8:11]
    ctx.target_dtype = inputs[1].dtype


def _backward(ctx: Any, grad_loss: Tensor, _: Tensor | None = None) -> tuple[Tensor | None, ...]:
    unit, *view = ctx.saved_tensors
    grad = (unit * grad_loss[:, None, None]).to(unit.dtype)
    of_target = None
    if ctx.needs_input_grad[1]:
        # the loss sees only pred - seen(target), and seen is linear up to a constant
        of_target = torch.ops.cvhpe.warp_joints_backward(-grad.to(ctx.target_dtype), *view, *ctx.rest)
    return grad, of_target, *(None,) * 13


class _JointsLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        with extension_loader.below_autograd():
            output = torch.ops.cvhpe.joints_loss.default(*inputs, True)
        _save(ctx, inputs, output)
        return output[0]

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor | None, ...]:
        return extension_loader.once_differentiable("joints_loss", _backward(ctx, grad_loss)[:-1])


def _fake(pred: Tensor, target: Tensor, weight: Tensor | None, *rest: Any) -> tuple[Tensor, Tensor]:
    check_loss(pred, target, weight, rest[:7], KINDS[rest[8]], rest[7])
    return pred.new_empty(pred.shape[0], dtype=wide(pred)), pred.new_empty(pred.shape if rest[-1] else 0)


if extension_loader.load().loaded:
    torch.library.register_fake("cvhpe::joints_loss", _fake)
    torch.library.register_autograd("cvhpe::joints_loss", _backward, setup_context=_save)
