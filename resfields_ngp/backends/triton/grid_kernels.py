"""Triton kernels of the hash grid: one level of a tile of one frame's rows per program.

Vocabulary
    tile     BLOCK rows of one frame, so that the frame's coefficients are the same for all of it.
    CF       C * F floats of an entry, channels (base, residuals) of F features side by side; CP and
             FP are C and F up to powers of two, and column ``c * FP + f`` of a tile is channel c's
             feature f.
    corner   one of the 8 vertices around a position; its weight is a product of three factors.

The grid is (L * tiles, T): levels of the same rows run side by side, and their outputs, F floats
each, meet in the cache before they leave it. Only the first side of a grid may exceed 65,535.
"""

from __future__ import annotations

import triton
import triton.language as tl

from ..specs import PRIMES

_PRIME_Y = tl.constexpr(PRIMES[1])
_PRIME_Z = tl.constexpr(PRIMES[2])
_PRIME_T = tl.constexpr(PRIMES[3])


@triton.jit
def _cells(positions, rows, is_row, scale):
    """Returns the lower corner's coordinates (uint32) and the fractions, by axis."""
    at = positions + rows.to(tl.int64) * 3
    x = tl.load(at, mask=is_row, other=0.0) * scale + 0.5
    y = tl.load(at + 1, mask=is_row, other=0.0) * scale + 0.5
    z = tl.load(at + 2, mask=is_row, other=0.0) * scale + 0.5
    i, j, k = tl.floor(x), tl.floor(y), tl.floor(z)
    low = (i.to(tl.int32).to(tl.uint32), j.to(tl.int32).to(tl.uint32), k.to(tl.int32).to(tl.uint32))
    return low, (x - i, y - j, z - k)


@triton.jit
def _entries(low, corner: tl.constexpr, slot, resolution, size, is_hashed):
    """Returns the entry of a corner within the level: dense, x fastest, or the prime hash.

    A hashed level's size is a power of two; a dense index is beyond its level's end only on the far
    faces of the box, and by less than the level's size. Outside the box it is some entry.
    """
    x, y, z = low[0] + (corner & 1), low[1] + (corner >> 1 & 1), low[2] + (corner >> 2 & 1)
    hashed = x ^ (y * _PRIME_Y) ^ (z * _PRIME_Z) ^ (slot * _PRIME_T)
    dense = x + resolution * (y + resolution * (z + resolution * slot))
    dense = tl.minimum(tl.where(dense >= size, dense - size, dense), size - 1)
    return tl.where(is_hashed, hashed & (size - 1), dense)


@triton.jit
def _factors(fractions, corner: tl.constexpr):
    """Returns a corner's three factors, and the signs of their slopes."""
    x, y, z = fractions
    sx: tl.constexpr = 2.0 * (corner & 1) - 1.0
    sy: tl.constexpr = 2.0 * (corner >> 1 & 1) - 1.0
    sz: tl.constexpr = 2.0 * (corner >> 2 & 1) - 1.0
    # f where the corner is the upper one, 1 - f where it is the lower.
    lower: tl.constexpr = 0.5
    fx = lower - lower * sx + sx * x
    fy = lower - lower * sy + sy * y
    fz = lower - lower * sz + sz * z
    return (fx, fy, fz), (sx, sy, sz)


@triton.jit
def _loaded(table, first, entries, is_row, C: tl.constexpr, F: tl.constexpr, CP, FP: tl.constexpr):
    """Returns (BLOCK, CP * FP) entries of all channels, zero beyond C and F, with their places."""
    columns = tl.arange(0, CP * FP)
    channel, feature = columns // FP, columns % FP
    at = (first + entries.to(tl.int64))[:, None] * (C * F) + (channel * F + feature)[None, :]
    inside = is_row[:, None] & ((channel < C) & (feature < F))[None, :]
    return at, inside, tl.load(table + at, mask=inside, other=0.0)


