"""Fit the fusion of several inputs on held-out hands.

Two parametrisations are fitted: a weight for each input, which scales the posteriors' own precisions, and a precision
for each input and latent dimension in place of them. The second has many more parameters and may overfit. It is used
only if it has the lower error in two-fold cross-validation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from cvhpe.evaluation.metrics import errors
from cvhpe.models.fusion import FusionParams, fuse
from cvhpe.plugin.contract import Posterior
from cvhpe.runs.run_dir import Run
from cvhpe.uncertainty.tta_disagreement import AugmentedPosteriors, decode_joints_mm

CANDIDATES = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
"""Weights that are tried for each input."""
STEPS, LR = 150, 0.1
INITIAL_LOG_PRECISION = 3.0
"""Initial logarithm of the precision less the prior's."""
MIN_HANDS = 50
"""With fewer hands only weights are fitted."""


@dataclass(frozen=True)
class EncodedSet:
    """Held-out hands, encoded.

    Attributes:
        posteriors: Input -> ``[N, D]``.
        truth: ``[N, J, 3]`` mm.
        scale: ``[N]`` mm, length of the unit of predictions.
        visible: ``[N, J]`` bool, joints that count.
        views: The same hands under TTA views; empty if the TTA disagreement is not used.
    """

    posteriors: Mapping[str, Posterior]
    truth: Tensor
    scale: Tensor
    visible: Tensor
    views: Sequence[AugmentedPosteriors] = ()

    def rows(self, rows: slice) -> EncodedSet:
        """Some of the hands, without TTA views."""
        posteriors = {name: Posterior(mu[rows], logvar[rows]) for name, (mu, logvar) in self.posteriors.items()}
        return EncodedSet(posteriors, self.truth[rows], self.scale[rows], self.visible[rows])

    def inputs(self, names: Sequence[str]) -> EncodedSet:
        """The hands with some of the inputs only."""
        return replace(self, posteriors={name: self.posteriors[name] for name in names})


def visible_errors(run: Run, encoded: EncodedSet, posterior: Posterior) -> np.ndarray:
    """End-point errors of the visible joints, predicted from posterior means.

    Args:
        run: The run.
        encoded: The hands.
        posterior: ``[N, D]``, of some input or fusion.

    Returns:
        ``(M,)`` mm.
    """
    with torch.inference_mode():
        predicted = decode_joints_mm(run, posterior.mu, encoded.scale)
    return errors(predicted.numpy(), encoded.truth.nan_to_num().numpy())[encoded.visible.numpy()]


def median_plus_mean(errors_mm: np.ndarray) -> float:
    """The objective of the fits: the median stands for typical hands, the mean for hard ones."""
    return float(np.median(errors_mm) + errors_mm.mean())


def best_fusion(run: Run, encoded: EncodedSet, names: Sequence[str]) -> FusionParams:
    """Fit the fusion of some inputs. On these hands it is at least as good as each input alone.

    Args:
        run: The run.
        encoded: Held-out hands.
        names: The inputs; others of ``encoded`` are ignored.

    Returns:
        Weights, or precisions if those generalise better.
    """
    hands = encoded.inputs(names)

    def objective(weights: Mapping[str, float]) -> float:
        return median_plus_mean(visible_errors(run, hands, fuse(hands.posteriors, weights)))

    def errors_with(fitted_on: EncodedSet, tested_on: EncodedSet) -> np.ndarray:
        fused = fuse(tested_on.posteriors, precisions=fit_precisions(run, fitted_on, names))
        return visible_errors(run, tested_on, fused)

    weights = search_weights(objective, names)
    weighted = FusionParams(weights=weights, precisions={})
    if len(hands.scale) < MIN_HANDS:
        return weighted
    half = len(hands.scale) // 2
    first, second = hands.rows(slice(None, half)), hands.rows(slice(half, None))
    held_out_errors = np.concatenate([errors_with(second, first), errors_with(first, second)])
    precisions = fit_precisions(run, hands, names)
    fused = fuse(hands.posteriors, precisions=precisions)
    best = objective(weights)
    # Errors on the fitted hands themselves are checked too, which keeps the guarantee about single inputs.
    if median_plus_mean(held_out_errors) >= best or median_plus_mean(visible_errors(run, hands, fused)) > best:
        return weighted
    return FusionParams(
        weights=dict.fromkeys(names, 1.0), precisions={name: p.tolist() for name, p in precisions.items()}
    )


def search_weights(
    objective: Callable[[Mapping[str, float]], float], names: Sequence[str], rounds: int = 2
) -> dict[str, float]:
    """Minimise an objective over :data:`CANDIDATES` by coordinate descent.

    It starts from the best of equal weights and each input alone, so it is never worse than these.

    Args:
        objective: ``weights -> value``.
        names: The inputs.
        rounds: Passes over all inputs.

    Returns:
        Input -> weight.

    Example:
        >>> search_weights(lambda w: (w["a"] - 0.3) ** 2 + w["b"], ["a", "b"])
        {'a': 0.3, 'b': 0.0}
    """
    starts = [{n: float(n == alone) for n in names} for alone in names] + [dict.fromkeys(names, 1.0)]
    best = min(starts, key=objective)
    least = objective(best)
    for _ in range(rounds):
        for name in names:
            for weight in CANDIDATES:
                trial = {**best, name: weight}
                if any(trial.values()) and (value := objective(trial)) < least:
                    best, least = trial, value
    return best


def fit_precisions(run: Run, encoded: EncodedSet, names: Sequence[str]) -> dict[str, Tensor]:
    """Fit the precision of each input in each latent dimension by gradient descent on the mean error.

    Args:
        run: The run.
        encoded: Held-out hands.
        names: The inputs.

    Returns:
        Input -> ``[D]``, above 1, the prior's.
    """
    dimensions = encoded.posteriors[names[0]].mu.shape[1]
    logs = {name: torch.full((dimensions,), INITIAL_LOG_PRECISION, requires_grad=True) for name in names}
    optimiser = torch.optim.Adam(logs.values(), lr=LR)
    # Cloned, since tensors made in inference mode cannot take part in autograd.
    truth, visible, scale = encoded.truth.nan_to_num(), encoded.visible.clone(), encoded.scale.clone()
    posteriors = {name: Posterior(*(t.clone() for t in encoded.posteriors[name])) for name in names}
    with torch.enable_grad():
        for _ in range(STEPS):
            z = fuse(posteriors, precisions={name: 1 + log.exp() for name, log in logs.items()}).mu
            distance = (decode_joints_mm(run, z, scale) - truth).square().sum(-1).clamp_min(1e-12).sqrt()
            loss = (distance * visible).sum() / visible.sum().clamp_min(1)
            optimiser.zero_grad()
            gradients = torch.autograd.grad(loss, list(logs.values()))
            for log, gradient in zip(logs.values(), gradients, strict=True):
                log.grad = gradient
            optimiser.step()
    return {name: 1 + log.detach().exp() for name, log in logs.items()}
