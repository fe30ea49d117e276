"""Make a folder once: whole or not at all, by one process at a time, found by every later run."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cvhpe.errors import DataError


def make_once(place: Path, last: str, make: Callable[[Path], None]) -> Path:
    """The folder ``place``, made by ``make(folder)`` where it is not there yet; ``last`` is a file of a whole one.

    ``make`` fills a folder beside ``place`` that is renamed at the end, so that nothing half-written is ever
    found; what a fault or Ctrl-C leaves is removed, what a killed process left is removed by the next one.
    Another process that wants the same waits. Raises ``DataError`` for a disk that is full or not writable.
    """
    if (place / last).exists():
        return place
    with _disk_faults(place.parent):
        place.parent.mkdir(parents=True, exist_ok=True)
        with _alone(place):
            if (place / last).exists():  # made while we waited
                return place
            part = place.with_name(f"{place.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
            part.mkdir()
            try:
                make(part)
                _move(part, place, last)
            finally:
                shutil.rmtree(part, ignore_errors=True)
    return place


def _move(part: Path, place: Path, last: str) -> None:
    try:
        os.replace(part, place)
    except OSError:
        # somebody without our lock was quicker, or what lies there is the rest of a deleted folder
        if (place / last).exists():
            return
        shutil.rmtree(place, ignore_errors=True)
        os.replace(part, place)


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Let one process at a time make a folder; the lock falls with its holder, however that ends."""
    try:
        import fcntl
    except ImportError:  # elsewhere two may make the same at once: each in its own folder, the first one stays
        yield
        return
    with place.with_name(f"{place.name}.lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX)
        except OSError as error:  # a network disk without locks
            if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            yield
            return
        for rest in place.parent.glob(f"{place.name}.*.part"):  # of a process that was killed
            shutil.rmtree(rest, ignore_errors=True)
        yield


@contextmanager
def _disk_faults(folder: Path) -> Iterator[None]:
    """Turn a full or failing disk into one line."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise DataError(
                f"{folder}: the disk is full; free space there, or set CVHPE_CACHE to another disk"
            ) from None
        raise DataError(f"{folder}: cannot be written ({error}); set CVHPE_CACHE to a folder that can") from None
