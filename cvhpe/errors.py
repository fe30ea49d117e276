"""Errors that a user can fix: one line that says what, where and how; exit code 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """An error that the user can fix. The message is one line: what, where and how to fix it."""


class DataError(UserError):
    """A data file or folder that is missing or damaged; the message names it."""


def nearest(word: str, known: Iterable[str]) -> str:
    """Suggest the closest known word, for the end of an error message.

    Args:
        word: The unknown word.
        known: The words that exist.

    Returns:
        The suggestion, or all known words where none is close.

    Example:
        >>> nearest("join3d", ["joints3d", "rgb"])
        "did you mean 'joints3d'?"
        >>> nearest("ema", ["ema_decay", "beta"])
        "did you mean 'ema_decay'?"
        >>> nearest("zzz", ["rgb", "depth"])
        'have: depth, rgb'
    """
    names = sorted(known)
    containing = [name for name in names if len(word) > 2 and word in name]
    close = difflib.get_close_matches(word, names, 1, 0.75) or containing or difflib.get_close_matches(word, names, 1)
    return f"did you mean {close[0]!r}?" if close else f"have: {', '.join(names) or 'none'}"
