"""A small data set and a run on it that was never stopped."""

from __future__ import annotations

import functools
import os

import pytest
from helpers.hands import joints_file
from helpers.subprocess_runs import assert_same_run, run


@pytest.fixture(scope="session")
def hands(tmp_path_factory):
    os.environ.setdefault("CVHPE_CACHE", str(tmp_path_factory.mktemp("cache")))
    return joints_file(tmp_path_factory.mktemp("hands") / "hands.npz")


@pytest.fixture(scope="session")
def undisturbed(hands, tmp_path_factory):
    """Folder of a run that was never stopped."""
    out = tmp_path_factory.mktemp("runs") / "undisturbed"
    run(hands, out)
    return out


@pytest.fixture
def same_end(undisturbed):
    """Compare a run with the undisturbed one: weights, moments, averages, every logged loss, to the bit."""
    return functools.partial(assert_same_run, undisturbed)
