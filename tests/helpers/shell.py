"""Whole commands in processes of their own, as a user types them."""

from __future__ import annotations

import os
import subprocess
import sys

ENV = {**os.environ, "OMP_NUM_THREADS": "1"}


def cvhpe(*arguments, cwd=None, env=None):
    command = [sys.executable, "-m", "cvhpe", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env={**ENV, **(env or {})}, timeout=250)


def fails(*arguments, **keywords):
    """Run a command that must fail, and return its one line of error."""
    done = cvhpe(*arguments, **keywords)
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, done.stderr
    return lines[0]
