"""Ctrl-C and SIGTERM at the right moment: training finishes its step, saves, and then stops."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class StopRequest:
    """Turns true once a signal has asked the program to stop.

    >>> request = StopRequest()
    >>> request()
    False
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def __call__(self) -> bool:
        """Returns whether a stop was asked for; what a loop checks between its steps."""
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """128 + the signal's number, as shells count; 0 where nobody asked."""
        return 0 if self.signal is None else 128 + self.signal


@contextlib.contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Gives a request that SIGINT and SIGTERM make; a second signal ends the program at once."""
    request = StopRequest()
    numbers = (signal.SIGINT, signal.SIGTERM)
    former = {number: signal.getsignal(number) for number in numbers}

    def ask(number: int, _frame: FrameType | None) -> None:
        request.signal = signal.Signals(number)
        for each in numbers:
            signal.signal(each, former[each])

    for number in numbers:
        signal.signal(number, ask)
    try:
        yield request
    finally:
        for number in numbers:
            signal.signal(number, former[number])


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Lets Ctrl-C wait for what must not be left half done, such as threads that fill an array.

    Only the main thread hears signals; in others this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked: list[int] = []
    former = signal.signal(signal.SIGINT, lambda number, _frame: asked.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)
    if asked:
        signal.raise_signal(signal.SIGINT)
