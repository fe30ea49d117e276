"""Files and folders that appear complete or not at all."""

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
from cvhpe.io.locking import file_lock

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Replace a file by what is written to a temporary one beside it.

    The temporary file is synced before the rename and the folder after it, so that at any instant ``path`` is
    either the old file or the new one.

    Args:
        path: the file to write; its folder is made if it does not exist.

    Yields:
        The temporary path to write to.

    Raises:
        UserError: If the disk is full or the folder cannot be written. The old file is untouched.
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
        raise UserError(write_error(path, error)) from None
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file with :func:`atomic_file`.

    Args:
        path: the file to write.
        text: its whole content.
    """
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def atomic_folder(path: Path, is_complete: Callable[[], bool]) -> Iterator[Path]:
    """Fill a temporary folder that is renamed to ``path`` at the end, or removed if an exception passes.

    Args:
        path: the folder to make; its parent must exist. An incomplete folder that is there is replaced.
        is_complete: whether ``path`` is already what is being made. If another process was faster, its folder stays.

    Yields:
        The temporary folder, empty.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    partial.mkdir()
    try:
        yield partial
        try:
            os.replace(partial, path)
        except OSError:
            if not is_complete():
                shutil.rmtree(path, ignore_errors=True)
                os.replace(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def make_folder_once(path: Path, marker: str, make: Callable[[Path], None]) -> Path:
    """Make a folder of the cache unless it exists; of several processes that want it, one makes it and the others wait.

    Args:
        path: the folder.
        marker: name of a file that every complete folder has.
        make: ``make(folder)`` fills an empty folder, which is then renamed to ``path``.

    Returns:
        ``path``, complete.

    Raises:
        DataError: If the disk is full or the cache cannot be written.
    """

    def is_complete() -> bool:
        return (path / marker).exists()

    if is_complete():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(path.with_name(f"{path.name}.lock"), wait=True) as locked:
            if is_complete():  # made while this process waited
                return path
            if locked:  # nobody else is at work: these are leftovers of killed processes
                for leftover in path.parent.glob(f"{path.name}.*.part"):
                    shutil.rmtree(leftover, ignore_errors=True)
            with atomic_folder(path, is_complete) as partial:
                make(partial)
    except OSError as error:
        full, other = "free space there, or set CVHPE_CACHE to another disk", "set CVHPE_CACHE to a writable folder"
        raise DataError(write_error(path.parent, error, full, other)) from None
    return path


def write_error(
    path: Path, error: Exception, if_full: str = "free some space and go on with --resume", otherwise: str = ""
) -> str:
    """The one-line message for a file or folder that could not be written.

    Args:
        path: the file or folder.
        error: an ``OSError``, or what a native library raised in its place.
        if_full: advice if the disk is full.
        otherwise: advice in every other case.

    Returns:
        The message, e.g. ``"runs/a.json: the disk is full; free some space and go on with --resume"``.

    Example:
        >>> write_error(Path("a.png"), PermissionError(13, "Permission denied"), otherwise="name another folder")
        'a.png: cannot be written: Permission denied; name another folder'
    """
    text = str(error)
    os_error = re.search(r"\(os error (\d+)\)", text)  # safetensors gives the system's error number in the text only
    number = int(os_error[1]) if os_error else getattr(error, "errno", None)
    if number in _DISK_FULL or "No space left" in text or "code: 28" in text:
        return f"{path}: the disk is full; {if_full}"
    reason = os.strerror(int(os_error[1])) if os_error else getattr(error, "strerror", None) or text
    return f"{path}: cannot be written: {reason}{'; ' if otherwise else ''}{otherwise}"
