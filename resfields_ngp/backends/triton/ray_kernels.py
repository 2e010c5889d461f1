"""Triton kernels along rays, one ray a lane: marching, compositing front to back, sums."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _distance(grid, x, y, z, G, is_alive):
    """Interpolates a frame's (G, G, G) grid at model positions, clamped at the border."""
    last = G - 1.0
    px = tl.minimum(tl.maximum(x * G - 0.5, 0.0), last)
    py = tl.minimum(tl.maximum(y * G - 0.5, 0.0), last)
    pz = tl.minimum(tl.maximum(z * G - 0.5, 0.0), last)
    i = tl.minimum(px.to(tl.int32), G - 2)
    j = tl.minimum(py.to(tl.int32), G - 2)
    k = tl.minimum(pz.to(tl.int32), G - 2)
    fx, fy, fz = px - i, py - j, pz - k
    total = tl.zeros_like(x)
    for corner in tl.static_range(8):
        wx = fx if corner & 1 else 1.0 - fx
        wy = fy if corner >> 1 & 1 else 1.0 - fy
        wz = fz if corner >> 2 & 1 else 1.0 - fz
        at = ((i + (corner & 1)) * G + j + (corner >> 1 & 1)) * G + k + (corner >> 2 & 1)
        total += wx * wy * wz * tl.load(grid + at, mask=is_alive, other=0.0).to(tl.float32)
    return total


@triton.jit
def _clipped(origin, direction, near, far):
    """Narrows (near, far) to where rays are within [0, 1] along an axis."""
    slope = tl.where(tl.abs(direction) < 1e-9, 1e-9, direction)
    low, high = -origin / slope, (1.0 - origin) / slope
    return tl.maximum(near, tl.minimum(low, high)), tl.minimum(far, tl.maximum(low, high))


