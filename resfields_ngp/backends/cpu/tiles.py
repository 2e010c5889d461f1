"""Rows of a batch in tiles of one frame, small enough to stay in cache."""

from __future__ import annotations

import numpy as np

from ...records import FrameSlices


def tiles_of(slices: FrameSlices, n_rows: int) -> np.ndarray:
    """Returns (n, 3) int64: position of the frame, first row, last row + 1; at most `n_rows` each.

    >>> tiles_of(FrameSlices((4, 0), (0, 3, 5)), 2).tolist()
    [[0, 0, 2], [0, 2, 3], [1, 3, 5]]
    """
    tiles = [
        (i, start, min(start + n_rows, end))
        for i, begin, end in slices
        for start in range(begin, end, n_rows)
    ]
    return np.asarray(tiles, np.int64).reshape(-1, 3)
