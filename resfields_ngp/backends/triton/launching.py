"""What every launch needs: sides of tiles, how many programs fill the device, what is compiled."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

import torch
from triton import AsyncCompileMode, knobs

from ...environment import count_cores

_INTERPRETED_PROGRAMS = 3
"""Programs a frame where kernels are interpreted: few, so that each walks several tiles."""
_IS_COMPILING = ContextVar("_IS_COMPILING", default=False)


def n_tiles(n_rows: int, block: int) -> int:
    """Returns how many tiles of `block` rows hold all rows."""
    return -(-n_rows // block)


def power_of_two(width: int) -> int:
    """Returns the next power of two, as the sides of Triton's tiles must be."""
    return 1 << (width - 1).bit_length()


def is_interpreted() -> bool:
    """Returns whether kernels run in Triton's interpreter (``TRITON_INTERPRET=1``)."""
    return knobs.runtime.interpret


@cache
def _n_multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count


@cache
def has_tensor_cores(device: torch.device) -> bool:
    """Returns whether Triton multiplies on tensor cores here: not before compute capability 8."""
    return device.type != "cuda" or torch.cuda.get_device_capability(device) >= (8, 0)


def programs_per_frame(
    n_frames: int, most_rows: int, block: int, device: torch.device, waves: int
) -> int:
    """Returns how many programs walk each frame's tiles: at most `waves` on every multiprocessor.

    One more than fit at once would wait for another's end, and take as long again.
    """
    wanted = _INTERPRETED_PROGRAMS
    if device.type == "cuda":
        wanted = max(1, waves * _n_multiprocessors(device) // n_frames)
    return min(n_tiles(most_rows, block), wanted)


@contextmanager
def compiling() -> Iterator[None]:
    """Launches in here run nothing, and are compiled together: by as many threads as cores.

    One that does not compile says so when it is launched for good.
    """
    token = _IS_COMPILING.set(True)
    try:
        with ThreadPoolExecutor(count_cores()) as pool, AsyncCompileMode(pool, ignore_errors=True):
            yield
    finally:
        _IS_COMPILING.reset(token)


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, **constants: Any) -> None:
    """Runs a kernel; a grid without programs runs nothing."""
    if not all(grid):
        return
    if not _IS_COMPILING.get():
        kernel[grid](*arguments, **constants)
    elif not is_interpreted():
        kernel.run(*arguments, grid=grid, warmup=True, **constants)
