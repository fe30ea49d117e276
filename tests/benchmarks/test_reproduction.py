"""The page of reproduced numbers holds what was measured, and nothing that somebody typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from reproduce import PAGE, RESULTS
from tables import less, over_seeds, with_tables

KEPT = json.loads(Path(RESULTS).read_text(encoding="utf-8"))


def test_the_tables_of_the_page_are_those_of_the_kept_figures():
    page = Path(PAGE).read_text(encoding="utf-8")
    assert with_tables(page, KEPT) == page
    other = json.loads(json.dumps(KEPT))
    other["frames-best-v1"]["0"]["epe_median_mm"] += 1
    assert with_tables(page, other) != page


def test_a_mean_over_seeds_says_how_many_and_how_far_apart():
    assert over_seeds([]) == "not run"
    assert over_seeds([10.234]) == "10.23 (1 seed)"
    assert over_seeds([1.0, 4.0, 2.5]) == "2.50 (1.00 to 4.00, 3 seeds)"
    results = {"a": {"0": {"epe_median_mm": 3.0}, "1": {"epe_median_mm": 5.0}}, "b": {"1": {"epe_median_mm": 4.5}}}
    assert less("a", "b", results) == pytest.approx([0.5])  # seed by seed, of those that both have
