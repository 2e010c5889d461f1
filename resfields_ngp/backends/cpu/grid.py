"""Numba kernels of the hash grid: level loop outside, so that one level's table stays in cache.

Levels run in parallel and own their slice of the table, so gradients need no atomics and the result
does not depend on the number of threads. Within a row everything happens on vectors of the C * F
floats of an entry, which sit in one cache line: 8 corners are gathered once, weighted for the value
and the three derivatives, and contracted with the frame's coefficients at the end. `weights` are
those coefficients, each repeated for the F features of its channel.

Vocabulary: n row, k look-up (time slice), e entry (where it begins in the table), t its vector.
"""

from __future__ import annotations

from functools import cache

import numba
import numpy as np

from .vectors import fold, fused, load, store, tile, zeros

_P1, _P2, _P3 = np.uint32(2654435761), np.uint32(805459861), np.uint32(3674653429)


@numba.njit(inline="always")
def _base_indices(indices, x, y, z, time, resolution, size, hashed):
    """Writes the 8 corners' entries in the level; x fastest, `size` a power of 2 where hashed."""
    if hashed:
        mask = np.uint32(size - 1)
        y0, z0 = y * _P1, z * _P2
        y1, z1 = (y + np.uint32(1)) * _P1, (z + np.uint32(1)) * _P2
        t = time * _P3
        x1 = x + np.uint32(1)
        indices[0], indices[1] = (x ^ y0 ^ z0 ^ t) & mask, (x1 ^ y0 ^ z0 ^ t) & mask
        indices[2], indices[3] = (x ^ y1 ^ z0 ^ t) & mask, (x1 ^ y1 ^ z0 ^ t) & mask
        indices[4], indices[5] = (x ^ y0 ^ z1 ^ t) & mask, (x1 ^ y0 ^ z1 ^ t) & mask
        indices[6], indices[7] = (x ^ y1 ^ z1 ^ t) & mask, (x1 ^ y1 ^ z1 ^ t) & mask
    else:
        row = np.uint32(resolution)
        plane = np.uint32(row * row)
        origin = x + row * y + plane * (z + row * time)
        for corner in range(8):
            index = np.uint32(
                origin
                + np.uint32(corner & 1)
                + np.uint32(corner >> 1 & 1) * row
                + np.uint32(corner >> 2 & 1) * plane
            )
            indices[corner] = index if index < size else index % np.uint32(size)


@numba.njit(inline="always")
def locate(position, scale):
    """Returns the lower corner (as uint32, wrapping) and the fraction along one axis."""
    scaled = position * scale + np.float32(0.5)
    low = np.floor(scaled)
    return np.uint32(np.int64(low)), np.float32(scaled - low)


@numba.njit(inline="always")
def _entries(indices, start, width):
    """Returns where the 8 corners' entries begin in the table."""
    return (
        (start + np.int64(indices[0])) * width,
        (start + np.int64(indices[1])) * width,
        (start + np.int64(indices[2])) * width,
        (start + np.int64(indices[3])) * width,
        (start + np.int64(indices[4])) * width,
        (start + np.int64(indices[5])) * width,
        (start + np.int64(indices[6])) * width,
        (start + np.int64(indices[7])) * width,
    )


@numba.njit(inline="always")
def _is_on(weights, level):
    """Returns whether any frame has a weight other than 0 in a level, which is else left out."""
    found = False
    for frame in range(weights.shape[0]):
        for i in range(weights.shape[2]):
            found |= weights[frame, level, i] != np.float32(0.0)
    return found


