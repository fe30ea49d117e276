"""Silence native libraries that log to the error stream past Python."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def silence_stderr() -> Iterator[None]:
    """Discard what native libraries, such as MediaPipe, print to the error stream. Exceptions pass."""
    os.environ.setdefault("GLOG_minloglevel", "2")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        sys.stderr.flush()
        stderr = os.dup(2)
    except (OSError, ValueError):
        yield  # there is no error stream
        return
    sink = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(sink)
