"""Work in threads gives what a loop does."""

from __future__ import annotations

import threading
import time

import pytest
import torch

from resfields_ngp.threads import in_threads


@pytest.fixture(autouse=True)
def four_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def test_results_come_in_order_and_items_meet():
    everyone = threading.Barrier(4, timeout=30)

    def squared(number: int) -> int:
        everyone.wait()  # passes where four are under way at once
        return number * number

    assert list(in_threads(squared, range(8))) == [number**2 for number in range(8)]
    assert list(in_threads(squared, [])) == []


def test_the_first_items_error_is_raised_and_nothing_begins_any_more():
    begun = set()

    def failing(number: int) -> None:
        begun.add(number)
        time.sleep(0.01)
        raise ValueError(f"item {number}")

    with pytest.raises(ValueError, match="item 0"):
        list(in_threads(failing, range(400)))
    assert 0 in begun and len(begun) < 400


def test_nothing_begins_once_nobody_wants_the_rest():
    begun = set()

    def slow(number: int) -> int:
        begun.add(number)
        time.sleep(0.01)
        return number

    results = in_threads(slow, range(400))
    assert next(results) == 0
    results.close()
    assert len(begun) < 400
