"""Which samples a data set without a split of its own holds out for validation."""

from __future__ import annotations

import numpy as np

Array = np.ndarray

HOLDOUT_FRACTION = 0.1
_SEED = 20180618


def split_units(group: Array) -> Array:
    """The unit that a split must not divide: the group, or the sample itself if its group is -1 (unknown).

    Args:
        group: int ``(N,)``.

    Returns:
        int ``(N,)``; samples of one unit share a number.

    Example:
        >>> split_units(np.array([5, -1, 5, -1]))
        array([ 5, -2,  5, -4])
    """
    return np.where(group >= 0, group, -1 - np.arange(len(group)))


def holdout_mask(units: Array, fraction: float = HOLDOUT_FRACTION) -> Array:
    """Which samples are held out: always the same ones, whole units only, at least one of two units.

    Args:
        units: int ``(N,)``, see :func:`split_units`.
        fraction: share of the units to hold out.

    Returns:
        bool ``(N,)``.

    Example:
        >>> int(holdout_mask(np.repeat(np.arange(20), 5)).sum())
        10
    """
    unique = np.unique(units)
    count = min(max(round(len(unique) * fraction), 1), len(unique) - 1)
    return np.isin(units, np.random.default_rng(_SEED).permutation(unique)[:count])
