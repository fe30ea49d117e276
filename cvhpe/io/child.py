"""What a process of a pool does before its first task: leave Ctrl-C to its parent, and end when that ends.

A parent that is killed tells nobody, and its children would wait for tasks for ever. Forked ones hold its open
files besides, and with them the lock on the folder that was being made: the next run would wait for ever too.
"""

from __future__ import annotations

import os
import signal
import threading
import time

LOOK_SECONDS = 0.5


def begin(parent: int) -> None:
    """Initialise a process of a pool that the process ``parent`` owns."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True, name="cvhpe-parent").start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_SECONDS)
    os._exit(1)
