"""Fewer triangles: quadric edge collapses down to a count, and surfaces kept closed 2-manifolds."""

from __future__ import annotations

import fast_simplification
import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from .mesh import Mesh

PRESETS = {"20k": 20_000, "40k": 40_000, "100k": 100_000, "full": 0}
"""Names of target counts; 0 keeps every triangle."""

FEWEST = 100
"""The least target: below it nothing of a figure is left."""

# Slow growth of the allowed error: the cheapest edges go first, and folds are rare.
_AGGRESSION = 3


def parse_target(text: str) -> int:
    """Returns the number of triangles that a preset or a number means; 0 keeps all.

    Raises:
        ValueError: It is neither a preset nor a whole number of at least `FEWEST`.

    >>> parse_target("40k"), parse_target("full"), parse_target("12000")
    (40000, 0, 12000)
    """
    if text in PRESETS:
        return PRESETS[text]
    if not text.isdigit() or int(text) < FEWEST:
        raise ValueError(
            f"meshing.target_faces is '{text}'; allowed: {', '.join(PRESETS)},"
            f" or a number of triangles, {FEWEST} or more"
        )
    return int(text)


def decimate(mesh: Mesh, target: int) -> Mesh:
    """Collapses edges until about `target` triangles are left (Garland and Heckbert 1997).

    Positions and triangles only: normals and colours belong to the old vertices. A closed surface
    stays closed, and what the collapses pinch together is parted again (`as_manifold`).

    Args:
        mesh: The surface.
        target: Triangles wanted; 0, or as many as there are, returns the mesh as it is.
    """
    if not target or mesh.n_faces <= target:
        return mesh
    # About its middle and in units of its size: the library computes in single precision.
    middle = (mesh.vertices.min(0) + mesh.vertices.max(0)) / 2
    size = float(np.ptp(mesh.vertices, axis=0).max()) or 1.0
    points, faces = fast_simplification.simplify(
        np.ascontiguousarray((mesh.vertices - middle) / size, np.float32),
        np.ascontiguousarray(mesh.faces, np.int32),
        target_count=target,
        agg=_AGGRESSION,
    )
    return as_manifold(Mesh(points.astype(np.float64) * size + middle, faces.astype(np.int64)))


def as_manifold(mesh: Mesh) -> Mesh:
    """Parts a surface where sheets touch, so that every edge has at most two triangles.

    Triangles stay as they are, but those with a repeated corner go. Around each vertex, triangles
    that are joined through edges form fans; each fan gets a vertex of its own. An edge of more than
    two triangles joins each triangle with the one of opposite direction that lies next in order,
    so a closed, oriented surface stays closed (Gueziec et al. 2001, cutting and stitching).

    Returns:
        A mesh of positions and triangles; the same object where nothing had to be done.
    """
    faces = mesh.faces
    proper = (faces != np.roll(faces, 1, axis=1)).all(1)
    if proper.all() and not _has_pinches(mesh):
        return mesh
    faces = faces[proper]
    first, second = _paired_half_edges(faces, len(mesh.vertices))
    # Half-edge 3 f + c runs from corner c of face f to corner c + 1: paired ones share both ends.
    after_first, after_second = _next_corner(first), _next_corner(second)
    rows = np.concatenate([first, after_first])
    columns = np.concatenate([after_second, second])
    n_corners = faces.size
    graph = coo_matrix((np.ones(len(rows), bool), (rows, columns)), shape=(n_corners, n_corners))
    fans = connected_components(graph, directed=False)[1]
    _, firsts, numbers = np.unique(fans, return_index=True, return_inverse=True)
    return Mesh(mesh.vertices[faces.ravel()[firsts]], numbers.reshape(-1, 3))


def is_watertight(mesh: Mesh) -> bool:
    """Returns whether a mesh is a closed, oriented 2-manifold with a volume.

    Every directed edge occurs once and its opposite once, and the triangles around each vertex form
    one fan.
    """
    if mesh.n_faces == 0 or (mesh.faces == np.roll(mesh.faces, 1, axis=1)).any():
        return False
    return _is_closed(mesh.faces, len(mesh.vertices)) and not _has_pinches(mesh)


def _is_closed(faces: np.ndarray, size: int) -> bool:
    starts, ends = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
    directed = np.sort(starts * size + ends)
    opposite = np.sort(ends * size + starts)
    return bool((np.diff(directed) > 0).all() and (directed == opposite).all())


def _has_pinches(mesh: Mesh) -> bool:
    """Returns whether an edge has more than two triangles or a vertex more than one fan."""
    faces, size = mesh.faces, len(mesh.vertices)
    starts, ends = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
    directed = starts * size + ends
    if len(np.unique(directed)) < len(directed):
        return True
    first, second = _paired_half_edges(faces, size)
    # In a fan of k triangles joined all round there are k pairs, in an open one k - 1.
    graph_rows = np.concatenate([first, _next_corner(first)])
    graph_columns = np.concatenate([_next_corner(second), second])
    shape = (faces.size, faces.size)
    graph = coo_matrix((np.ones(len(graph_rows), bool), (graph_rows, graph_columns)), shape=shape)
    return connected_components(graph, directed=False)[0] > len(np.unique(faces))


def _next_corner(half_edges: np.ndarray) -> np.ndarray:
    """Returns the corner that each half-edge runs to."""
    return half_edges - half_edges % 3 + (half_edges + 1) % 3


def _paired_half_edges(faces: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs the half-edges that run each edge up with those that run it down, in order."""
    starts, ends = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
    edges = np.minimum(starts, ends) * size + np.maximum(starts, ends)
    up = np.flatnonzero(starts < ends)
    down = np.flatnonzero(starts > ends)
    up, down = up[np.argsort(edges[up], kind="stable")], down[np.argsort(edges[down], kind="stable")]
    up_keys = _ranked(edges[up], faces.size)
    down_keys = _ranked(edges[down], faces.size)
    _, of_up, of_down = np.intersect1d(up_keys, down_keys, assume_unique=True, return_indices=True)
    return up[of_up], down[of_down]


def _ranked(sorted_edges: np.ndarray, n_half_edges: int) -> np.ndarray:
    """Returns keys that tell repeated edges apart by their place among their equals."""
    _, starts, counts = np.unique(sorted_edges, return_index=True, return_counts=True)
    ranks = np.arange(len(sorted_edges)) - np.repeat(starts, counts)
    return sorted_edges * n_half_edges + ranks
