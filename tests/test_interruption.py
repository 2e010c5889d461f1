"""Laws of being asked to stop."""

from __future__ import annotations

import os
import signal

import pytest

from resfields_ngp.interruption import stop_on_signals


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_asks_once_and_is_counted_as_shells_do(number: signal.Signals, exit_code: int):
    with stop_on_signals() as request:
        assert not request()
        os.kill(os.getpid(), number)
        assert request()
    assert request.exit_code == exit_code


def test_nobody_asking_is_success():
    with stop_on_signals() as request:
        pass
    assert not request() and request.exit_code == 0


def test_a_second_interrupt_ends_at_once():
    # A shell's background jobs ignore SIGINT, and tests may be one.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), stop_on_signals():
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_handlers_are_as_before_afterwards():
    before = signal.getsignal(signal.SIGTERM)
    with stop_on_signals():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before
