"""Work frame by frame in numpy, SciPy and OpenCV, which let other threads run meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def in_threads(function: Callable[[_Item], _Result], items: Sequence[_Item]) -> list[_Result]:
    """Returns what a function gives for each item, in order; as many at once as torch has threads.

    Raises:
        Exception: What the function raised for the first item that it failed for.
    """
    if not len(items):
        return []
    with ThreadPoolExecutor(min(torch.get_num_threads(), len(items))) as pool:
        running = [pool.submit(function, item) for item in items]
        try:
            return [each.result() for each in running]
        finally:
            for each in running:
                each.cancel()
