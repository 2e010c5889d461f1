"""Numba kernels along rays: marching a distance grid, compositing, accumulation."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(inline="always", error_model="numpy")
def _distance(grid, x, y, z):
    """Interpolates one frame's (G, G, G) grid at a model position, clamped at the border."""
    resolution = grid.shape[0]
    limit = np.float32(resolution - 1)
    px = min(max(x * resolution - np.float32(0.5), np.float32(0.0)), limit)
    py = min(max(y * resolution - np.float32(0.5), np.float32(0.0)), limit)
    pz = min(max(z * resolution - np.float32(0.5), np.float32(0.0)), limit)
    last = resolution - 2
    i, j, k = min(int(px), last), min(int(py), last), min(int(pz), last)
    fx, fy, fz = np.float32(px - i), np.float32(py - j), np.float32(pz - k)
    a0 = grid[i, j, k] + fz * (grid[i, j, k + 1] - grid[i, j, k])
    a1 = grid[i, j + 1, k] + fz * (grid[i, j + 1, k + 1] - grid[i, j + 1, k])
    a2 = grid[i + 1, j, k] + fz * (grid[i + 1, j, k + 1] - grid[i + 1, j, k])
    a3 = grid[i + 1, j + 1, k] + fz * (grid[i + 1, j + 1, k + 1] - grid[i + 1, j + 1, k])
    b0, b1 = a0 + fy * (a1 - a0), a2 + fy * (a3 - a2)
    return b0 + fx * (b1 - b0)


@numba.njit(inline="always", error_model="numpy")
def _box_interval(origin, direction):
    """Returns where a ray enters and leaves [0, 1]^3."""
    near, far = np.float32(0.0), np.float32(1e9)
    for axis in range(3):
        slope = direction[axis]
        if abs(slope) < np.float32(1e-9):
            slope = np.float32(1e-9)
        low, high = -origin[axis] / slope, (np.float32(1.0) - origin[axis]) / slope
        near, far = max(near, min(low, high)), min(far, max(low, high))
    return near, far


@numba.njit(parallel=True, error_model="numpy", cache=True)
def march(
    origins, directions, frames, distances, band, step, stretch, jitter, starts, ends, counts
):
    """Writes each ray's intervals into `starts` and `ends` (R, capacity), their `counts` (R,)."""
    for r in numba.prange(origins.shape[0]):
        grid = distances[frames[r]]
        near, far = _box_interval(origins[r], directions[r])
        t, entered, count = near + jitter[r] * step, False, 0
        before, length = np.float32(1e9), step
        while t < far and count < starts.shape[1]:
            distance = _distance(
                grid,
                origins[r, 0] + t * directions[r, 0],
                origins[r, 1] + t * directions[r, 1],
                origins[r, 2] + t * directions[r, 2],
            )
            excess = abs(distance) - band
            if excess <= np.float32(0.0):
                # Equal changes of distance, not equal lengths: grazing rays need no more
                # samples than others.
                slope = min(abs(distance - before) / length, np.float32(1.0))
                length = step / max(slope, np.float32(1.0) / stretch)
                starts[r, count], ends[r, count] = t, t + length
                count += 1
                entered = True
            elif distance < np.float32(0.0) and entered:
                break
            elif distance < np.float32(0.0) and length > step:
                # Overshot: the cache is no exact distance. Back, and on in small steps.
                t -= length
                length = step
            else:
                length = max(step, min(np.float32(0.5) * excess, np.float32(2.0) * length))
            before = distance
            t += length
        counts[r] = count


@numba.njit(error_model="numpy", cache=True)
def interpolate(grids, positions, frames, offsets, values):
    """Writes the value of each row's frame's grid at its position."""
    for t in range(frames.shape[0]):
        grid = grids[frames[t]]
        for n in range(offsets[t], offsets[t + 1]):
            values[n] = _distance(grid, positions[n, 0], positions[n, 1], positions[n, 2])


@numba.njit(cache=True)
def pack(starts, ends, counts, ray_indices, t_starts, t_ends):
    """Concatenates the rows of `starts` and `ends` into packed samples."""
    n = 0
    for r in range(counts.shape[0]):
        for i in range(counts[r]):
            ray_indices[n], t_starts[n], t_ends[n] = r, starts[r, i], ends[r, i]
            n += 1


@numba.njit(cache=True)
def composite(alphas, ray_indices, weights):
    """Writes ``w_i = alpha_i * prod_{j<i} (1 - alpha_j)`` of each ray."""
    transmittance, ray = np.float32(1.0), -1
    for n in range(alphas.shape[0]):
        if ray_indices[n] != ray:
            ray, transmittance = ray_indices[n], np.float32(1.0)
        weights[n] = alphas[n] * transmittance
        transmittance *= np.float32(1.0) - alphas[n]


@numba.njit(cache=True)
def composite_backward(alphas, ray_indices, weights, grad_weights, grad_alphas):
    """``dL/dalpha_i = T_i g_i - (sum_{j>i} w_j g_j) / (1 - alpha_i)``, from each ray's end."""
    n_samples, floor = alphas.shape[0], np.float32(1e-6)
    transmittance = np.empty(n_samples, np.float32)
    for n in range(n_samples):
        first = n == 0 or ray_indices[n] != ray_indices[n - 1]
        before = np.float32(1.0) if first else transmittance[n - 1]
        transmittance[n] = before if first else before * (np.float32(1.0) - alphas[n - 1])
    behind = np.float32(0.0)
    for n in range(n_samples - 1, -1, -1):
        if n == n_samples - 1 or ray_indices[n] != ray_indices[n + 1]:
            behind = np.float32(0.0)
        clear = max(np.float32(1.0) - alphas[n], floor)
        grad_alphas[n] = transmittance[n] * grad_weights[n] - behind / clear
        behind += weights[n] * grad_weights[n]


@numba.njit(cache=True)
def accumulate(weights, values, ray_indices, sums):
    """Adds ``weights * values`` to each sample's ray."""
    for n in range(weights.shape[0]):
        for v in range(values.shape[1]):
            sums[ray_indices[n], v] += weights[n] * values[n, v]


@numba.njit(cache=True)
def accumulate_backward(weights, values, ray_indices, grad_sums, grad_weights, grad_values):
    """Gradients of `accumulate` by weights and, unless `grad_values` is empty, by values."""
    for n in range(weights.shape[0]):
        total = np.float32(0.0)
        for v in range(values.shape[1]):
            gradient = grad_sums[ray_indices[n], v]
            total += gradient * values[n, v]
            if grad_values.shape[0] > 0:
                grad_values[n, v] = gradient * weights[n]
        grad_weights[n] = total
