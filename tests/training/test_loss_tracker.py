"""Which losses are a divergence, which are not, and that only divergence is named."""

from __future__ import annotations

import math

import pytest
import torch

from cvhpe.models.pairs import Pair
from cvhpe.models.vae import Losses
from cvhpe.training.distributed import ProcessGroup
from cvhpe.training.loss_tracker import LossTracker

A, B = Pair("rgb", "joints3d"), Pair("rgb", "rgb")


def add(tracker, step, total, first, kl, second=None):
    """Add a step: the total, the losses of A and, if the batch serves it, of B, and the KL of both."""
    pairs = {A: first} if second is None else {A: first, B: second}
    reconstruction = {p: torch.tensor(v) for p, v in pairs.items()}
    tracker.add(step, Losses(torch.tensor(total), reconstruction, dict.fromkeys(pairs, torch.tensor(kl))))


def divergence_of(rows, each=10):
    """The first divergence in ``rows`` of (total, A, KL[, B]), read every ``each`` steps; None."""
    tracker = LossTracker([A, B], ProcessGroup())
    for step, row in enumerate(rows):
        add(tracker, step, *row)
        if (step + 1) % each == 0 or step + 1 == len(rows):
            divergence = tracker.read().divergence
            if divergence is not None:
                return divergence
    return None


USUAL = [(0.3, 0.2, 20.0, 0.1)] * 25


@pytest.mark.parametrize("before", [1, 4, 10, 25])
def test_a_kl_that_blows_up_is_named_with_its_step(before):
    """8e14, finite, as in a run without clipping."""
    divergence = divergence_of([*USUAL[:before], (8e9, 0.2, 8e14, 0.1), (8e9, 0.2, 8e14, 0.1)])
    assert divergence is not None
    assert divergence.step == before
    assert str(divergence) == f"step {before}: the KL of rgb:joints3d, rgb:rgb is 8.0e+14, where 2.0e+01 is usual"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ((math.nan, math.nan, 20.0, 0.1), "the loss of rgb:joints3d is not finite"),
        ((math.inf, 0.2, math.inf, 0.1), "the KL of rgb:joints3d, rgb:rgb is not finite"),
        ((1e9, 1e9, 1e9, 0.1), "the loss of rgb:joints3d is 1.0e+09, where 2.0e-01 is usual"),
        ((1e7, 0.2, 20.0, 0.1), "the loss of all pairs is 1.0e+07, where 3.0e-01 is usual"),
        ((math.nan, math.nan, 1e9, 1e9), "the loss of rgb:joints3d, rgb:rgb is not finite"),
    ],
)
def test_the_diverged_losses_are_named(row, said):
    assert str(divergence_of([*USUAL, row])) == f"step 25: {said}"


def test_nan_in_the_very_first_step():
    assert str(divergence_of([(math.nan, math.nan, 1.0, 0.1)])) == "step 0: the loss of rgb:joints3d is not finite"


def decade(start, stop, n=60):
    return [10 ** (start + (stop - start) * i / (n - 1)) for i in range(n)]


HEALTHY = {
    "posteriors that collapse and recover": [(0.3, 0.2, k) for k in [*decade(1, -7), *decade(-7, 2)]],
    "an autoencoder without beta": [(0.3, 0.2, k) for k in decade(-2, 7, 300)],
    "learned by heart, then a new sample": [(v, v, 20.0) for v in decade(1, -9)] + [(2.0, 2.0, 25.0)],
    "a plugin's loss in square millimetres, summed": [(v, v, 20.0) for v in decade(10, 6)],
    "a wild beginning": [(v, v, 20.0) for v in decade(5, -1)],
    "a single step a thousand times worse": [*USUAL, (300.0, 200.0, 2e4, 100.0), *USUAL],
    "a likelihood below zero": [(-v, -v, 20.0) for v in decade(0, 4)],
}


@pytest.mark.parametrize("what", HEALTHY)
@pytest.mark.parametrize("each", [1, 50])
def test_a_healthy_run_is_never_stopped(what, each):
    assert divergence_of(HEALTHY[what], each) is None


def test_a_pair_that_some_batches_lack_is_measured_by_those_that_have_it():
    rows = [(0.3, 0.2, 20.0), (0.9, 0.2, 20.0, 0.6)] * 20
    assert divergence_of(rows) is None
    assert str(divergence_of([*rows, (2e8, 0.2, 20.0, 2e8)])) == (
        "step 40: the loss of rgb:rgb is 2.0e+08, where 6.0e-01 is usual"
    )
