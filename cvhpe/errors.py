"""What the user can mend is a :class:`UserError`: one line of what, where and how, exit code 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A fault the user can mend. The message is one line: what, where, and how to mend it."""


class DataError(UserError):
    """A data file or folder that cannot be used as it is; the message names the file."""


def nearest(word: str, known: Iterable[str]) -> str:
    """Say what might have been meant, for the end of an error message.

    >>> nearest("join3d", ["joints3d", "rgb"])
    "did you mean 'joints3d'?"
    >>> nearest("zzz", ["rgb", "depth"])
    'have: depth, rgb'
    """
    names = sorted(known)
    close = difflib.get_close_matches(word, names, 1)
    return f"did you mean {close[0]!r}?" if close else f"have: {', '.join(names) or 'none'}"
