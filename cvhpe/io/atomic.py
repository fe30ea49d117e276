"""Files and folders that are written whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cvhpe.errors import DataError, UserError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``, and put what was written there in its place, whole.

    The file is synced before the rename and its folder after, so that at any instant ``path`` is either
    the old file or the new one. A full disk or a folder that cannot be written is a :class:`UserError`.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        # safetensors makes files that only their owner can read; a run is shared as far as the umask says.
        mask = os.umask(0o077)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise UserError(write_fault(path, error)) from None
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_fault(path: Path, error: Exception) -> str:
    """What went wrong while ``path`` was written, in one line; the file that was there is untouched."""
    text = str(error)
    told = re.search(r"\(os error (\d+)\)", text)  # safetensors has the system's number in its text alone
    number = int(told[1]) if told else getattr(error, "errno", None)
    if number == errno.ENOSPC or "No space left" in text or "code: 28" in text:
        return f"{path}: the disk is full; free some space and go on with --resume"
    return f"{path}: cannot be written: {os.strerror(int(told[1])) if told else text}"


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


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
