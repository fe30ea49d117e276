"""Exclusive locks between processes. A lock ends with the process that holds it, however that ends."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cvhpe.errors import UserError


@contextmanager
def file_lock(path: Path, *, wait: bool) -> Iterator[bool]:
    """Hold an exclusive lock on a file, which is made if it does not exist.

    Args:
        path: the lock file.
        wait: whether to wait for another holder to release it.

    Yields:
        Whether the lock is held: not on a platform or network disk without locks, where everybody passes.

    Raises:
        BlockingIOError: If another process holds the lock and ``wait`` is false.
    """
    try:
        import fcntl
    except ImportError:
        yield False
        return
    handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
    locked = True
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            locked = False
        yield locked
    finally:
        os.close(handle)


@contextmanager
def run_lock(path: Path) -> Iterator[None]:
    """Hold a run folder for this process alone.

    Args:
        path: the run folder, made if it does not exist.

    Yields:
        Nothing; the lock is held.

    Raises:
        UserError: If another process writes the folder, or it cannot be written.
    """
    with ExitStack() as stack:
        try:
            path.mkdir(parents=True, exist_ok=True)
            stack.enter_context(file_lock(path / ".lock", wait=False))
        except BlockingIOError:
            raise UserError(f"{path}: another run is writing this folder; choose another --out") from None
        except OSError as error:
            raise UserError(f"{path}: cannot be written: {error.strerror or error}") from None
        yield