@triton.jit
def march(
    origins,  # (R, 3)
    directions,  # (R, 3)
    frames,  # (T,) int64 frame of each slice
    offsets,  # (T + 1,) int64 rays
    distances,  # (n_frames, G, G, G)
    jitter,  # (R,), read where HAS_JITTER
    firsts,  # (R,) int64 first sample of each ray, read where WRITES
    counts,  # (R,) int64, read where WRITES, else written
    ray_indices,  # (N,) int64, written where WRITES
    t_starts,  # (N,)
    t_ends,  # (N,)
    G,
    band,
    step,
    stretch,
    HAS_JITTER: tl.constexpr,
    WRITES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Counts each ray's intervals or, called again, writes them; grid (tiles of a frame, T)."""
    frame = tl.program_id(1)
    end = tl.load(offsets + frame + 1)
    rays = tl.load(offsets + frame) + tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    is_ray = rays < end
    grid = distances + tl.load(frames + frame) * G * G * G
    ox = tl.load(origins + rays * 3, mask=is_ray, other=0.0)
    oy = tl.load(origins + rays * 3 + 1, mask=is_ray, other=0.0)
    oz = tl.load(origins + rays * 3 + 2, mask=is_ray, other=0.0)
    dx = tl.load(directions + rays * 3, mask=is_ray, other=1.0)
    dy = tl.load(directions + rays * 3 + 1, mask=is_ray, other=1.0)
    dz = tl.load(directions + rays * 3 + 2, mask=is_ray, other=1.0)
    zeros = tl.zeros((BLOCK,), tl.float32)
    near, far = _clipped(ox, dx, zeros, zeros + 1e9)
    near, far = _clipped(oy, dy, near, far)
    near, far = _clipped(oz, dz, near, far)
    start = zeros + 0.5
    if HAS_JITTER:
        start = tl.load(jitter + rays, mask=is_ray, other=0.5)
    t = near + start * step
    before, length = zeros + 1e9, zeros + step
    has_entered = tl.zeros((BLOCK,), tl.int1)
    is_alive = is_ray & (t < far)
    slot = tl.zeros((BLOCK,), tl.int64)
    if WRITES:
        slot, count = _samples_of(firsts, counts, rays, is_ray)
        is_alive = is_alive & (count > 0)
    while tl.max(is_alive.to(tl.int32), axis=0) > 0:
        distance = _distance(grid, ox + t * dx, oy + t * dy, oz + t * dz, G, is_alive)
        is_kept = is_alive & (tl.abs(distance) <= band)
        # Equal changes of distance, not equal lengths: grazing rays need no more samples.
        slope = tl.minimum(tl.maximum(tl.abs(distance - before) / length, 1.0 / stretch), 1.0)
        # Overshot: the cache is no exact distance. Back, and on in small steps.
        has_overshot = (distance < -band) & (has_entered == 0) & (length > step)
        traced = tl.maximum(tl.minimum(0.5 * (tl.abs(distance) - band), 2.0 * length), step)
        t = tl.where(has_overshot, t - length, t)
        length = tl.where(has_overshot, step, traced)
        length = tl.where(is_kept, step / slope, length)
        if WRITES:
            tl.store(ray_indices + slot, rays, mask=is_kept)
            tl.store(t_starts + slot, t, mask=is_kept)
            tl.store(t_ends + slot, t + length, mask=is_kept)
        slot += is_kept.to(tl.int64)
        has_entered = has_entered | is_kept
        is_solid = (distance < -band) & has_entered
        before = distance
        t += length
        is_alive = is_alive & (t < far) & (is_solid == 0)
    if not WRITES:
        tl.store(counts + rays, slot, mask=is_ray)


@triton.jit
def interpolate(
    grids,  # (n_frames, G, G, G)
    positions,  # (N, 3)
    frames,  # (T,) int64 frame of each slice
    offsets,  # (T + 1,) int64 rows
    values,  # (N,), written
    G,
    BLOCK: tl.constexpr,
):
    """Interpolates each row's frame's grid; grid (tiles of a frame, T)."""
    frame = tl.program_id(1)
    rows = tl.load(offsets + frame) + tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    is_row = rows < tl.load(offsets + frame + 1)
    x = tl.load(positions + rows * 3, mask=is_row, other=0.0)
    y = tl.load(positions + rows * 3 + 1, mask=is_row, other=0.0)
    z = tl.load(positions + rows * 3 + 2, mask=is_row, other=0.0)
    grid = grids + tl.load(frames + frame) * G * G * G
    tl.store(values + rows, _distance(grid, x, y, z, G, is_row), mask=is_row)


@triton.jit
def _samples_of(firsts, counts, rays, is_ray):
    """Returns first sample and number of samples of each ray."""
    first = tl.load(firsts + rays, mask=is_ray, other=0)
    return first, tl.load(counts + rays, mask=is_ray, other=0)


@triton.jit
def composite_forward(alphas, firsts, counts, weights, R, BLOCK: tl.constexpr):
    """Writes ``w_i = alpha_i prod_{j<i} (1 - alpha_j)``; each ray has `counts` from `firsts` on."""
    rays = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    is_ray = rays < R
    first, count = _samples_of(firsts, counts, rays, is_ray)
    transmittance = tl.full((BLOCK,), 1.0, tl.float32)
    i, most = 0, tl.max(count, axis=0)
    while i < most:
        alpha = tl.load(alphas + first + i, mask=i < count, other=0.0)
        tl.store(weights + first + i, alpha * transmittance, mask=i < count)
        transmittance *= 1.0 - alpha
        i += 1


@triton.jit
def composite_backward(
    alphas, firsts, counts, weights, gradients, grad_alphas, R, BLOCK: tl.constexpr
):
    """``dL/dalpha_i = T_i g_i - (sum_{j>i} w_j g_j) / (1 - alpha_i)``, front to back."""
    rays = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    is_ray = rays < R
    first, count = _samples_of(firsts, counts, rays, is_ray)
    most = tl.max(count, axis=0)
    behind = tl.zeros((BLOCK,), tl.float32)
    i = most * 0
    while i < most:
        weight = tl.load(weights + first + i, mask=i < count, other=0.0)
        behind += weight * tl.load(gradients + first + i, mask=i < count, other=0.0)
        i += 1
    transmittance = tl.full((BLOCK,), 1.0, tl.float32)
    i = most * 0
    while i < most:
        alpha = tl.load(alphas + first + i, mask=i < count, other=0.0)
        weight = tl.load(weights + first + i, mask=i < count, other=0.0)
        gradient = tl.load(gradients + first + i, mask=i < count, other=0.0)
        behind -= weight * gradient
        slope = transmittance * gradient - behind / tl.maximum(1.0 - alpha, 1e-6)
        tl.store(grad_alphas + first + i, slope, mask=i < count)
        transmittance *= 1.0 - alpha
        i += 1


@triton.jit
def accumulate_forward(
    weights, values, firsts, counts, sums, R, V, BLOCK: tl.constexpr, COLUMNS: tl.constexpr
):
    """Writes each ray's sum of weighted (N, V) values; nothing is added atomically."""
    rays = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    columns = tl.arange(0, COLUMNS)
    is_ray = rays < R
    first, count = _samples_of(firsts, counts, rays, is_ray)
    total = tl.zeros((BLOCK, COLUMNS), tl.float32)
    i, most = 0, tl.max(count, axis=0)
    while i < most:
        weight = tl.load(weights + first + i, mask=i < count, other=0.0)
        at = (first + i)[:, None] * V + columns[None, :]
        inside = (i < count)[:, None] & (columns < V)[None, :]
        total += weight[:, None] * tl.load(values + at, mask=inside, other=0.0)
        i += 1
    at = rays.to(tl.int64)[:, None] * V + columns[None, :]
    tl.store(sums + at, total, mask=is_ray[:, None] & (columns < V)[None, :])
