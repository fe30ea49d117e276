"""What one check of ``cvhpe data verify`` finds."""

from __future__ import annotations

from typing import Literal, NamedTuple

Verdict = Literal["ok", "note", "warn", "fatal"]
"""``fatal``: would spoil a training. ``warn``: worth a look. ``note``: there is no expected value."""


class Finding(NamedTuple):
    """The name of a check, the value it found, the expected one and the verdict."""

    check: str
    found: str
    expected: str = ""
    verdict: Verdict = "ok"
