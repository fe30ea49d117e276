"""Fixtures of all tests."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from helpers.trained_runs import _places, everything, held_everything, held_lift, lift  # noqa: F401

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Samples of public data sets, beside the repository; the test is skipped without them."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"genuine data samples are not at {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20180618)


@pytest.fixture(autouse=True)
def _seeds() -> None:
    """Seed every test alike, alone or in a suite."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  (what scipy and third parties draw from)
    import sys

    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