@triton.jit
def _coefficients(
    coefficients, frame, level, lookup, L, K: tl.constexpr, C: tl.constexpr, CP, FP: tl.constexpr
):
    """Returns (CP * FP,) coefficients of the frame's channels, repeated over features."""
    channel = tl.arange(0, CP * FP) // FP
    at = ((frame * L + level) * K + lookup) * C + channel
    return at, tl.load(coefficients + at, mask=channel < C, other=0.0)


@triton.jit
def _level(levels, level):
    """Returns first entry, size, resolution and whether it is hashed of a level."""
    at = levels + level * 4
    size, resolution = tl.load(at + 1).to(tl.uint32), tl.load(at + 2).to(tl.uint32)
    return tl.load(at), size, resolution, tl.load(at + 3) != 0


@triton.jit
def grid_forward(
    positions,  # (N, 3)
    offsets,  # (T + 1,) int64 rows
    coefficients,  # (T, L, K * C)
    slots,  # (T, L, K) int64
    table,  # (E, C * F)
    scales,  # (L,) float32
    levels,  # (L, 4) int64 first entry, size, resolution, is hashed
    jets,  # (N, 1 + D, L * F)
    L,
    C: tl.constexpr,
    F: tl.constexpr,
    K: tl.constexpr,
    CP: tl.constexpr,
    FP: tl.constexpr,
    D: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Writes one level's features and their derivatives by position; grid (L * tiles, T)."""
    level, frame = tl.program_id(0) % L, tl.program_id(1)
    end = tl.load(offsets + frame + 1)
    row = tl.load(offsets + frame) + (tl.program_id(0) // L).to(tl.int64) * BLOCK
    if row < end:
        rows = row + tl.arange(0, BLOCK)
        is_row = rows < end
        scale = tl.load(scales + level)
        first, size, resolution, is_hashed = _level(levels, level)
        low, fractions = _cells(positions, rows, is_row, scale)
        parts = ()
        for _ in tl.static_range(1 + D):
            parts = parts + (tl.zeros((BLOCK, CP * FP), tl.float32),)
        for lookup in tl.static_range(K):
            slot = tl.load(slots + (frame * L + level) * K + lookup).to(tl.uint32)
            _, shares = _coefficients(coefficients, frame, level, lookup, L, K, C, CP, FP)
            for corner in tl.static_range(8):
                entries = _entries(low, corner, slot, resolution, size, is_hashed)
                _, _, values = _loaded(table, first, entries, is_row, C, F, CP, FP)
                values = values * shares[None, :]
                f, s = _factors(fractions, corner)
                new = (parts[0] + (f[0] * f[1] * f[2])[:, None] * values,)
                if D == 3:
                    x = s[0] * scale * f[1] * f[2]
                    y = s[1] * scale * f[0] * f[2]
                    z = s[2] * scale * f[0] * f[1]
                    new = new + (parts[1] + x[:, None] * values,)
                    new = new + (parts[2] + y[:, None] * values,)
                    new = new + (parts[3] + z[:, None] * values,)
                parts = new
        feature = tl.arange(0, FP)
        for part in tl.static_range(1 + D):
            features = tl.sum(tl.reshape(parts[part], (BLOCK, CP, FP)), axis=1)
            at = (rows.to(tl.int64)[:, None] * (1 + D) + part) * (L * F) + level * F
            inside = is_row[:, None] & (feature < F)[None, :]
            tl.store(jets + at + feature[None, :], features, mask=inside)


@triton.jit
def _gradients(gradients, rows, is_row, part, level, L, D, F: tl.constexpr, CP, FP: tl.constexpr):
    """Returns (BLOCK, CP * FP) gradients by one part of the features, repeated over channels."""
    feature = tl.arange(0, CP * FP) % FP
    at = (rows.to(tl.int64)[:, None] * (1 + D) + part) * (L * F) + level * F + feature[None, :]
    return tl.load(gradients + at, mask=is_row[:, None] & (feature < F)[None, :], other=0.0)


@triton.jit
def grid_backward(
    positions,  # (N, 3)
    offsets,  # (T + 1,) int64 rows
    coefficients,  # (T, L, K * C)
    slots,  # (T, L, K) int64
    table,  # (E, C * F)
    scales,  # (L,) float32
    levels,  # (L, 4) int64
    gradients,  # (N, 1 + D, L * F) by the jets
    grad_positions,  # (N, 3) zero, added to where BY_POSITIONS
    grad_coefficients,  # (T, L, K * C) zero, added to where BY_TABLE
    grad_table,  # (E, C * F), added to where BY_TABLE
    L,
    C: tl.constexpr,
    F: tl.constexpr,
    K: tl.constexpr,
    CP: tl.constexpr,
    FP: tl.constexpr,
    D: tl.constexpr,
    BLOCK: tl.constexpr,
    BY_POSITIONS: tl.constexpr,
    BY_TABLE: tl.constexpr,
):
    """Adds one level's gradients; grid (L * tiles, T). The level is trilinear: pure second
    derivatives by an axis are 0, mixed ones are not."""
    level, frame = tl.program_id(0) % L, tl.program_id(1)
    end = tl.load(offsets + frame + 1)
    row = tl.load(offsets + frame) + (tl.program_id(0) // L).to(tl.int64) * BLOCK
    if row < end:
        rows = row + tl.arange(0, BLOCK)
        is_row = rows < end
        scale = tl.load(scales + level)
        first, size, resolution, is_hashed = _level(levels, level)
        low, fractions = _cells(positions, rows, is_row, scale)
        g = ()
        for part in tl.static_range(1 + D):
            g = g + (_gradients(gradients, rows, is_row, part, level, L, D, F, CP, FP),)
        by_x = tl.zeros((BLOCK,), tl.float32)
        by_y, by_z = by_x, by_x
        for lookup in tl.static_range(K):
            slot = tl.load(slots + (frame * L + level) * K + lookup).to(tl.uint32)
            place, shares = _coefficients(coefficients, frame, level, lookup, L, K, C, CP, FP)
            by_shares = tl.zeros((BLOCK, CP * FP), tl.float32)
            for corner in tl.static_range(8):
                entries = _entries(low, corner, slot, resolution, size, is_hashed)
                at, inside, values = _loaded(table, first, entries, is_row, C, F, CP, FP)
                f, s = _factors(fractions, corner)
                x, y, z = s[0] * scale, s[1] * scale, s[2] * scale
                if BY_TABLE:
                    by_value = (f[0] * f[1] * f[2])[:, None] * g[0]
                    if D == 3:
                        by_value += (x * f[1] * f[2])[:, None] * g[1]
                        by_value += (y * f[0] * f[2])[:, None] * g[2]
                        by_value += (z * f[0] * f[1])[:, None] * g[3]
                    by_shares += by_value * values
                    target = grad_table + at
                    tl.atomic_add(target, by_value * shares[None, :], mask=inside, sem="relaxed")
                if BY_POSITIONS:
                    values = values * shares[None, :]
                    v = tl.sum(g[0] * values, axis=1)
                    by_x += v * x * f[1] * f[2]
                    by_y += v * y * f[0] * f[2]
                    by_z += v * z * f[0] * f[1]
                    if D == 3:
                        dx = tl.sum(g[1] * values, axis=1)
                        dy = tl.sum(g[2] * values, axis=1)
                        dz = tl.sum(g[3] * values, axis=1)
                        by_x += x * (dy * y * f[2] + dz * z * f[1])
                        by_y += y * (dx * x * f[2] + dz * z * f[0])
                        by_z += z * (dx * x * f[1] + dy * y * f[0])
            if BY_TABLE:
                total = tl.sum(by_shares, axis=0)
                is_channel = tl.arange(0, CP * FP) // FP < C
                tl.atomic_add(grad_coefficients + place, total, mask=is_channel, sem="relaxed")
        if BY_POSITIONS:
            at = grad_positions + rows.to(tl.int64) * 3
            tl.atomic_add(at, by_x, mask=is_row, sem="relaxed")
            tl.atomic_add(at + 1, by_y, mask=is_row, sem="relaxed")
            tl.atomic_add(at + 2, by_z, mask=is_row, sem="relaxed")
