"""Fusion against Bayes' rule worked out on a grid, and what it promises about its weights."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cvhpe.models.fusion import FusionParams, fuse, sample_latents
from cvhpe.plugin.contract import Posterior
from cvhpe.uncertainty.fusion import (
    Calibration,
    calibration_of,
    fusion_params,
    input_key,
    modality_subsets,
    uncalibrated_warning,
)
from cvhpe.uncertainty.fusion_fit import CANDIDATES, search_weights
from cvhpe.uncertainty.sample_scaling import SampleScaling, sample_std

MU = st.floats(-2, 2)
DEVIATION = st.floats(0.1, 0.95)


def posterior(mu, deviation):
    return Posterior(torch.tensor([[mu]], dtype=torch.float64), torch.tensor([[2 * np.log(deviation)]]))


def normal(z, mu, deviation):
    return np.exp(-0.5 * ((z - mu) / deviation) ** 2) / deviation


@settings(max_examples=40, deadline=None)
@given(a=MU, b=MU, s=DEVIATION, t=DEVIATION, w=st.floats(0.05, 2))
def test_fusing_is_bayes_rule_with_one_prior(a, b, s, t, w):
    z = np.linspace(-12, 12, 200_001)
    prior = normal(z, 0, 1)
    density = prior * (normal(z, a, s) / prior) * (normal(z, b, t) / prior) ** w
    density /= density.sum()
    mean = (density * z).sum()
    variance = (density * (z - mean) ** 2).sum()
    got = fuse({"a": posterior(a, s), "b": posterior(b, t)}, {"b": w})
    assert float(got.mu) == pytest.approx(mean, abs=1e-4)
    assert float(got.logvar.exp()) == pytest.approx(variance, rel=1e-3)


@settings(max_examples=40, deadline=None)
@given(a=MU, b=MU, s=DEVIATION, t=DEVIATION)
def test_measured_precisions_stand_for_the_posteriors_own(a, b, s, t):
    z = np.linspace(-12, 12, 200_001)
    prior = normal(z, 0, 1)
    density = prior * (normal(z, a, s) / prior) * (normal(z, b, t) / prior)
    density /= density.sum()
    mean = (density * z).sum()
    said = {"a": posterior(a, 0.01), "b": posterior(b, 5.0)}
    got = fuse(said, precisions={"a": [1 / s**2], "b": [1 / t**2]})
    assert float(got.mu) == pytest.approx(mean, abs=1e-4)
    assert float(got.logvar.exp()) == pytest.approx((density * (z - mean) ** 2).sum(), rel=1e-3)
    many = {name: Posterior(one.mu.expand(4, 1), one.logvar.expand(4, 1)) for name, one in said.items()}
    assert fuse(many, precisions={"a": [9.0], "b": [4.0]}).logvar.shape == (4, 1)


def test_one_input_is_its_own_posterior_and_others_of_weight_0_are_ignored():
    a, b = Posterior(torch.randn(3, 4), -torch.rand(3, 4)), Posterior(torch.randn(3, 4), -torch.rand(3, 4))
    assert fuse({"a": a}, {"a": 0.1}) is a
    got = fuse({"a": a, "b": b}, {"a": 1.0, "b": 0.0})
    torch.testing.assert_close(got.mu, a.mu)
    torch.testing.assert_close(got.logvar, a.logvar)


def test_an_input_that_knows_less_than_the_prior_adds_no_precision():
    wide = Posterior(torch.zeros(1, 2), torch.full((1, 2), 1.5))
    sharp = Posterior(torch.ones(1, 2), torch.full((1, 2), -2.0))
    got = fuse({"wide": wide, "sharp": sharp})
    torch.testing.assert_close(got.logvar, sharp.logvar)
    torch.testing.assert_close(got.mu, sharp.mu)


def test_nothing_to_fuse_is_refused():
    with pytest.raises(ValueError, match="no posterior"):
        fuse({})


def test_the_search_is_never_worse_than_any_one_input():
    # a score with a valley that coordinate descent from equal weights would not leave
    def score(w):
        return abs(w["a"] - 1) + 5 * min(w["b"], 0.5) + w["c"]

    found = search_weights(score, ["a", "b", "c"])
    assert score(found) <= min(score({"a": 1.0, "b": 0.0, "c": 0.0}), score({"a": 0.0, "b": 1.0, "c": 0.0}))
    assert set(found.values()) <= set(CANDIDATES)


def test_samples_of_a_posterior_have_its_moments_and_repeat():
    q = Posterior(torch.tensor([[1.0, -2.0]]), torch.tensor([[0.0, -2.0]]))
    z = sample_latents(q, 4000, torch.Generator().manual_seed(0))
    assert z.shape == (4000, 1, 2)
    torch.testing.assert_close(z.mean(0), q.mu, atol=0.06, rtol=0)
    torch.testing.assert_close(z.std(0), (0.5 * q.logvar).exp(), atol=0.04, rtol=0)
    assert torch.equal(z, sample_latents(q, 4000, torch.Generator().manual_seed(0)))


def test_rescaled_samples_follow_students_t_distribution():
    generator = torch.Generator().manual_seed(0)
    centre = torch.tensor([[1.0, -2.0, 30.0]])
    samples = centre + torch.tensor([0.5, 0.1, 2.0]) * torch.randn(40000, 1, 3, generator=generator)
    wide = SampleScaling(3.0, 5.0).rescale_samples(samples, centre, generator)
    far = ((wide - centre) / torch.tensor([0.5, 0.1, 2.0]))[:, 0].numpy()
    for level in (0.1, 0.5, 0.9, 0.99):
        for k in range(3):
            near = 0.12 + 0.3 * (level > 0.9)
            assert np.quantile(far[:, k], level) == pytest.approx(3 * stats.t(5).ppf(level), abs=near)
    # a sample is one hand: all of it is as far out
    assert np.corrcoef(np.abs(far).T)[0, 1] > 0.1
    torch.testing.assert_close(SampleScaling(2.0).rescale_samples(samples, centre), 2 * samples - centre)


def test_spread_is_the_root_mean_square_distance():
    samples = torch.tensor([[[[3.0, 4.0, 0.0]]], [[[0.0, 0.0, 1.0]]]])
    assert float(sample_std(samples, torch.zeros(1, 1, 3))) == pytest.approx(np.sqrt((25 + 1) / 2))


def test_a_calibration_travels_as_plain_values():
    fused: FusionParams = {"weights": {"rgb": 0.3, "depth": 1.0}, "precisions": {"rgb": [1.5, 3.0]}}
    one = Calibration({"depth,rgb": fused}, {"rgb": SampleScaling(2.0, 5.0)}, 17, "training")
    assert calibration_of({"calibration": json.loads(json.dumps(one.as_dict()))}) == one
    assert (one.scaling(["rgb"]), one.scaling(["rgb", "joints2d"])) == (SampleScaling(2.0, 5.0), None)
    assert calibration_of({}) is None


def test_every_set_of_a_few_inputs_is_calibrated_and_of_many_each_two_and_all():
    assert list(modality_subsets(["a"])) == [("a",)]
    assert list(modality_subsets(["a", "b"])) == [("a",), ("b",), ("a", "b")]
    assert len(list(modality_subsets("abcd"))) == 15
    assert [len(one) for one in modality_subsets("abcdef")] == [1] * 6 + [2] * 15 + [6]


def test_a_set_of_inputs_is_fused_as_measured_for_it_in_whatever_order_it_comes():
    both: FusionParams = {"weights": {"rgb": 0.0, "joints2d": 1.0}, "precisions": {}}
    calibration = Calibration({input_key(["rgb", "joints2d"]): both})
    assert fusion_params(calibration, ["rgb", "joints2d"]) == fusion_params(calibration, ["joints2d", "rgb"]) == both
    assert uncalibrated_warning(calibration, ["rgb", "joints2d"]) == uncalibrated_warning(None, ["rgb"]) == ""
    for known, names in ((calibration, ["rgb", "depth"]), (None, ["rgb", "joints2d"])):
        assert fusion_params(known, names) == {"weights": dict.fromkeys(names, 1.0), "precisions": {}}
        assert uncalibrated_warning(known, names).startswith(
            f"the fusion of {names[0]} and {names[1]} is not calibrated"
        )
