"""House rules of ``tests/helpers/style_checks.py`` over the whole repository."""

from __future__ import annotations

from helpers import style_checks


def test_no_word_of_the_glossarys_left_column() -> None:
    assert style_checks.private_words() == []


def test_docstrings_have_their_sections() -> None:
    assert style_checks.docstring_gaps() == []


def test_public_names_are_unique() -> None:
    assert style_checks.repeated_names() == []


def test_tests_and_benchmarks_use_public_names() -> None:
    assert style_checks.private_access() == []


def test_files_have_at_most_400_lines() -> None:
    assert style_checks.long_files() == []


def test_few_modules_stand_at_the_top() -> None:
    assert len(style_checks.top_level_modules()) <= 12
