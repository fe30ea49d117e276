"""FusionParams the posteriors of several inputs are best multiplied, found on held-out hands.

Two ways are tried. Either every input gets one weight on what its posteriors say of themselves
(:func:`cvhpe.uncertainty.fusion.search`), those of each input alone among them; or all inputs get a precision of
their own in each
dimension of the latent, measured as the ones with which the product errs least. The second has many more numbers to
find, so it must be better on hands that had no say in them: each half of the hands is judged with what the other half
told. Precisions that lose are not used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from cvhpe.evaluation.metrics import errors
from cvhpe.models.fusion import FusionParams, fuse
from cvhpe.plugin.contract import Posterior
from cvhpe.runs.run_dir import Run
from cvhpe.uncertainty.fusion import search
from cvhpe.uncertainty.tta_disagreement import AugmentedPosteriors, joints_mm

STEPS, RATE = 150, 0.1
BEGIN = 3.0
"""Logarithm of the precision beyond the prior's that every dimension begins with."""
LEAST_HANDS = 50


@dataclass(frozen=True)
class EncodedSet:
    """EncodedSet-out hands, encoded: a posterior ``[N, D]`` an input, and ``[N, J, 3]`` mm of truth.

    scale: ``[N]`` mm, what predictions in bones are multiplied by. again: the same hands turned and mirrored, where
    these are to tell how sure a prediction is.
    """

    posteriors: Mapping[str, Posterior]
    truth: Tensor
    scale: Tensor
    visible: Tensor
    again: Sequence[AugmentedPosteriors] = ()

    def part(self, rows: slice) -> EncodedSet:
        """Some of the hands, without their views."""
        cut = {name: Posterior(mu[rows], logvar[rows]) for name, (mu, logvar) in self.posteriors.items()}
        return EncodedSet(cut, self.truth[rows], self.scale[rows], self.visible[rows])

    def of(self, names: Sequence[str]) -> EncodedSet:
        """The same hands, seen by some of the inputs alone."""
        return replace(self, posteriors={name: self.posteriors[name] for name in names})


def error(run: Run, held: EncodedSet, posterior: Posterior) -> np.ndarray:
    """End-point errors mm of all visible joints, one long array."""
    with torch.inference_mode():
        predicted = joints_mm(run, posterior.mu, held.scale)
    return errors(predicted.numpy(), held.truth.nan_to_num().numpy())[held.visible.numpy()]


def best_fusion(run: Run, held: EncodedSet, names: Sequence[str]) -> FusionParams:
    """How the inputs ``names`` are fused with the least error on held-out hands, never more than that of one alone.

    Of fewer than :data:`LEAST_HANDS` hands weights alone are found. Other inputs of the hands have no say.
    """
    hands = held.of(names)

    def of(weights: Mapping[str, float]) -> float:
        return median_plus_mean([error(run, hands, fuse(hands.posteriors, weights))])

    weighed = FusionParams(weights=search(of, names), precisions={})
    if len(hands.scale) < LEAST_HANDS:
        return weighed
    half = len(hands.scale) // 2
    first, second = hands.part(slice(None, half)), hands.part(slice(half, None))
    judged = [
        error(run, one, fuse(one.posteriors, precisions=fit_precisions(run, other, names)))
        for one, other in ((first, second), (second, first))
    ]
    least = of(weighed["weights"])
    found = fit_precisions(run, hands, names)
    # The second is all but certain where the first holds, and is what was promised.
    if (
        median_plus_mean(judged) >= least
        or median_plus_mean([error(run, hands, fuse(hands.posteriors, precisions=found))]) > least
    ):
        return weighed
    return FusionParams(
        weights=dict.fromkeys(names, 1.0), precisions={name: one.tolist() for name, one in found.items()}
    )


def median_plus_mean(parts: Sequence[np.ndarray]) -> float:
    """Median and mean of errors, added: neither the usual hand nor the bad one may be forgotten."""
    joined = np.concatenate(parts)
    return float(np.median(joined) + joined.mean())


def fit_precisions(run: Run, held: EncodedSet, names: Sequence[str]) -> dict[str, Tensor]:
    """Precisions ``[D]``, above 1, with which the product of inputs errs least on some hands, found by descent."""
    dimensions = held.posteriors[names[0]].mu.shape[1]
    beyond = {name: torch.full((dimensions,), BEGIN, requires_grad=True) for name in names}
    optimiser = torch.optim.Adam(beyond.values(), lr=RATE)
    # Copies, because what was made in inference mode takes no part in a descent.
    truth, seen, scale = held.truth.nan_to_num(), held.visible.clone(), held.scale.clone()
    apart = {name: Posterior(*(one.clone() for one in held.posteriors[name])) for name in names}
    with torch.enable_grad():
        for _ in range(STEPS):
            latent = fuse(apart, precisions={name: 1 + one.exp() for name, one in beyond.items()}).mu
            away = (joints_mm(run, latent, scale) - truth).square().sum(-1).clamp_min(1e-12).sqrt()
            loss = (away * seen).sum() / seen.sum().clamp_min(1)
            optimiser.zero_grad()
            gradients = torch.autograd.grad(loss, list(beyond.values()))
            for one, gradient in zip(beyond.values(), gradients, strict=True):
                one.grad = gradient
            optimiser.step()
    return {name: 1 + one.detach().exp() for name, one in beyond.items()}
