"""Which samples are held out."""

from __future__ import annotations

import numpy as np

from cvhpe.data.holdout import holdout_mask, split_units


def test_whole_units_are_held_out_and_some_are_left() -> None:
    units = np.repeat(np.arange(30), 4)
    held_out = holdout_mask(units)
    assert len(np.unique(units[held_out])) == 3
    assert not set(units[held_out]) & set(units[~held_out])
    assert holdout_mask(np.arange(2)).sum() == 1
    assert holdout_mask(np.zeros(5)).sum() == 0


def test_samples_without_a_group_are_units_of_their_own() -> None:
    assert len(np.unique(split_units(np.array([-1, -1, 0, 1, 1])))) == 4
