"""Comma-separated lists, as options and environment variables give them."""

from __future__ import annotations


def comma_list(text: str) -> list[str]:
    """The items of a comma-separated list, in order; spaces around items and empty items are dropped.

    >>> comma_list("rgb, joints3d,")
    ['rgb', 'joints3d']
    """
    return [item for part in text.split(",") if (item := part.strip())]
