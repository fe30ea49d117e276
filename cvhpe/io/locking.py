"""Exclusive locks on folders."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cvhpe.errors import UserError


@contextmanager
def run_lock(path: Path) -> Iterator[None]:
    """Hold a run folder for this process alone; a second run told to write it is refused."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        handle = os.open(path / ".lock", os.O_CREAT | os.O_RDWR)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"{path}: another run is writing this folder; choose another --out") from None
        yield
    finally:
        os.close(handle)
