"""Ctrl-C and SIGTERM: a run stops after its step, with a checkpoint."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn


class Stopped(Exception):
    """A signal ended the run; everything is saved."""

    def __init__(self, number: int) -> None:
        name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        super().__init__(f"stopped by {name}")
        self.exit_code = 128 + number


class StopRequest:
    """Remembers the number of the last signal; 0 before the first."""

    def __init__(self) -> None:
        self.number = 0

    def __call__(self, number: int) -> None:
        self.number = number


@contextmanager
def handle_signals(handler: Callable[[int], None]) -> Iterator[None]:
    """Call a handler on Ctrl-C and SIGTERM instead of ending the process; a second Ctrl-C ends it.

    Args:
        handler: called with the signal's number.
    """
    previous: dict[int, Any] = {}

    def handle(number: int, frame: Any) -> None:
        handler(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    try:
        for number in (int(signal.SIGINT), int(signal.SIGTERM)):
            previous[number] = signal.signal(number, handle)
    except ValueError:
        pass  # not in the main thread: whoever runs us there handles signals
    try:
        yield
    finally:
        for number, old in previous.items():
            signal.signal(number, old)


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Remember a signal instead of ending the process, for a loop that ends by itself."""
    request = StopRequest()
    with handle_signals(request):
        yield request


def raise_stopped(number: int) -> NoReturn:
    """Handler for work that has nothing to save.

    Args:
        number: of the signal.

    Raises:
        Stopped: Always.
    """
    raise Stopped(number)
