"""What every launch needs: sides of tiles, and how many programs fill the device."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from triton import knobs

_INTERPRETED_PROGRAMS = 3
"""Programs a frame where kernels are interpreted: few, so that each walks several tiles."""


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


def programs_per_frame(
    n_frames: int, most_rows: int, block: int, device: torch.device, waves: int
) -> int:
    """Returns how many programs walk each frame's tiles: about `waves` on every multiprocessor."""
    wanted = _INTERPRETED_PROGRAMS
    if device.type == "cuda":
        wanted = n_tiles(waves * _n_multiprocessors(device), n_frames)
    return min(n_tiles(most_rows, block), wanted)


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, **constants: Any) -> None:
    """Runs a kernel; a grid without programs runs nothing."""
    if all(grid):
        kernel[grid](*arguments, **constants)
