"""Numba kernels of the hash grid: level loop outside, so that one level's table stays in cache.

Levels run in parallel and own their slice of the table, so gradients need no atomics and the result
does not depend on the number of threads. Within a row everything happens on the C * F floats of an
entry, which sit in one cache line: 8 corners are gathered once, weighted for the value and the
three derivatives, and contracted with the frame's coefficients at the end.

Vocabulary: l level, n row, k look-up (time slice), e entry, q = c * F + f position within an entry.
"""

from __future__ import annotations

from functools import cache

import numba
import numpy as np

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
def _locate(position, scale):
    """Returns the lower corner (as uint32, wrapping) and the fraction along one axis."""
    scaled = position * scale + np.float32(0.5)
    low = np.floor(scaled)
    return np.uint32(np.int64(low)), np.float32(scaled - low)


@cache
def forward_kernel(n_channels: int, n_features: int, n_lookups: int, n_tangents: int):
    """Returns the kernel for one entry width, with all inner loops of constant length."""
    width, n_rows = n_channels * n_features, 1 + n_tangents

    @numba.njit(parallel=True, cache=True, boundscheck=False)
    def forward(positions, offsets, coefficients, slots, table, scales, levels, jets):
        # A row of levels: start, size, resolution, hashed. Shapes: table (E, C * F), levels
        # (L, 4) int64, jets (N, 1 + D, L * F).
        for level in numba.prange(levels.shape[0]):
            start, size, resolution = levels[level, 0], levels[level, 1], levels[level, 2]
            hashed, scale = levels[level, 3] != 0, scales[level]
            indices = np.empty(8, np.uint32)
            sums = np.empty((4, width), np.float32)
            for frame in range(offsets.shape[0] - 1):
                for n in range(offsets[frame], offsets[frame + 1]):
                    x, fx = _locate(positions[n, 0], scale)
                    y, fy = _locate(positions[n, 1], scale)
                    z, fz = _locate(positions[n, 2], scale)
                    for d in range(n_rows):
                        for f in range(n_features):
                            jets[n, d, level * n_features + f] = np.float32(0.0)
                    for k in range(n_lookups):
                        _base_indices(
                            indices, x, y, z, slots[frame, level, k], resolution, size, hashed
                        )
                        e0, e1 = start + np.int64(indices[0]), start + np.int64(indices[1])
                        e2, e3 = start + np.int64(indices[2]), start + np.int64(indices[3])
                        e4, e5 = start + np.int64(indices[4]), start + np.int64(indices[5])
                        e6, e7 = start + np.int64(indices[6]), start + np.int64(indices[7])
                        for q in range(width):
                            # Three rounds of interpolation; their differences are the derivatives.
                            x0, x1 = table[e1, q] - table[e0, q], table[e3, q] - table[e2, q]
                            x2, x3 = table[e5, q] - table[e4, q], table[e7, q] - table[e6, q]
                            a0, a1 = table[e0, q] + fx * x0, table[e2, q] + fx * x1
                            a2, a3 = table[e4, q] + fx * x2, table[e6, q] + fx * x3
                            y0, y1 = a1 - a0, a3 - a2
                            b0, b1 = a0 + fy * y0, a2 + fy * y1
                            sums[0, q] = b0 + fz * (b1 - b0)
                            if n_rows == 4:
                                s0, s1 = x0 + fy * (x1 - x0), x2 + fy * (x3 - x2)
                                sums[1, q] = scale * (s0 + fz * (s1 - s0))
                                sums[2, q] = scale * (y0 + fz * (y1 - y0))
                                sums[3, q] = scale * (b1 - b0)
                        for d in range(n_rows):
                            for c in range(n_channels):
                                coefficient = coefficients[frame, level, k * n_channels + c]
                                for f in range(n_features):
                                    jets[n, d, level * n_features + f] += (
                                        coefficient * sums[d, c * n_features + f]
                                    )

    return forward