@cache
def forward_kernel(n_channels: int, n_features: int, n_lookups: int, n_tangents: int):
    """Returns the kernel for one entry width."""
    width, n_rows = n_channels * n_features, 1 + n_tangents

    @numba.njit(parallel=True, cache=True, boundscheck=False)
    def forward(positions, offsets, weights, slots, table, scales, levels, jets):
        # A row of levels: start, size, resolution, hashed. Shapes: weights (T, L, K * C * F),
        # table (E, C * F), levels (L, 4) int64, jets (N, 1 + D, L * F).
        n_outputs = jets.shape[2]
        for level in numba.prange(levels.shape[0]):
            start, size, resolution = levels[level, 0], levels[level, 1], levels[level, 2]
            hashed, scale = levels[level, 3] != 0, scales[level]
            if not _is_on(weights, level):
                jets[:, :, level * n_features : (level + 1) * n_features] = np.float32(0.0)
                continue
            indices = np.empty(8, np.uint32)
            for frame in range(offsets.shape[0] - 1):
                for n in range(offsets[frame], offsets[frame + 1]):
                    x, fx = locate(positions[n, 0], scale)
                    y, fy = locate(positions[n, 1], scale)
                    z, fz = locate(positions[n, 2], scale)
                    value, along_x = zeros(n_features), zeros(n_features)
                    along_y, along_z = zeros(n_features), zeros(n_features)
                    for k in range(n_lookups):
                        _base_indices(
                            indices, x, y, z, slots[frame, level, k], resolution, size, hashed
                        )
                        e0, e1, e2, e3, e4, e5, e6, e7 = _entries(indices, start, width)
                        t0, t1 = load(table, e0, width), load(table, e1, width)
                        t2, t3 = load(table, e2, width), load(table, e3, width)
                        t4, t5 = load(table, e4, width), load(table, e5, width)
                        t6, t7 = load(table, e6, width), load(table, e7, width)
                        # Three rounds of interpolation; their differences are the derivatives.
                        x0, x1, x2, x3 = t1 - t0, t3 - t2, t5 - t4, t7 - t6
                        a0, a1 = fused(fx, x0, t0), fused(fx, x1, t2)
                        a2, a3 = fused(fx, x2, t4), fused(fx, x3, t6)
                        y0, y1 = a1 - a0, a3 - a2
                        b0, b1 = fused(fy, y0, a0), fused(fy, y1, a2)
                        z0 = b1 - b0
                        row = (frame * levels.shape[0] + level) * n_lookups + k
                        weight = load(weights, row * width, width)
                        value = value + fold(weight * fused(fz, z0, b0), n_features)
                        if n_rows == 4:
                            slope = scale * weight
                            s0, s1 = fused(fy, x1 - x0, x0), fused(fy, x3 - x2, x2)
                            along_x = along_x + fold(slope * fused(fz, s1 - s0, s0), n_features)
                            along_y = along_y + fold(slope * fused(fz, y1 - y0, y0), n_features)
                            along_z = along_z + fold(slope * z0, n_features)
                    at = n * n_rows * n_outputs + level * n_features
                    store(jets, at, value)
                    if n_rows == 4:
                        store(jets, at + n_outputs, along_x)
                        store(jets, at + 2 * n_outputs, along_y)
                        store(jets, at + 3 * n_outputs, along_z)

    return forward


@cache
def backward_kernel(n_channels: int, n_features: int, n_lookups: int, n_tangents: int):
    """Returns the kernel that adds the gradients of the table and of the weights."""
    width, n_rows = n_channels * n_features, 1 + n_tangents

    @numba.njit(parallel=True, cache=True, boundscheck=False)
    def backward(
        positions,
        offsets,
        weights,
        slots,
        table,
        scales,
        levels,
        grad_jets,
        grad_table,
        grad_weights,
    ):
        n_outputs = grad_jets.shape[2]
        for level in numba.prange(levels.shape[0]):
            start, size, resolution = levels[level, 0], levels[level, 1], levels[level, 2]
            hashed, scale = levels[level, 3] != 0, scales[level]
            if not _is_on(weights, level):
                for row in range(grad_weights.shape[0]):
                    grad_weights[row, level] = np.float32(0.0)
                continue
            indices, spread = np.empty(8, np.uint32), np.empty(8 * n_features, np.float32)
            one = np.float32(1.0)
            for frame in range(offsets.shape[0] - 1):
                for k in range(n_lookups):
                    row = (frame * levels.shape[0] + level) * n_lookups + k
                    weight, total = load(weights, row * width, width), zeros(width)
                    for n in range(offsets[frame], offsets[frame + 1]):
                        x, fx = locate(positions[n, 0], scale)
                        y, fy = locate(positions[n, 1], scale)
                        z, fz = locate(positions[n, 2], scale)
                        ex, ey, ez = one - fx, one - fy, one - fz
                        _base_indices(
                            indices, x, y, z, slots[frame, level, k], resolution, size, hashed
                        )
                        at = n * n_rows * n_outputs + level * n_features
                        # The transpose of the three rounds of interpolation, z first.
                        g0 = load(grad_jets, at, n_features)
                        low, high = ez * g0, fz * g0
                        if n_rows == 4:
                            g3 = scale * load(grad_jets, at + 3 * n_outputs, n_features)
                            low, high = low - g3, high + g3
                        l0, l1, h0, h1 = ey * low, fy * low, ey * high, fy * high
                        if n_rows == 4:
                            g2 = scale * load(grad_jets, at + 2 * n_outputs, n_features)
                            ly, hy = ez * g2, fz * g2
                            l0, l1, h0, h1 = l0 - ly, l1 + ly, h0 - hy, h1 + hy
                        s0, s1, s2, s3 = ex * l0, fx * l0, ex * l1, fx * l1
                        s4, s5, s6, s7 = ex * h0, fx * h0, ex * h1, fx * h1
                        if n_rows == 4:
                            g1 = scale * load(grad_jets, at + n_outputs, n_features)
                            lx, hx = ez * g1, fz * g1
                            x0, x1, x2, x3 = ey * lx, fy * lx, ey * hx, fy * hx
                            s0, s1, s2, s3 = s0 - x0, s1 + x0, s2 - x1, s3 + x1
                            s4, s5, s6, s7 = s4 - x2, s5 + x2, s6 - x3, s7 + x3
                        store(spread, 0, s0)
                        store(spread, n_features, s1)
                        store(spread, 2 * n_features, s2)
                        store(spread, 3 * n_features, s3)
                        store(spread, 4 * n_features, s4)
                        store(spread, 5 * n_features, s5)
                        store(spread, 6 * n_features, s6)
                        store(spread, 7 * n_features, s7)
                        for corner in range(8):
                            part = load(spread, corner * n_features, n_features)
                            gradient = tile(part, n_channels)
                            entry = (start + np.int64(indices[corner])) * width
                            total = fused(gradient, load(table, entry, width), total)
                            added = fused(weight, gradient, load(grad_table, entry, width))
                            store(grad_table, entry, added)
                    store(grad_weights, row * width, total)

    return backward


