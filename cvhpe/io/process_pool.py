"""Independent tasks on several processes that end with their parent."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from cvhpe.errors import DataError

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")

PARENT_POLL_SECONDS = 0.5


def num_cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def imap_unordered(
    function: Callable[[_Task], _Result], tasks: Sequence[_Task], workers: int, *, label: str
) -> Iterator[tuple[int, _Result]]:
    """Call a function on every task, on several processes.

    Args:
        function: importable by name, or a ``functools.partial`` of such a function; it is sent to each process once.
        tasks: one argument each, picklable.
        workers: the number of processes; with fewer than 2 of them, or of tasks, all runs in the calling process.
        label: what is being made, for the error message.

    Yields:
        The number of a task and its result, as soon as it is done.

    Raises:
        DataError: If a process was killed. An exception of ``function`` passes as it is; tasks that have not
            started by then never do.
    """
    if workers < 2 or len(tasks) < 2:
        yield from enumerate(map(function, tasks))
        return
    # Forked processes inherit what the parent has read and need no importable __main__. Their tasks must not use
    # torch, whose threads a fork does not carry over.
    context = multiprocessing.get_context("fork" if sys.platform.startswith("linux") else "spawn")
    pool = ProcessPoolExecutor(min(workers, len(tasks)), context, _start_worker, (function, os.getpid()))
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
            futures = {pool.submit(_run_task, task): number for number, task in enumerate(tasks)}
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BrokenProcessPool:
        raise DataError(f"{label}: a worker process was killed, perhaps out of memory; use fewer workers") from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_function: Callable[[Any], Any] | None = None


def _start_worker(function: Callable[[Any], Any], parent: int) -> None:
    """Leave Ctrl-C to the parent, and end when it ends: a forked child holds the parent's open files and locks."""
    global _function
    _function = function
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, args=(parent,), daemon=True, name="cvhpe-parent").start()


def _exit_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(PARENT_POLL_SECONDS)
    os._exit(1)


def _run_task(task: Any) -> Any:
    assert _function is not None
    return _function(task)
