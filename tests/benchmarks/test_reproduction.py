"""The page of reproduced numbers shows the kept results."""

from __future__ import annotations

import copy

import pytest
from reproduce import PAGE, difference, load, over_seeds, with_tables


def test_the_tables_of_the_page_are_those_of_the_kept_results():
    page, results = PAGE.read_text(encoding="utf-8"), load()
    assert with_tables(page, results) == page
    other = copy.deepcopy(results)
    other["frames-best-v1"]["0"]["epe_median_mm"] += 1
    assert with_tables(page, other) != page


def test_a_mean_over_seeds_has_their_number_and_range():
    assert over_seeds([]) == "not run"
    assert over_seeds([10.234]) == "10.23 (1 seed)"
    assert over_seeds([1.0, 4.0, 2.5]) == "2.50 (1.00 to 4.00, 3 seeds)"
    results = {"a": {"0": {"epe_median_mm": 3.0}, "1": {"epe_median_mm": 5.0}}, "b": {"1": {"epe_median_mm": 4.5}}}
    assert difference("a", "b", results) == pytest.approx([0.5])  # of the seeds that both have
