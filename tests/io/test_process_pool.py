"""Tasks on several processes: results, exceptions, killed workers, and workers whose parent is killed."""

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

from cvhpe.errors import DataError
from cvhpe.io.process_pool import imap_unordered

linux_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs fork and /proc")

PARENT = """
import sys, time
from cvhpe.io.locking import file_lock
from cvhpe.io.process_pool import imap_unordered

def task(number):
    time.sleep(0.01)
    return number

with file_lock(sys.argv[1], wait=False):
    for number, _ in imap_unordered(task, range(100_000), 2, label="numbers"):
        print(number, flush=True)
"""


def reciprocal(number: int) -> float:
    if number == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return 1 / number


def wait_until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("workers", [1, 3])
def test_every_result_comes_with_the_number_of_its_task(workers: int) -> None:
    assert sorted(imap_unordered(reciprocal, [1, 2, 4, 5], workers, label="")) == [
        (0, 1),
        (1, 0.5),
        (2, 0.25),
        (3, 0.2),
    ]
    with pytest.raises(ZeroDivisionError):
        list(imap_unordered(reciprocal, [1, 0], workers, label=""))


@linux_only
def test_a_killed_worker_is_one_line() -> None:
    with pytest.raises(DataError, match="numbers: a worker process was killed"):
        list(imap_unordered(reciprocal, [1, 7], 2, label="numbers"))


@linux_only
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_worker_and_no_lock_outlives_a_killed_parent(tmp_path: Path, number: int) -> None:
    """A forked worker holds the lock of its parent: if it stayed, the next run would wait for ever."""
    lock = tmp_path / "lock"
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(lock)], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    assert parent.stdout.readline()
    workers = children(parent.pid)
    assert len(workers) == 2
    os.kill(parent.pid, number)
    parent.wait()
    parent.stdout.close()
    wait_until(lambda: not any(map(is_running, workers)))
    with lock.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