@cache
def position_kernel(n_channels: int, n_features: int, n_lookups: int, n_tangents: int):
    """Returns the kernel of the gradient by position; of jets, the mixed second derivatives."""
    width, n_rows = n_channels * n_features, 1 + n_tangents

    @numba.njit(parallel=True, cache=True, boundscheck=False)
    def backward(
        positions, frames, weights, slots, table, scales, levels, grad_jets, grad_positions
    ):
        for n in numba.prange(positions.shape[0]):
            frame = frames[n]
            indices = np.empty(8, np.uint32)
            w = np.empty((3, 2), np.float32)
            s = np.empty(2, np.float32)
            for level in range(levels.shape[0]):
                start, size, resolution = levels[level, 0], levels[level, 1], levels[level, 2]
                hashed, scale = levels[level, 3] != 0, scales[level]
                x, fx = locate(positions[n, 0], scale)
                y, fy = locate(positions[n, 1], scale)
                z, fz = locate(positions[n, 2], scale)
                w[0, 0], w[0, 1] = np.float32(1.0) - fx, fx
                w[1, 0], w[1, 1] = np.float32(1.0) - fy, fy
                w[2, 0], w[2, 1] = np.float32(1.0) - fz, fz
                s[0], s[1] = -scale, scale
                for k in range(n_lookups):
                    _base_indices(
                        indices, x, y, z, slots[frame, level, k], resolution, size, hashed
                    )
                    for corner in range(8):
                        entry = start + np.int64(indices[corner])
                        i, j, h = corner & 1, corner >> 1 & 1, corner >> 2 & 1
                        for f in range(n_features):
                            value = np.float32(0.0)
                            for q in range(f, width, n_features):
                                value += weights[frame, level, k * width + q] * table[entry, q]
                            column = level * n_features + f
                            g0 = grad_jets[n, 0, column] * value
                            gx = g0 * s[i] * w[1, j] * w[2, h]
                            gy = g0 * w[0, i] * s[j] * w[2, h]
                            gz = g0 * w[0, i] * w[1, j] * s[h]
                            if n_rows == 4:
                                g1 = grad_jets[n, 1, column] * value
                                g2 = grad_jets[n, 2, column] * value
                                g3 = grad_jets[n, 3, column] * value
                                gx += g2 * s[i] * s[j] * w[2, h] + g3 * s[i] * w[1, j] * s[h]
                                gy += g1 * s[i] * s[j] * w[2, h] + g3 * w[0, i] * s[j] * s[h]
                                gz += g1 * s[i] * w[1, j] * s[h] + g2 * w[0, i] * s[j] * s[h]
                            grad_positions[n, 0] += gx
                            grad_positions[n, 1] += gy
                            grad_positions[n, 2] += gz

    return backward
