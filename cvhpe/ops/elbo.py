"""``elbo``: the step's whole loss after the decoders, and what it is made of, in one operator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cvhpe.ops import extension_loader
from cvhpe.ops.joints_loss import Kind, joints_loss, joints_loss_twin, kind_index
from cvhpe.ops.view_transform import Palm, parts_of
from cvhpe.plugin.contract import View


@dataclass(frozen=True, slots=True)
class JointsTerm:
    """A reconstruction that :func:`elbo` computes itself: the arguments of :func:`cvhpe.ops.joints_loss`."""

    pred: Tensor
    target: Tensor
    weight: Tensor | None = None
    view: View | None = None
    palm: Palm | None = None
    kind: Kind = "squared"
    relative: bool = False
    delta: float = 1.0
    skip_nan: bool = False


@dataclass(frozen=True, slots=True)
class Term:
    """One pair (i -> j) of the bound.

    rec: loss of every sample ``[B]`` (a plugin's own), or a :class:`JointsTerm`.
    kl: divergence of the input's posterior ``[B]`` (:func:`cvhpe.ops.sample_kl`); several terms of one input share it.
    mask: ``[B]`` bool, the samples that have both modalities; None for all.
    weight: of the whole pair in the total.
    """

    rec: Tensor | JointsTerm
    kl: Tensor
    mask: Tensor | None = None
    weight: float = 1.0


class Elbo(NamedTuple):
    """total: scalar, to call backward on. rec, kl: ``[P]`` each pair's means, detached, on the device."""

    total: Tensor
    rec: Tensor
    kl: Tensor


def elbo(terms: Sequence[Term], beta: float) -> Elbo:
    """The negative bound: ``sum over pairs of weight * (mean rec + beta * mean kl)`` (paper section 3).

    Means run over the samples that ``mask`` leaves; a pair without any adds nothing. The KL of an input counts once
    in every pair it is the input of. Nothing waits for the device.

    Returns float32 (float64 where any loss is float64). Raises RuntimeError for what does not fit.

    >>> kl = torch.tensor([1.0, 3.0])
    >>> elbo([Term(torch.tensor([2.0, 4.0]), kl), Term(torch.tensor([1.0, 9.0]), kl, torch.tensor([True, False]))], 0.5)
    Elbo(total=tensor(5.5000), rec=tensor([3., 1.]), kl=tensor([2., 1.]))
    """
    if not terms or extension_loader.transformed() or not extension_loader.serves(terms[0].kl.device.type):
        return elbo_twin(terms, beta)
    tensors, plan, numbers, wanted = _plan(terms, beta)
    if torch.compiler.is_compiling():
        total, values, _ = torch.ops.cvhpe.elbo(tensors, plan, numbers, wanted)
        values = values.detach()
    elif wanted:
        total, values = _Elbo.apply(plan, numbers, *tensors)
    else:
        with extension_loader.below_autograd():
            total, values, _ = torch.ops.cvhpe.elbo.default(tensors, plan, numbers, False)
    return Elbo(total, values[: len(terms)], values[len(terms) :])


def elbo_twin(terms: Sequence[Term], beta: float) -> Elbo:
    """:func:`elbo` in pure torch."""
    if not terms:
        raise RuntimeError("elbo: terms: none given, expected at least one pair")
    recs, kls = [], []
    total: Tensor | None = None
    for index, term in enumerate(terms):
        losses = _losses(term)
        _check(index, losses, term.kl, term.mask)
        rec, kl = _mean(losses, term.mask), _mean(term.kl, term.mask)
        part = term.weight * (rec + beta * kl)
        total = part if total is None else total + part
        recs.append(rec.detach())
        kls.append(kl.detach())
    assert total is not None
    return Elbo(total, torch.stack(recs), torch.stack(kls))


def _check(index: int, rec: Tensor, kl: Tensor, mask: Tensor | None) -> None:
    if kl.dim() != 1:
        raise RuntimeError(f"elbo: kl {index}: shape {list(kl.shape)}, expected [B]")
    if rec.shape != kl.shape:
        raise RuntimeError(f"elbo: rec {index}: shape {list(rec.shape)}, expected {list(kl.shape)}")
    if mask is not None and (mask.shape != kl.shape or mask.dtype != torch.bool):
        raise RuntimeError(f"elbo: mask {index}: shape {list(mask.shape)}, expected bool {list(kl.shape)}")


def _losses(term: Term) -> Tensor:
    rec = term.rec
    if isinstance(rec, Tensor):
        return rec
    weight = rec.weight
    if term.mask is not None:  # what a sample without the modality holds must not reach the gradient
        mask = term.mask[:, None].float()
        weight = mask.expand(rec.pred.shape[:2]) if weight is None else torch.where(mask > 0, weight, 0.0)
    return joints_loss_twin(
        rec.pred,
        rec.target,
        weight,
        rec.view,
        rec.palm,
        kind=rec.kind,
        relative=rec.relative,
        delta=rec.delta,
        skip_nan=rec.skip_nan,
    )


def _mean(losses: Tensor, mask: Tensor | None) -> Tensor:
    losses = losses if losses.dtype == torch.float64 else losses.float()
    if mask is None:
        return losses.sum() / max(losses.numel(), 1)
    return torch.where(mask, losses, 0.0).sum() / mask.sum().clamp(min=1)


def _plan(terms: Sequence[Term], beta: float) -> tuple[list[Tensor], list[int], list[float], bool]:
    """What csrc/ops/elbo.h reads: tensors (kls, recs, the rest), their places, numbers; whether to differentiate."""
    differentiable = torch.is_grad_enabled()
    kls: list[Tensor] = []
    recs: list[Tensor] = []
    rest: list[Tensor] = []
    whose: list[int] = []
    for term in terms:
        for place, kl in enumerate(kls):
            if kl is term.kl:
                whose.append(place)
                break
        else:
            whose.append(len(kls))
            kls.append(term.kl)
    first = len(kls) + len(terms)

    def place_of(tensor: Tensor | None) -> int:
        if tensor is None:
            return -1
        for place, known in enumerate(rest):
            if known is tensor:
                return first + place
        rest.append(tensor)
        return first + len(rest) - 1

    plan = [len(kls), len(terms)]
    numbers = [beta]
    for term, kl_place in zip(terms, whose, strict=True):
        rec = term.rec
        if not isinstance(rec, Tensor) and differentiable and rec.target.requires_grad:
            rec = joints_loss(  # its own operator, which has a gradient for the target
                rec.pred,
                rec.target,
                rec.weight,
                rec.view,
                rec.palm,
                kind=rec.kind,
                relative=rec.relative,
                delta=rec.delta,
                skip_nan=rec.skip_nan,
            )
        if isinstance(rec, Tensor):
            recs.append(rec)
            plan += (0, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, kl_place, place_of(term.mask))
            numbers += (term.weight, 1.0)
            continue
        recs.append(rec.pred)
        *view, root, root_shift_joint = parts_of(rec.view, rec.palm)
        plan += (1, place_of(rec.target), place_of(rec.weight))
        plan += [place_of(part) for part in view]
        plan += (
            root,
            root_shift_joint,
            rec.relative,
            rec.skip_nan,
            kind_index(rec.kind),
            kl_place,
            place_of(term.mask),
        )
        numbers += (term.weight, rec.delta)
    wanted = differentiable and any(t.requires_grad for t in (*kls, *recs))
    return kls + recs + rest, plan, numbers, wanted


class _Elbo(torch.autograd.Function):
    """Forward makes the gradients for an upstream gradient of 1; backward scales them."""

    @staticmethod
    def forward(ctx: Any, plan: list[int], numbers: list[float], *tensors: Tensor) -> tuple[Tensor, Tensor]:
        with extension_loader.below_autograd():
            total, values, grads = torch.ops.cvhpe.elbo.default(tensors, plan, numbers, True)
        ctx.save_for_backward(*grads)
        ctx.rest = len(tensors) - len(grads)
        ctx.mark_non_differentiable(values)
        ctx.set_materialize_grads(False)
        return total, values

    @staticmethod
    def backward(ctx: Any, grad_total: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
        grads = ctx.saved_tensors
        if grad_total is None:
            return None, None, *(None,) * (len(grads) + ctx.rest)
        # `loss.backward()` comes with 1. On the CPU a look is cheaper than a pass over the gradients; on a GPU it
        # would stop the host.
        if not grad_total.is_cpu or grad_total != 1:
            with extension_loader.below_autograd():
                grads = torch.ops.cvhpe.elbo_backward.default(grad_total, grads)
        return None, None, *extension_loader.once_differentiable("elbo", grads), *(None,) * ctx.rest


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, list[Tensor]]) -> None:
    ctx.save_for_backward(*output[2])
    ctx.count = len(inputs[0])


def _backward(ctx: Any, grad_total: Tensor, _values: Any, _grads: Any) -> tuple[Any, ...]:
    grads = torch.ops.cvhpe.elbo_backward(grad_total, list(ctx.saved_tensors))
    return [*grads, *[None] * (ctx.count - len(grads))], None, None, None


def _fake(
    tensors: list[Tensor], plan: list[int], numbers: list[float], gradient: bool
) -> tuple[Tensor, Tensor, list[Tensor]]:
    kls, terms = plan[:2]
    given = tensors[: kls + terms]
    double = any(t.dtype == torch.float64 for t in given)
    dtype = torch.float64 if double else torch.float32
    grads = [t.new_empty(t.shape) for t in given] if gradient else []
    return tensors[0].new_empty((), dtype=dtype), tensors[0].new_empty(2 * terms, dtype=dtype), grads


def _fake_backward(grad_total: Tensor, grads: list[Tensor]) -> list[Tensor]:
    return [g.new_empty(g.shape) for g in grads]


if extension_loader.load().loaded:
    torch.library.register_fake("cvhpe::elbo", _fake)
    torch.library.register_fake("cvhpe::elbo_backward", _fake_backward)
    torch.library.register_autograd("cvhpe::elbo", _backward, setup_context=_save)
