"""``elbo``: the step's whole loss after the decoders, and what it is made of, in one operator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from cvhpe.modality import View
from cvhpe.ops.geometry import Palm
from cvhpe.ops.joints_loss import Kind, joints_loss_twin


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
    return elbo_twin(terms, beta)


def elbo_twin(terms: Sequence[Term], beta: float) -> Elbo:
    """:func:`elbo` in pure torch."""
    if not terms:
        raise RuntimeError("elbo: terms: none given, expected at least one pair")
    recs, kls = [], []
    total: Tensor | None = None
    for term in terms:
        rec = _losses(term.rec)
        rec, kl = _mean(rec, term.mask), _mean(term.kl, term.mask)
        part = term.weight * (rec + beta * kl)
        total = part if total is None else total + part
        recs.append(rec.detach())
        kls.append(kl.detach())
    assert total is not None
    return Elbo(total, torch.stack(recs), torch.stack(kls))


def _losses(rec: Tensor | JointsTerm) -> Tensor:
    if isinstance(rec, Tensor):
        return rec
    return joints_loss_twin(
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


def _mean(losses: Tensor, mask: Tensor | None) -> Tensor:
    losses = losses if losses.dtype == torch.float64 else losses.float()
    if mask is None:
        return losses.sum() / max(losses.numel(), 1)
    return torch.where(mask, losses, 0.0).sum() / mask.sum().clamp(min=1)
