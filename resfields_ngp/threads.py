"""Work frame by frame in numpy, SciPy and OpenCV, which let other threads run meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def in_threads(function: Callable[[_Item], _Result], items: Sequence[_Item]) -> Iterator[_Result]:
    """Yields what a function gives for each item, in order; as many at once as torch has threads.

    Where one fails, or nobody wants the rest, those that have not begun are left.

    Raises:
        Exception: What the function raised for the first item that it failed for.
    """
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        running = [pool.submit(function, item) for item in items]
        try:
            for each in running:
                yield each.result()
        finally:
            for each in running:
                each.cancel()
