"""Processes that pack end with the one that started them, however that ended."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at /proc")

PACK = """
import sys, time
from pathlib import Path
import numpy as np
from cvhpe.data.packing.prepare import prepare
from cvhpe.plugin.sample import DatasetSpec, Sample

class Slow:
    layout, root = "hand21", "wrist"
    def __len__(self):
        return 100_000
    def __getitem__(self, index):
        time.sleep(0.01)
        images = {"rgb": np.zeros((8, 8, 3), np.uint8)}
        return Sample(id=str(index), side=0, box=(0.0, 0.0, 8.0, 8.0), images=images)

spec = DatasetSpec(name="slow", open=lambda path, split: Slow(), layout=None, root="wrist", fields=("rgb",))
report = lambda done, every: print(done, flush=True)
prepare(spec, None, "train", image_size=8, fields=("rgb",), workers=2, progress=report, cache=Path(sys.argv[1]))
"""


def soon(found: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < end
        time.sleep(0.05)


def children(of: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{of}/task/{of}/children").read_text().split()]


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_process_and_no_lock_outlives_a_killed_run(tmp_path: Path, number: int) -> None:
    """A forked process has the lock of the pack open: were it to stay, the next run would wait for ever."""
    run = subprocess.Popen([sys.executable, "-c", PACK, str(tmp_path)], stdout=subprocess.PIPE)
    assert run.stdout is not None
    assert run.stdout.readline()
    below = children(run.pid)
    assert len(below) == 2
    os.kill(run.pid, number)
    run.wait()
    run.stdout.close()
    soon(lambda: not any(map(runs, below)))
    (lock,) = (tmp_path / "packs").glob("*.lock")
    with lock.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
