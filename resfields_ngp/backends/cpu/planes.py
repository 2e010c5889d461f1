"""Numba kernels of 2-D hash grids: pictures and videos, no derivatives by position.

Rows of a batch come in tiles of one frame that stay in cache while all levels pass. The backward
pass shares out levels instead, which own their slice of the table: no atomics, and a result that
does not depend on the number of threads. A look-up whose coefficients are all zero (the second time
slice of a frame that lies on the first) is left out.

Vocabulary: l level, n row, k look-up (time slice), e entry, c channel, f feature.
"""

from __future__ import annotations

from functools import cache

import numba
import numpy as np

from .grid import locate

TILE_ROWS = 2048
_P1, _P2 = np.uint32(2654435761), np.uint32(805459861)


@numba.njit(inline="always")
def _corner(x, y, time, columns, rows, size, hashed):
    """Returns the entry of a corner in its level; x fastest."""
    if hashed:
        return np.int64((x ^ (y * _P1) ^ (time * _P2)) & np.uint32(size - 1))
    index = np.uint32(x + np.uint32(columns) * (y + np.uint32(rows) * time))
    return np.int64(index if index < size else index % np.uint32(size))


@cache
def forward_kernel(n_channels: int, n_features: int, n_lookups: int):
    """Returns the kernel for one entry width, with all inner loops of constant length."""

    @numba.njit(parallel=True, cache=True, boundscheck=False)
    def forward(positions, tiles, coefficients, slots, table, scales, levels, features):
        # A row of levels: start, size, columns, rows, hashed. Shapes: table (E, C * F), features
        # (N, L * F), all zero.
        one = np.float32(1.0)
        for tile in numba.prange(tiles.shape[0]):
            frame, begin, end = tiles[tile, 0], tiles[tile, 1], tiles[tile, 2]
            for level in range(levels.shape[0]):
                start, size = levels[level, 0], levels[level, 1]
                columns, rows = levels[level, 2], levels[level, 3]
                hashed, scale = levels[level, 4] != 0, scales[level]
                for k in range(n_lookups):
                    weight = np.float32(0.0)
                    for c in range(n_channels):
                        weight += abs(coefficients[frame, level, k * n_channels + c])
                    if weight == np.float32(0.0):
                        continue
                    time = np.uint32(slots[frame, level, k])
                    for n in range(begin, end):
                        x, fx = locate(positions[n, 0], scale)
                        y, fy = locate(positions[n, 1], scale)
                        x1, y1 = x + np.uint32(1), y + np.uint32(1)
                        e0 = start + _corner(x, y, time, columns, rows, size, hashed)
                        e1 = start + _corner(x1, y, time, columns, rows, size, hashed)
                        e2 = start + _corner(x, y1, time, columns, rows, size, hashed)
                        e3 = start + _corner(x1, y1, time, columns, rows, size, hashed)
                        w0, w1 = (one - fx) * (one - fy), fx * (one - fy)
                        w2, w3 = (one - fx) * fy, fx * fy
                        for c in range(n_channels):
                            weight = coefficients[frame, level, k * n_channels + c]
                            for f in range(n_features):
                                q = c * n_features + f
                                features[n, level * n_features + f] += weight * (
                                    w0 * table[e0, q]
                                    + w1 * table[e1, q]
                                    + w2 * table[e2, q]
                                    + w3 * table[e3, q]
                                )

    return forward


@cache
def backward_kernel(n_channels: int, n_features: int, n_lookups: int):
    """Returns the kernel that adds the gradients of the table and, if C > 1, the coefficients."""

    @numba.njit(parallel=True, cache=True, boundscheck=False)
    def backward(
        positions,
        tiles,
        coefficients,
        slots,
        table,
        scales,
        levels,
        grad_features,
        grad_table,
        grad_coefficients,
        n_groups,
    ):
        one = np.float32(1.0)
        for group in numba.prange(n_groups):
            for tile in range(tiles.shape[0]):
                frame, begin, end = tiles[tile, 0], tiles[tile, 1], tiles[tile, 2]
                for level in range(group, levels.shape[0], n_groups):
                    start, size = levels[level, 0], levels[level, 1]
                    columns, rows = levels[level, 2], levels[level, 3]
                    hashed, scale = levels[level, 4] != 0, scales[level]
                    for k in range(n_lookups):
                        if n_channels == 1 and coefficients[frame, level, k] == np.float32(0.0):
                            continue
                        time = np.uint32(slots[frame, level, k])
                        for n in range(begin, end):
                            x, fx = locate(positions[n, 0], scale)
                            y, fy = locate(positions[n, 1], scale)
                            x1, y1 = x + np.uint32(1), y + np.uint32(1)
                            e0 = start + _corner(x, y, time, columns, rows, size, hashed)
                            e1 = start + _corner(x1, y, time, columns, rows, size, hashed)
                            e2 = start + _corner(x, y1, time, columns, rows, size, hashed)
                            e3 = start + _corner(x1, y1, time, columns, rows, size, hashed)
                            w0, w1 = (one - fx) * (one - fy), fx * (one - fy)
                            w2, w3 = (one - fx) * fy, fx * fy
                            for c in range(n_channels):
                                weight = coefficients[frame, level, k * n_channels + c]
                                slope = np.float32(0.0)
                                for f in range(n_features):
                                    q = c * n_features + f
                                    grad = grad_features[n, level * n_features + f]
                                    if n_channels > 1:
                                        slope += grad * (
                                            w0 * table[e0, q]
                                            + w1 * table[e1, q]
                                            + w2 * table[e2, q]
                                            + w3 * table[e3, q]
                                        )
                                    grad *= weight
                                    grad_table[e0, q] += w0 * grad
                                    grad_table[e1, q] += w1 * grad
                                    grad_table[e2, q] += w2 * grad
                                    grad_table[e3, q] += w3 * grad
                                if n_channels > 1:
                                    grad_coefficients[frame, level, k * n_channels + c] += slope

    return backward
