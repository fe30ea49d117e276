"""The folder where packed and generated data is kept between runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from cvhpe.errors import DataError


def cache_dir() -> Path:
    r"""The cache folder, made if it does not exist: ``$CVHPE_CACHE``, else the platform's usual place.

    That is ``$XDG_CACHE_HOME/cvhpe`` or ``~/.cache/cvhpe`` on Linux, ``~/Library/Caches/cvhpe`` on macOS and
    ``%LOCALAPPDATA%\cvhpe\Cache`` on Windows.

    Returns:
        The folder.

    Raises:
        DataError: If it cannot be written.
    """
    folder = _location()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        usable = os.access(folder, os.W_OK | os.X_OK)
    except OSError:
        usable = False
    if not usable:
        raise DataError(f"the cache folder {folder} cannot be written: set CVHPE_CACHE to one that can")
    return folder


def _location() -> Path:
    setting = os.environ.get("CVHPE_CACHE")
    if setting:
        return Path(setting).expanduser().absolute()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "cvhpe" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "cvhpe"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cvhpe"
