"""Numba kernels for meshes that are to meet masks: drawing, outlines, and springs at rest.

They let other threads run meanwhile, and use one only: frames are what is shared out. A sparse
matrix is the tuple of its `indptr`, `indices` and `data` (CSR).
"""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(nogil=True, cache=True, error_model="numpy")
def draw(pixels, faces, deep, margin, samples):
    """Marks the samples (H * n, W * n), n a pixel, within triangles that face the camera.

    Those are passed over that are no longer than `margin` and begin where `deep` (H, W) is set.
    """
    height, width = deep.shape
    finer = samples.shape[0] // height
    for each in range(faces.shape[0]):
        i, j, k = faces[each, 0], faces[each, 1], faces[each, 2]
        ax, ay = pixels[i, 0], pixels[i, 1]
        ux, uy = pixels[j, 0] - ax, pixels[j, 1] - ay
        vx, vy = pixels[k, 0] - ax, pixels[k, 1] - ay
        if not ux * vy < uy * vx:  # seen from behind, with y down
            continue
        if max(abs(ux), abs(uy), abs(vx), abs(vy)) <= margin:
            if 0 <= ax < width and 0 <= ay < height and deep[int(ay), int(ax)]:
                continue
        _fill(pixels[i], pixels[j], pixels[k], finer, samples)


@numba.njit(inline="always", error_model="numpy")
def _fill(first, second, third, finer, samples):
    """Marks the samples whose centres lie in a triangle; as `rasterising.covered_pixels`."""
    ax, ay, bx, by = first[0] * finer, first[1] * finer, second[0] * finer, second[1] * finer
    cx, cy = third[0] * finer, third[1] * finer
    left = max(np.ceil(min(ax, bx, cx) - 0.5), 0.0)
    right = min(np.floor(max(ax, bx, cx) - 0.5), samples.shape[1] - 1.0)
    top = max(np.ceil(min(ay, by, cy) - 0.5), 0.0)
    bottom = min(np.floor(max(ay, by, cy) - 0.5), samples.shape[0] - 1.0)
    if not (left <= right and top <= bottom):
        return
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    for row in range(int(top), int(bottom) + 1):
        y = row + 0.5
        for column in range(int(left), int(right) + 1):
            x = column + 0.5
            of_first = ((cx - bx) * (y - by) - (cy - by) * (x - bx)) / area
            of_second = ((ax - cx) * (y - cy) - (ay - cy) * (x - cx)) / area
            if of_first >= 0 and of_second >= 0 and 1 - of_first - of_second >= 0:
                samples[row, column] = 1


@numba.njit(nogil=True, cache=True, error_model="numpy")
def turning(vertices, normals, edges, centre):
    """Returns how far vertices (V, 3) face a camera, and which edges face it with one end only."""
    facing = np.empty(vertices.shape[0])
    for i in range(vertices.shape[0]):
        facing[i] = (
            (centre[0] - vertices[i, 0]) * normals[i, 0]
            + (centre[1] - vertices[i, 1]) * normals[i, 1]
            + (centre[2] - vertices[i, 2]) * normals[i, 2]
        )
    found = np.empty(edges.shape[0], np.int64)
    n_found = 0
    for edge in range(edges.shape[0]):
        found[n_found] = edge  # overwritten by the next one, unless it counts
        n_found += (facing[edges[edge, 0]] > 0) != (facing[edges[edge, 1]] > 0)
    return facing, found[:n_found].copy()


@numba.njit(nogil=True, cache=True, error_model="numpy")
def nearest_exits(values, steps, reach):
    """Returns, for each row of `values`, the step nearest to 0 where they become positive.

    Between two steps values are taken as linear; NaN where there is no such place within reach.
    """
    found = np.empty(values.shape[0])
    length = np.float32(steps[1] - steps[0])
    for m in range(values.shape[0]):
        nearest = np.inf
        for s in range(values.shape[1] - 1):
            low, high = values[m, s], values[m, s + 1]
            if low < 0 and high >= 0:
                place = steps[s] - length * low / (high - low)
                if abs(place) <= reach and abs(place) < abs(nearest):
                    nearest = place
        found[m] = nearest if np.isfinite(nearest) else np.nan
    return found