@cache
def backward_kernel(n_channels: int, n_features: int, n_lookups: int, n_tangents: int):
    """Returns the kernel that adds the gradients of the table and of the coefficients."""
    width, n_rows = n_channels * n_features, 1 + n_tangents

    @numba.njit(parallel=True, cache=True, boundscheck=False)
    def backward(
        positions,
        offsets,
        coefficients,
        slots,
        table,
        scales,
        levels,
        grad_jets,
        grad_table,
        grad_coefficients,
    ):
        for level in numba.prange(levels.shape[0]):
            start, size, resolution = levels[level, 0], levels[level, 1], levels[level, 2]
            hashed, scale = levels[level, 3] != 0, scales[level]
            indices = np.empty(8, np.uint32)
            grads = np.empty((4, width), np.float32)
            spread = np.empty((8, width), np.float32)
            weights = np.empty(width, np.float32)
            grad_weights = np.empty(width, np.float32)
            one = np.float32(1.0)
            for frame in range(offsets.shape[0] - 1):
                for k in range(n_lookups):
                    for q in range(width):
                        weights[q] = coefficients[frame, level, k * n_channels + q // n_features]
                        grad_weights[q] = np.float32(0.0)
                    for n in range(offsets[frame], offsets[frame + 1]):
                        x, fx = _locate(positions[n, 0], scale)
                        y, fy = _locate(positions[n, 1], scale)
                        z, fz = _locate(positions[n, 2], scale)
                        ex, ey, ez = one - fx, one - fy, one - fz
                        for c in range(n_channels):
                            for f in range(n_features):
                                column = level * n_features + f
                                grads[0, c * n_features + f] = grad_jets[n, 0, column]
                                if n_rows == 4:
                                    for d in range(1, 4):
                                        gradient = scale * grad_jets[n, d, column]
                                        grads[d, c * n_features + f] = gradient
                        _base_indices(
                            indices, x, y, z, slots[frame, level, k], resolution, size, hashed
                        )
                        e0, e1 = start + np.int64(indices[0]), start + np.int64(indices[1])
                        e2, e3 = start + np.int64(indices[2]), start + np.int64(indices[3])
                        e4, e5 = start + np.int64(indices[4]), start + np.int64(indices[5])
                        e6, e7 = start + np.int64(indices[6]), start + np.int64(indices[7])
                        for q in range(width):
                            # The transpose of the three rounds of interpolation, z first.
                            low, high = ez * grads[0, q], fz * grads[0, q]
                            if n_rows == 4:
                                low -= grads[3, q]
                                high += grads[3, q]
                            l0, l1, h0, h1 = ey * low, fy * low, ey * high, fy * high
                            if n_rows == 4:
                                ly, hy = ez * grads[2, q], fz * grads[2, q]
                                l0, l1, h0, h1 = l0 - ly, l1 + ly, h0 - hy, h1 + hy
                            s0, s1, s2, s3 = ex * l0, fx * l0, ex * l1, fx * l1
                            s4, s5, s6, s7 = ex * h0, fx * h0, ex * h1, fx * h1
                            if n_rows == 4:
                                lx, hx = ez * grads[1, q], fz * grads[1, q]
                                x0, x1, x2, x3 = ey * lx, fy * lx, ey * hx, fy * hx
                                s0, s1, s2, s3 = s0 - x0, s1 + x0, s2 - x1, s3 + x1
                                s4, s5, s6, s7 = s4 - x2, s5 + x2, s6 - x3, s7 + x3
                            grad_weights[q] += (
                                s0 * table[e0, q]
                                + s1 * table[e1, q]
                                + s2 * table[e2, q]
                                + s3 * table[e3, q]
                                + s4 * table[e4, q]
                                + s5 * table[e5, q]
                                + s6 * table[e6, q]
                                + s7 * table[e7, q]
                            )
                            weight = weights[q]
                            spread[0, q], spread[1, q] = weight * s0, weight * s1
                            spread[2, q], spread[3, q] = weight * s2, weight * s3
                            spread[4, q], spread[5, q] = weight * s4, weight * s5
                            spread[6, q], spread[7, q] = weight * s6, weight * s7
                        for corner in range(8):
                            entry = start + np.int64(indices[corner])
                            for q in range(width):
                                grad_table[entry, q] += spread[corner, q]
                    for q in range(width):
                        grad_coefficients[frame, level, k * n_channels + q // n_features] += (
                            grad_weights[q]
                        )

    return backward


@cache
def position_kernel(n_channels: int, n_features: int, n_lookups: int, n_tangents: int):
    """Returns the kernel of the gradient by position; of jets, the mixed second derivatives."""
    n_rows = 1 + n_tangents

    @numba.njit(parallel=True, cache=True, boundscheck=False)
    def backward(
        positions, frames, coefficients, slots, table, scales, levels, grad_jets, grad_positions
    ):
        for n in numba.prange(positions.shape[0]):
            frame = frames[n]
            indices = np.empty(8, np.uint32)
            w = np.empty((3, 2), np.float32)
            s = np.empty(2, np.float32)
            for level in range(levels.shape[0]):
                start, size, resolution = levels[level, 0], levels[level, 1], levels[level, 2]
                hashed, scale = levels[level, 3] != 0, scales[level]
                x, fx = _locate(positions[n, 0], scale)
                y, fy = _locate(positions[n, 1], scale)
                z, fz = _locate(positions[n, 2], scale)
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
                            for c in range(n_channels):
                                value += (
                                    coefficients[frame, level, k * n_channels + c]
                                    * table[entry, c * n_features + f]
                                )
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
