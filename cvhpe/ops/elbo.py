"""``elbo``: the loss of a step after the decoders, with all its gradients, in one operator. Schema: csrc/ops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cvhpe.ops.extension_loader import below_autograd, kernel_state, once_differentiable, uses_kernels
from cvhpe.ops.joints_loss import joints_loss, joints_loss_reference
from cvhpe.ops.view_transform import Palm, view_tensors
from cvhpe.plugin.contract import View


@dataclass(frozen=True, slots=True)
class JointsTerm:
    """A reconstruction that :func:`elbo` computes itself, as :func:`cvhpe.ops.joints_loss` would.

    Attributes:
        pred: ``[B, J, k]``, k 2 or 3.
        target: ``[B, J, k]`` as stored.
        weight: ``[B, J]`` float32, or None.
        view: ``B`` views of the target, or None.
        palm: Root and root shift joint of the target, or None.
        relative: Subtract the target's shifted root.
        skip_nan: Give weight 0 to joints whose warped target is not finite.
    """

    pred: Tensor
    target: Tensor
    weight: Tensor | None = None
    view: View | None = None
    palm: Palm | None = None
    relative: bool = False
    skip_nan: bool = False


@dataclass(frozen=True, slots=True)
class ElboTerm:
    """One pair (input, target) of the bound.

    Attributes:
        rec: Reconstruction loss of each sample ``[B]``, or a :class:`JointsTerm`.
        kl: Divergence of the input's posterior ``[B]``; pairs of the same input share the tensor.
        mask: ``[B]`` bool, the samples that have both modalities; None for all.
        weight: Weight of the pair in the total.
    """

    rec: Tensor | JointsTerm
    kl: Tensor
    mask: Tensor | None = None
    weight: float = 1.0


class ElboResult(NamedTuple):
    """The negative bound and its parts.

    Attributes:
        total: Scalar; call ``backward`` on it.
        rec: ``[P]`` mean reconstruction loss of each pair, detached.
        kl: ``[P]`` mean divergence of each pair, detached.
    """

    total: Tensor
    rec: Tensor
    kl: Tensor


def elbo(terms: Sequence[ElboTerm], beta: float) -> ElboResult:
    """The negative evidence lower bound: ``sum over pairs of weight * (mean rec + beta * mean kl)`` (paper section 3).

    Means run over the samples of the pair's mask; a pair without samples adds 0. The host never waits for the device.

    Args:
        terms: The pairs, at least one.
        beta: Weight of the divergences.

    Returns:
        The total and its parts, float32; float64 where a loss is float64.

    Raises:
        RuntimeError: An argument does not fit; the message names it.

    Example:
        >>> kl, mask = torch.tensor([1.0, 3.0]), torch.tensor([True, False])
        >>> pairs = [ElboTerm(torch.tensor([2.0, 4.0]), kl), ElboTerm(torch.tensor([1.0, 9.0]), kl, mask)]
        >>> elbo(pairs, 0.5)
        ElboResult(total=tensor(5.5000), rec=tensor([3., 1.]), kl=tensor([2., 1.]))
    """
    if not terms or not uses_kernels(*(t.kl for t in terms), *(x for t in terms for x in _differentiable(t.rec))):
        return elbo_reference(terms, beta)
    tensors, plan, numbers, needs_grad = _operator_arguments(terms, beta)
    if torch.compiler.is_compiling():
        total, values, _ = torch.ops.cvhpe.elbo(tensors, plan, numbers, needs_grad)
        values = values.detach()
    elif needs_grad:
        total, values = _Elbo.apply(plan, numbers, *tensors)
    else:
        with below_autograd():
            total, values, _ = torch.ops.cvhpe.elbo.default(tensors, plan, numbers, False)
    return ElboResult(total, values[: len(terms)], values[len(terms) :])


def elbo_reference(terms: Sequence[ElboTerm], beta: float) -> ElboResult:
    """Reference implementation of :func:`elbo`.

    Args:
        terms: The pairs, at least one.
        beta: Weight of the divergences.

    Returns:
        The total and its parts.

    Raises:
        RuntimeError: An argument does not fit; the message names it.
    """
    if not terms:
        raise RuntimeError("elbo: terms: none given, expected at least one pair")
    recs, kls, parts = [], [], []
    for index, term in enumerate(terms):
        losses = _reconstruction_losses(term)
        _check(index, losses, term.kl, term.mask)
        rec, kl = _masked_mean(losses, term.mask), _masked_mean(term.kl, term.mask)
        parts.append(term.weight * (rec + beta * kl))
        recs.append(rec.detach())
        kls.append(kl.detach())
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return ElboResult(total, torch.stack(recs), torch.stack(kls))


def _check(index: int, rec: Tensor, kl: Tensor, mask: Tensor | None) -> None:
    if kl.dim() != 1:
        raise RuntimeError(f"elbo: kl {index}: shape {list(kl.shape)}, expected [B]")
    if rec.shape != kl.shape:
        raise RuntimeError(f"elbo: rec {index}: shape {list(rec.shape)}, expected {list(kl.shape)}")
    if mask is not None and (mask.shape != kl.shape or mask.dtype != torch.bool):
        raise RuntimeError(f"elbo: mask {index}: shape {list(mask.shape)}, expected bool {list(kl.shape)}")


def _differentiable(rec: Tensor | JointsTerm) -> tuple[Tensor, ...]:
    return (rec,) if isinstance(rec, Tensor) else (rec.pred, rec.target)


def _reconstruction_losses(term: ElboTerm) -> Tensor:
    rec = term.rec
    if isinstance(rec, Tensor):
        return rec
    weight = rec.weight
    if term.mask is not None:  # the values of a sample without the modality must not reach the gradient
        mask = term.mask[:, None].float()
        weight = mask.expand(rec.pred.shape[:2]) if weight is None else torch.where(mask > 0, weight, 0.0)
    return joints_loss_reference(
        rec.pred, rec.target, weight, rec.view, rec.palm, relative=rec.relative, skip_nan=rec.skip_nan
    )


def _masked_mean(losses: Tensor, mask: Tensor | None) -> Tensor:
    losses = losses if losses.dtype == torch.float64 else losses.float()
    if mask is None:
        return losses.sum() / max(losses.numel(), 1)
    return torch.where(mask, losses, 0.0).sum() / mask.sum().clamp(min=1)


def _operator_arguments(terms: Sequence[ElboTerm], beta: float) -> tuple[list[Tensor], list[int], list[float], bool]:
    """What csrc/ops/elbo.h reads: tensors (kls, recs, others), their indices, numbers; whether gradients are needed."""
    grad_enabled = torch.is_grad_enabled()
    kls: list[Tensor] = []
    recs: list[Tensor] = []
    others: list[Tensor] = []
    kl_of_term: list[int] = []
    for term in terms:
        index = next((i for i, kl in enumerate(kls) if kl is term.kl), len(kls))
        if index == len(kls):
            kls.append(term.kl)
        kl_of_term.append(index)
    first = len(kls) + len(terms)

    def index_of(tensor: Tensor | None) -> int:
        if tensor is None:
            return -1
        for index, other in enumerate(others):
            if other is tensor:
                return first + index
        others.append(tensor)
        return first + len(others) - 1

    plan = [len(kls), len(terms)]
    numbers = [beta]
    for term, kl_index in zip(terms, kl_of_term, strict=True):
        rec = term.rec
        if not isinstance(rec, Tensor) and grad_enabled and rec.target.requires_grad:
            rec = joints_loss(  # an operator that has a gradient for the target
                rec.pred, rec.target, rec.weight, rec.view, rec.palm, relative=rec.relative, skip_nan=rec.skip_nan
            )
        if isinstance(rec, Tensor):
            recs.append(rec)
            plan += (0, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0)
        else:
            recs.append(rec.pred)
            *view, root, root_shift_joint = view_tensors(rec.view, rec.palm)
            plan += (1, index_of(rec.target), index_of(rec.weight))
            plan += [index_of(tensor) for tensor in view]
            plan += (root, root_shift_joint, rec.relative, rec.skip_nan)
        plan += (kl_index, index_of(term.mask))
        numbers.append(term.weight)
    needs_grad = grad_enabled and any(t.requires_grad for t in (*kls, *recs))
    return kls + recs + others, plan, numbers, needs_grad


class _Elbo(torch.autograd.Function):
    """Forward computes the gradients for an upstream gradient of 1; backward scales them."""

    @staticmethod
    def forward(ctx: Any, plan: list[int], numbers: list[float], *tensors: Tensor) -> tuple[Tensor, Tensor]:
        with below_autograd():
            total, values, grads = torch.ops.cvhpe.elbo.default(tensors, plan, numbers, True)
        ctx.save_for_backward(*grads)
        ctx.other_inputs = len(tensors) - len(grads)
        ctx.mark_non_differentiable(values)
        ctx.set_materialize_grads(False)
        return total, values

    @staticmethod
    def backward(ctx: Any, grad_total: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
        grads = ctx.saved_tensors
        if grad_total is None:
            return None, None, *(None,) * (len(grads) + ctx.other_inputs)
        # loss.backward() passes 1. On the CPU reading it is cheaper than scaling; on a GPU it would stop the host.
        if not grad_total.is_cpu or grad_total != 1:
            with below_autograd():
                grads = torch.ops.cvhpe.elbo_backward.default(grad_total, grads)
        return None, None, *once_differentiable("elbo", grads), *(None,) * ctx.other_inputs


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, list[Tensor]]) -> None:
    ctx.save_for_backward(*output[2])
    ctx.count = len(inputs[0])


def _backward(ctx: Any, grad_total: Tensor, _values: Any, _grads: Any) -> tuple[Any, ...]:
    grads = torch.ops.cvhpe.elbo_backward(grad_total, list(ctx.saved_tensors))
    return [*grads, *[None] * (ctx.count - len(grads))], None, None, None


def _fake(
    tensors: list[Tensor], plan: list[int], numbers: list[float], gradient: bool
) -> tuple[Tensor, Tensor, list[Tensor]]:
    kls, terms = plan[:2]
    grads = [t.new_empty(t.shape) for t in tensors[: kls + terms]] if gradient else []
    kl = tensors[0]
    return kl.new_empty((), dtype=torch.float32), kl.new_empty(2 * terms, dtype=torch.float32), grads


def _fake_backward(grad_total: Tensor, grads: list[Tensor]) -> list[Tensor]:
    return [g.new_empty(g.shape) for g in grads]


if kernel_state().loaded:
    torch.library.register_fake("cvhpe::elbo", _fake)
    torch.library.register_fake("cvhpe::elbo_backward", _fake_backward)
    torch.library.register_autograd("cvhpe::elbo", _backward, setup_context=_save_for_backward)
