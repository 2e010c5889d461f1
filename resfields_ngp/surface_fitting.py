"""Vertices laid onto a frame's surface by the field itself, smoothly and without folds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.sparse import csc_matrix, csr_matrix, diags, identity
from scipy.sparse.linalg import splu

from .frame_surface import Surface
from .mesh import distinct_edges, vertex_normals

SPRINGS, SPRING_STEPS = (3.0, 0.3), 4
"""Smoothness of what the field adds, pass by pass, and the steps of a pass."""
UNFOLDINGS = 20
"""Rounds in which folds are drawn flat, at most."""
_STEP = 0.02  # longest step along the field, model units

Smoother = Callable[[np.ndarray], np.ndarray]
"""(V, 3) displacements to smooth ones."""


def fitted(
    surface: Surface,
    start: np.ndarray,  # (V, 3) near the surface
    faces: np.ndarray,  # (F, 3)
    springs: Sequence[Smoother],
) -> np.ndarray:  # (V, 3)
    """Returns positions on a frame's surface that are moved there from `start` smoothly."""
    positions = start
    for smooth in springs:
        for _ in range(SPRING_STEPS):
            steps = steps_to(surface, positions, vertex_normals(positions, faces))
            positions = start + smooth(positions + steps - start)
    # The last word is the field's, but for what would fold neighbours over.
    for _ in range(2):
        steps = steps_to(surface, positions, vertex_normals(positions, faces))
        positions = positions + springs[-1](steps)
    return positions


def steps_to(surface: Surface, positions: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Returns (V, 3) steps onto a surface: along the field's normals by its distance.

    Outside the occupied region, or where the mesh, by its (V, 3) normals, and the field face apart,
    the field is not to be trusted: there the steps are 0.
    """
    directions = surface.normals(positions)
    is_near = surface.outside(positions) <= 0
    is_alike = (directions * normals).sum(1) > 0
    lengths = np.clip(surface.values(positions), -_STEP, _STEP) * (is_near & is_alike)
    return -lengths[:, None] * directions


def unfolded(
    surface: Surface,
    positions: np.ndarray,  # (V, 3)
    faces: np.ndarray,  # (F, 3)
    laplacian: csr_matrix,
) -> np.ndarray:  # (V, 3)
    """Returns positions with folds drawn flat: vertices there go amid their neighbours.

    Only what lies within two edges of a triangle that faces inwards is moved, along the surface.
    """
    counts = np.maximum(laplacian.diagonal(), 1)[:, None]
    positions, suspects = positions.copy(), np.arange(len(faces))
    for _ in range(UNFOLDINGS):
        folded = suspects[flipped(surface, positions, faces[suspects])]
        if len(folded) == 0:
            break
        touched = np.zeros(len(positions), bool)
        touched[faces[folded]] = True
        for _ in range(2):
            touched[faces[touched[faces].any(1)]] = True
        rows, places = laplacian[touched], np.flatnonzero(touched)
        for _ in range(4):
            positions[places] -= (rows @ positions) / counts[places]
        suspects = np.flatnonzero(touched[faces].any(1))
        normals = vertex_normals(positions, faces[suspects])[places]
        positions[places] += steps_to(surface, positions[places], normals)
    return positions


def flipped(surface: Surface, positions: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Returns, for each triangle, whether it faces against the field's normal at its middle."""
    corners = positions[faces]
    crosses = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = surface.normals(corners.mean(1))
    return (crosses * normals).sum(1) < 0


def edge_laplacian(faces: np.ndarray, n_vertices: int) -> csr_matrix:
    """Returns the (V, V) graph Laplacian of a mesh: for each edge the difference of its ends."""
    edges, _ = distinct_edges(faces, n_vertices)
    return graph_laplacian(edges, np.ones(len(edges)), n_vertices)


def graph_laplacian(
    edges: np.ndarray,  # (E, 2)
    weights: np.ndarray,  # (E,)
    n_vertices: int,
) -> csr_matrix:
    """Returns the (V, V) Laplacian of a graph: of each edge the weighted difference of its ends."""
    rows, columns = np.concatenate([edges, edges[:, ::-1]]).T
    entries = (np.concatenate([weights, weights]), (rows, columns))
    adjacency = csr_matrix(entries, shape=(n_vertices, n_vertices))
    return csr_matrix(diags(np.asarray(adjacency.sum(1)).ravel()) - adjacency)


def smoother(laplacian: csr_matrix, weight: float) -> Smoother:
    """Returns the map to displacements d that minimise |d - d_0|^2 + weight * |grad d|^2."""
    system = csc_matrix(identity(laplacian.get_shape()[0]) + weight * laplacian)
    return splu(system, permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True}).solve
