"""Regions of posterior samples, against samples whose distribution is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cvhpe.uncertainty.coverage import LEVELS, NUM_SAMPLES, coverage, normalised_radius


def hands(n, seed, tails=False):
    generator = np.random.default_rng(seed)
    scale = np.sqrt(4 / generator.chisquare(4, n)) if tails else np.ones(n)
    return torch.tensor(generator.normal(size=(n, 21, 3)) * scale[:, None, None])


@pytest.mark.parametrize("tails", [False, True])
def test_samples_of_the_truths_own_distribution_cover_what_they_promise(tails):
    drawn = torch.stack([hands(500, seed, tails) for seed in range(NUM_SAMPLES)])
    found = coverage(drawn, hands(500, 1000, tails), torch.ones(500, 21, dtype=torch.bool))
    np.testing.assert_allclose(found, LEVELS, atol=0.03)


def test_a_region_is_of_one_joint_and_moves_with_its_samples():
    drawn = torch.stack([hands(40, seed) for seed in range(NUM_SAMPLES)])
    truth = hands(40, 99)
    away = torch.tensor([5.0, -3.0, 2.0], dtype=torch.float64)
    torch.testing.assert_close(
        normalised_radius(drawn + away, truth + away, LEVELS), normalised_radius(drawn, truth, LEVELS)
    )
    wide = drawn.clone()
    wide[:, :, 4] *= 2
    changed = (normalised_radius(wide, truth, LEVELS) != normalised_radius(drawn, truth, LEVELS)).any(0).any(0)
    assert changed.nonzero().flatten().tolist() == [4]


def test_joints_that_do_not_count_do_not_count():
    drawn = torch.stack([hands(10, seed) for seed in range(NUM_SAMPLES)])
    truth = drawn.mean(0)
    truth[:, 3] = float("nan")
    counted = torch.ones(10, 21, dtype=torch.bool)
    counted[:, 3] = False
    assert coverage(drawn, truth, counted) == [1.0, 1.0, 1.0]
