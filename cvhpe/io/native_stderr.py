"""Silence for native libraries that log to the error stream past Python."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what native libraries print to the error stream away while they start and run.

    MediaPipe logs pages that nobody asked for, past Python. Errors still come as exceptions.
    """
    os.environ.setdefault("GLOG_minloglevel", "2")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        sys.stderr.flush()
        kept = os.dup(2)
    except (OSError, ValueError):
        yield  # no error stream to keep clean
        return
    sink = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(sink)
