"""Fitted fusions of known posteriors, against Bayes' rule."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from cvhpe.models.fusion import fuse
from cvhpe.plugin.contract import Posterior
from cvhpe.uncertainty.fusion_fit import (
    MIN_HANDS,
    EncodedSet,
    best_fusion,
    fit_precisions,
    median_plus_mean,
    search_weights,
    visible_errors,
)

NOISE = {"a": [0.02, 0.02, 1.0, 1.0], "b": [1.0, 1.0, 0.02, 0.3]}
"""Variance of what each input sees of each dimension of the latent."""


def known(hands, noise, run_lock=-4.0, seed=0):
    """Hands of a linear decoder, and inputs that all claim to be equally sure of everything."""
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(4, 63, generator=torch.Generator().manual_seed(1))
    matrix[:, :3] = 0  # the root

    def decode(_, z):
        return (z @ matrix).unflatten(-1, (21, 3))

    run = SimpleNamespace(model=SimpleNamespace(decode=decode), metadata=SimpleNamespace(layout="hand21"))
    latent = torch.randn(hands, 4, generator=generator)
    posteriors = {}
    for name, variances in noise.items():
        variance = torch.tensor(variances)
        seen = latent + variance.sqrt() * torch.randn(hands, 4, generator=generator)
        # Bayes' rule for one input under the prior N(0, I)
        posteriors[name] = Posterior(seen / variance / (1 + 1 / variance), torch.full((hands, 4), run_lock))
    truth = 30 * decode("joints3d", latent)
    held = EncodedSet(posteriors, truth, torch.full((hands,), 30.0), torch.ones(hands, 21, dtype=torch.bool))
    return run, held


def exact(held, noise):
    """The posterior's mean that Bayes' rule gives for all inputs, written without :func:`fuse`."""
    beyond = {name: 1 / torch.tensor(one) for name, one in noise.items()}
    seen = {name: held.posteriors[name].mu * (1 + beyond[name]) / beyond[name] for name in noise}
    total = 1 + sum(beyond.values())
    mean = sum(beyond[name] * seen[name] for name in noise) / total
    return Posterior(mean, torch.zeros_like(mean))


def test_measured_precisions_are_those_of_bayes_rule():
    run, held = known(3000, NOISE)
    found = fit_precisions(run, held, list(NOISE))
    # How much of each input's mean is in the product's; all precisions times ten would change it by a few hundredths.
    total = 1 + sum(found.values()) - len(found)
    true = {name: 1 + 1 / torch.tensor(variances) for name, variances in NOISE.items()}
    for name in NOISE:
        torch.testing.assert_close(found[name] / total, true[name] / (sum(true.values()) - 1), atol=0.05, rtol=0.05)
    _, fresh = known(3000, NOISE, seed=7)
    best = median_plus_mean(visible_errors(run, fresh, exact(fresh, NOISE)))
    assert median_plus_mean(visible_errors(run, fresh, fuse(fresh.posteriors, precisions=found))) == pytest.approx(
        best, rel=0.01
    )


def test_inputs_that_see_different_things_are_better_together():
    run, held = known(400, NOISE)
    how = best_fusion(run, held, list(NOISE))
    _, fresh = known(3000, NOISE, seed=7)
    fused = median_plus_mean(visible_errors(run, fresh, fuse(fresh.posteriors, **how)))
    alone = [median_plus_mean(visible_errors(run, fresh, one)) for one in fresh.posteriors.values()]
    weights = search_weights(
        lambda w: median_plus_mean(visible_errors(run, held, fuse(held.posteriors, w))), list(NOISE)
    )
    weighed = median_plus_mean(visible_errors(run, fresh, fuse(fresh.posteriors, weights)))
    assert fused < 0.8 * min(*alone, weighed)


def test_an_input_that_knows_all_is_not_spoiled_by_one_that_knows_nothing():
    noise = {"a": [1e-4] * 4, "b": [50.0] * 4}
    run, held = known(200, noise)
    how = best_fusion(run, held, list(noise))
    fused = median_plus_mean(visible_errors(run, held, fuse(held.posteriors, **how)))
    assert fused <= 1.001 * median_plus_mean(visible_errors(run, held, held.posteriors["a"]))


@pytest.mark.parametrize("precise", [False, True])
def test_some_inputs_are_fused_as_if_there_were_no_others(precise, monkeypatch):
    if not precise:
        monkeypatch.setattr("cvhpe.uncertainty.fusion_fit.MIN_HANDS", 10_000)
    noise = {**NOISE, "c": [1e-4] * 4}
    run, held = known(400, noise)
    how = best_fusion(run, held, ["a", "b"])
    assert how == best_fusion(run, held.inputs(["a", "b"]), ["a", "b"])
    assert bool(how["precisions"]) == precise
    fused = median_plus_mean(visible_errors(run, held, fuse(held.inputs(["a", "b"]).posteriors, **how)))
    assert fused <= min(median_plus_mean(visible_errors(run, held, held.posteriors[name])) for name in "ab")


def test_precisions_need_enough_hands():
    run, held = known(MIN_HANDS, NOISE)
    assert best_fusion(run, held.rows(slice(1, None)), list(NOISE))["precisions"] == {}
    assert set(best_fusion(run, held, list(NOISE))["precisions"]) == set(NOISE)
