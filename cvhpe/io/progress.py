"""Types of the functions that report progress."""

from __future__ import annotations

from collections.abc import Callable

ProgressCallback = Callable[[int, int], None]
"""``(done, total)``, called from time to time."""

StageProgressCallback = Callable[[str, int, int], None]
"""``(stage, done, total)``, called from time to time."""
