"""Laws of being asked to stop."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from resfields_ngp.interruption import interrupts_held, stop_on_signals


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


@pytest.fixture
def heard() -> Iterator[None]:
    """A shell's background jobs ignore SIGINT, and tests may be one."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard")
def test_a_second_interrupt_ends_at_once():
    with pytest.raises(KeyboardInterrupt), stop_on_signals():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.usefixtures("heard")
def test_what_is_held_back_comes_afterwards():
    done = []
    with pytest.raises(KeyboardInterrupt), interrupts_held():
        os.kill(os.getpid(), signal.SIGINT)
        done.append("whole")
    assert done == ["whole"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("heard")
def test_other_threads_hear_no_signals_and_need_not_hold_them():
    with ThreadPoolExecutor(1) as pool:

        def hold() -> bool:
            with interrupts_held():
                return signal.getsignal(signal.SIGINT) is signal.default_int_handler

        assert pool.submit(hold).result()


def test_handlers_are_as_before_afterwards():
    before = signal.getsignal(signal.SIGTERM)
    with stop_on_signals():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before
