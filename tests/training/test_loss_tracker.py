"""Which steps end a run: losses that are not finite, or a million times what is usual; and which must not."""

from __future__ import annotations

import math

import pytest
import torch

from cvhpe.models.pairs import Pair
from cvhpe.models.vae import Losses
from cvhpe.training.batching import MicroBatch
from cvhpe.training.distributed import ProcessGroup
from cvhpe.training.loss_tracker import LossTracker

A, B = Pair("rgb", "joints3d"), Pair("rgb", "rgb")


def note(ledger, step, total, first, kl, second=None):
    """A step of one process: the loss of all, of A, of B where the batch serves it, and the KL of both."""
    pairs = {A: first} if second is None else {A: first, B: second}
    losses = Losses(
        torch.tensor(total),
        {p: torch.tensor(v) for p, v in pairs.items()},
        dict.fromkeys(pairs, torch.tensor(kl)),
    )
    ledger.add(step, [(losses, MicroBatch(None, {}, dict.fromkeys(pairs, 1.0)))])


def broken_in(rows, each=10):
    """The first broken step among ``rows`` of (total, A, KL[, B]), read every ``each`` steps; None."""
    ledger = LossTracker([A, B], ProcessGroup(), torch.device("cpu"))
    for step, row in enumerate(rows):
        note(ledger, step, *row)
        if (step + 1) % each == 0 or step + 1 == len(rows):
            assert ledger.is_finite() == (ledger._broken(torch.stack(ledger.rows).double(), ledger._has()) is None)
            found = ledger.read().broken
            if found is not None:
                return found
    return None


USUAL = [(0.3, 0.2, 20.0, 0.1)] * 25


@pytest.mark.parametrize("before", [1, 4, 10, 25])
def test_a_kl_that_blows_up_is_named_with_its_step(before):
    """As it was seen in a run without clipping: 8e14, finite."""
    broken = broken_in([*USUAL[:before], (8e9, 0.2, 8e14, 0.1), (8e9, 0.2, 8e14, 0.1)])
    assert broken is not None
    assert broken.step == before
    assert str(broken) == f"step {before}: the KL of rgb:joints3d, rgb:rgb is 8.0e+14, where 2.0e+01 is usual"


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
def test_what_is_broken_is_said_in_words(row, said):
    assert str(broken_in([*USUAL, row])) == f"step 25: {said}"


def test_nan_in_the_very_first_step():
    assert str(broken_in([(math.nan, math.nan, 1.0, 0.1)])) == "step 0: the loss of rgb:joints3d is not finite"


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
    assert broken_in(HEALTHY[what], each) is None


def test_a_pair_that_some_batches_lack_is_measured_by_those_that_have_it():
    rows = [(0.3, 0.2, 20.0), (0.9, 0.2, 20.0, 0.6)] * 20
    assert broken_in(rows) is None
    assert str(broken_in([*rows, (2e8, 0.2, 20.0, 2e8)])) == (
        "step 40: the loss of rgb:rgb is 2.0e+08, where 6.0e-01 is usual"
    )