@numba.njit(nogil=True, cache=True, error_model="numpy")
def balanced(places, normals, lengths, springs, moves, n_iterations, tolerance):
    """Returns moves (V, 3) that balance springs and what is asked for along normals.

    By conjugate gradients from `moves` on, preconditioned by the diagonal, until the residual is
    `tolerance` of the target.

    Args:
        places: (M, V) from moves of vertices to those of M points, one or more.
        normals: (M, 3).
        lengths: (M,) moves along the normals that are asked for.
        springs: (V, V).
        moves: (V, 3) to begin with.
        n_iterations: At most.
        tolerance: A part of one.
    """
    moves, residuals, scales = moves.copy(), np.zeros_like(moves), np.zeros_like(moves)
    square = _demand(places, normals, lengths, springs, residuals, scales)
    enough = tolerance * np.sqrt(square)
    steps, changes = np.empty_like(moves), np.empty_like(moves)
    _apply(places, normals, springs, moves, changes)
    product, square = 0.0, 0.0
    for i in range(moves.shape[0]):
        for axis in range(3):
            residuals[i, axis] -= changes[i, axis]
            steps[i, axis] = scales[i, axis] * residuals[i, axis]
            product += residuals[i, axis] * steps[i, axis]
            square += residuals[i, axis] ** 2
    for _ in range(n_iterations):
        if np.sqrt(square) <= enough:
            break
        _apply(places, normals, springs, steps, changes)
        length, last, product, square = product / _dot(steps, changes), product, 0.0, 0.0
        for i in range(moves.shape[0]):
            for axis in range(3):
                moves[i, axis] += length * steps[i, axis]
                residual = residuals[i, axis] - length * changes[i, axis]
                residuals[i, axis] = residual
                square += residual * residual
                product += residual * scales[i, axis] * residual
        share = product / last
        for i in range(moves.shape[0]):
            for axis in range(3):
                steps[i, axis] = scales[i, axis] * residuals[i, axis] + share * steps[i, axis]
    return moves


@numba.njit(error_model="numpy")
def _demand(places, normals, lengths, springs, target, scales):
    """Adds what is asked for to `target`, sets the diagonal's inverse, returns |target|^2."""
    starts, columns, entries = places
    for m in range(normals.shape[0]):
        for at in range(starts[m], starts[m + 1]):
            for axis in range(3):
                share = entries[at] * normals[m, axis]
                target[columns[at], axis] += lengths[m] * share
                scales[columns[at], axis] += share * share
    starts, columns, entries = springs
    square = 0.0
    for i in range(target.shape[0]):
        own = 0.0
        for at in range(starts[i], starts[i + 1]):
            if columns[at] == i:
                own += entries[at]
        for axis in range(3):
            scales[i, axis] = 1 / (scales[i, axis] + own)
            square += target[i, axis] ** 2
    return square


@numba.njit(error_model="numpy")
def _apply(places, normals, springs, values, found):
    """Sets `found` (V, 3) to the pull of springs and points at displacements (V, 3).

    Unsigned, an index is never taken to count from the end, which saves looking.
    """
    for i in range(values.shape[0]):
        found[i, 0], found[i, 1], found[i, 2] = _gathered(springs, i, values)
    starts, columns, entries = places
    for m in range(normals.shape[0]):
        nx, ny, nz = normals[m, 0], normals[m, 1], normals[m, 2]
        x, y, z = _gathered(places, m, values)
        along = x * nx + y * ny + z * nz
        for at in range(starts[m], starts[m + 1]):
            pull, j = entries[at] * along, np.uint32(columns[at])
            found[j, 0] += pull * nx
            found[j, 1] += pull * ny
            found[j, 2] += pull * nz


@numba.njit(inline="always", error_model="numpy")
def _gathered(matrix, row, values):
    """Returns a row of a sparse matrix times displacements (V, 3)."""
    starts, columns, entries = matrix
    x, y, z = 0.0, 0.0, 0.0
    for at in range(starts[row], starts[row + 1]):
        entry, j = entries[at], np.uint32(columns[at])
        x += entry * values[j, 0]
        y += entry * values[j, 1]
        z += entry * values[j, 2]
    return x, y, z


@numba.njit(error_model="numpy")
def _dot(first, second):
    total = 0.0
    for i in range(first.shape[0]):
        for axis in range(3):
            total += first[i, axis] * second[i, axis]
    return total
