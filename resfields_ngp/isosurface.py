"""Marching cubes in blocks: a coarse lattice finds the surface, finer ones refine it there.

Vocabulary
    nodes       lattice points ``index / n_cells`` of [0, 1]^3; there are ``n_cells + 1`` along each
                axis.
    active      said of a coarse cell that may hold the surface, and of fine nodes that touch such
                cells only.

Every fine value lives once in one float32 array whose pages are touched only where the surface is,
so blocks agree on their common faces, and the vertex of a lattice edge is the same vertex in every
block: no cracks, nothing to weld by distance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import mcubes
import numpy as np

HALVINGS = 2  # from the coarsest lattice's cells to the finest one's
BLOCK = 32  # cells along a block, before their halving
# In cells: half a diagonal, 0.87, would do for gradients of 1; theirs are only about 1.
SAFETY = 1.3
CHUNK = 1 << 18  # positions evaluated at once

ScalarField = Callable[[np.ndarray], np.ndarray]
"""(N, 3) float32 positions in [0, 1]^3 to (N,) float32 values, negative inside."""


def isosurface(
    sdfs: ScalarField,
    resolution: int,
    outside: ScalarField | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Extracts the closed surface where a scalar field crosses zero in [0, 1]^3.

    Nodes on the border of the box count as outside, so the surface is closed there too.

    Args:
        sdfs: The field; about a signed distance, for the search beside the surface relies on its
            size.
        resolution: Cells along an axis; rounded up to a multiple of 4.
        outside: Distances outside a region known to hold everything: where it is positive the field
            is not asked and the value is positive. None asks everywhere.

    Returns:
        (V, 3) float32 vertices in [0, 1]^3 and (F, 3) int64 triangles, counter-clockwise seen from
        outside.

    Raises:
        ValueError: The resolution is below 4.
    """
    coarsest = 2**HALVINGS
    if resolution < coarsest:
        raise ValueError(
            f"resolution is {resolution}; an isosurface needs at least {coarsest} cells an axis"
        )
    n_cells = -(-resolution // coarsest)
    nodes = np.indices((n_cells + 1,) * 3).reshape(3, -1).T
    values = _evaluate(sdfs, outside, nodes, n_cells).reshape((n_cells + 1,) * 3)
    active = np.ones((n_cells,) * 3, bool)
    for halving in range(HALVINGS):
        active = _active_cells(values, reach=SAFETY / n_cells)
        is_last = halving == HALVINGS - 1
        blocks = list(_blocks(active if is_last else np.ones_like(active)))
        values = _halved(sdfs, outside, values, active, blocks)
        n_cells *= 2
    pieces = [_march(values, block) for block in _blocks(active)]
    return _join(pieces, n_cells)


def _evaluate(
    sdfs: ScalarField, outside: ScalarField | None, nodes: np.ndarray, n_cells: int
) -> np.ndarray:
    """Returns values at (N, 3) integer nodes, positive on the border and where known outside."""
    values = np.empty(len(nodes), np.float32)
    for begin in range(0, len(nodes), CHUNK):
        part = nodes[begin : begin + CHUNK]
        positions = (part / n_cells).astype(np.float32)
        found = np.full(len(part), 1.0, np.float32) if outside is None else outside(positions)
        asked = found <= 0 if outside is not None else np.ones(len(part), bool)
        if asked.any():
            found[asked] = sdfs(positions[asked])
        border = ((part == 0) | (part == n_cells)).any(1)
        values[begin : begin + CHUNK] = np.where(border, np.maximum(found, 1 / n_cells), found)
    # A value of exactly zero would put the vertex on a node, where three lattice edges meet and its
    # edge is lost.
    nudge = np.float32(1e-4 / n_cells)
    return np.where(np.abs(values) < nudge, np.where(values < 0, -nudge, nudge), values)


def _active_cells(coarse: np.ndarray, reach: float) -> np.ndarray:
    """Returns the coarse cells with a corner in reach of the surface or beside one it crosses."""
    near = _any_corner(np.abs(coarse) < reach)
    crossed = _any_corner(coarse < 0) & _any_corner(coarse >= 0)
    padded = np.pad(crossed, 1)
    for axis in range(3):
        padded = padded | np.roll(padded, 1, axis) | np.roll(padded, -1, axis)
    return near | padded[1:-1, 1:-1, 1:-1]


def _any_corner(nodes: np.ndarray) -> np.ndarray:
    """Returns, for each cell, whether any of its eight corners is set."""
    for axis in range(3):
        low = [slice(None)] * 3
        high = [slice(None)] * 3
        low[axis], high[axis] = slice(None, -1), slice(1, None)
        nodes = nodes[tuple(low)] | nodes[tuple(high)]
    return nodes


def _blocks(active: np.ndarray) -> Iterator[tuple[slice, ...]]:
    """Yields the cells of each block that has active ones."""
    for x in range(0, active.shape[0], BLOCK):
        for y in range(0, active.shape[1], BLOCK):
            for z in range(0, active.shape[2], BLOCK):
                block = tuple(slice(i, min(i + BLOCK, active.shape[0])) for i in (x, y, z))
                if active[block].any():
                    yield block


def _nodes_of(block: tuple[slice, ...], ratio: int) -> tuple[slice, ...]:
    """Returns the nodes of a block of cells, both faces included, with `ratio` of them a cell."""
    return tuple(slice(cells.start * ratio, cells.stop * ratio + 1) for cells in block)


def _halved(
    sdfs: ScalarField,
    outside: ScalarField | None,
    coarse: np.ndarray,
    active: np.ndarray,
    blocks: list[tuple[slice, ...]],
) -> np.ndarray:
    """Returns values on cells half as long: the field's where active, else interpolated.

    Beyond the blocks they are 0 and their memory is not touched.
    """
    n_cells = active.shape[0] * 2
    values = np.zeros((n_cells + 1,) * 3, np.float32)
    for block in blocks:
        values[_nodes_of(block, 2)] = _interpolated(coarse[_nodes_of(block, 1)])
    for block in blocks:
        nodes = _active_nodes(active, block)
        values[tuple(nodes.T)] = _evaluate(sdfs, outside, nodes, n_cells)
    return values


def _active_nodes(active: np.ndarray, block: tuple[slice, ...]) -> np.ndarray:
    """Returns (N, 3) fine nodes of a block, its upper faces left out, that touch only active cells.

    A node that touches an inactive cell keeps its interpolated value, so that no surface ever
    enters such a cell, which would tear it where nothing is marched.
    """
    with_lower_neighbours = tuple(slice(cells.start, cells.stop + 1) for cells in block)
    cells = np.pad(active, ((1, 0),) * 3, constant_values=True)[with_lower_neighbours]
    for axis in range(3):
        cells = cells.repeat(2, axis).take(np.arange(1, cells.shape[axis] * 2), axis)
    nodes = ~_any_corner(~cells)
    return np.argwhere(nodes) + [cells.start * 2 for cells in block]


def _interpolated(coarse: np.ndarray) -> np.ndarray:
    """Returns a block's values, interpolated to the nodes of cells half as long."""
    for axis in range(3):
        sides = coarse.shape[axis]
        shape = [2 * sides - 1 if i == axis else size for i, size in enumerate(coarse.shape)]
        fine = np.empty(shape, np.float32)
        target, source = np.moveaxis(fine, axis, 0), np.moveaxis(coarse, axis, 0)
        target[::2] = source
        target[1::2] = 0.5 * (source[:-1] + source[1:])
        coarse = fine
    return coarse


def _march(
    values: np.ndarray, block: tuple[slice, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns a block's vertices in cells, the lattice edge of each, and its triangles."""
    vertices, triangles = mcubes.marching_cubes(values[_nodes_of(block, 2)].astype(np.float64), 0.0)
    vertices += [cells.start * 2 for cells in block]
    nodes = np.floor(vertices).astype(np.int64)
    axes = np.argmax(vertices - nodes, axis=1)
    edges = np.ravel_multi_index(tuple(nodes.T), values.shape) * 3 + axes
    return vertices, edges, triangles.astype(np.int64)[:, ::-1]


def _join(
    pieces: list[tuple[np.ndarray, np.ndarray, np.ndarray]], n_cells: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the blocks' surfaces as one, with the vertices on shared lattice edges made one."""
    if not pieces:
        return np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int64)
    starts = np.cumsum([0] + [len(vertices) for vertices, _, _ in pieces])
    triangles = np.concatenate(
        [faces + start for (_, _, faces), start in zip(pieces, starts[:-1], strict=True)]
    )
    _, first, numbers = np.unique(
        np.concatenate([p[1] for p in pieces]), return_index=True, return_inverse=True
    )
    vertices = np.concatenate([p[0] for p in pieces])[first] / n_cells
    return vertices.astype(np.float32), numbers[triangles]
