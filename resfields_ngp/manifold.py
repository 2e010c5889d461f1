"""Surfaces as closed 2-manifolds: checked, and parted where sheets touch."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from .mesh import Mesh

_RETREAT = 0.02
"""How far parted vertices move towards their own triangles, as a fraction of the way: far enough
that programs which merge equal positions do not join the sheets again."""


def is_watertight(mesh: Mesh) -> bool:
    """Returns whether a mesh is a closed, oriented 2-manifold.

    Every directed edge occurs once and its opposite once, and the triangles around each vertex form
    one fan.
    """
    faces = mesh.faces
    if mesh.n_faces == 0 or not _proper(faces).all():
        return False
    starts, ends, size = *_half_edges(faces), len(mesh.vertices)
    directed, opposite = np.sort(starts * size + ends), np.sort(ends * size + starts)
    is_closed = (np.diff(directed) > 0).all() and (directed == opposite).all()
    return bool(is_closed and _fans(faces).max() + 1 == len(np.unique(faces)))


def as_manifold(mesh: Mesh) -> Mesh:
    """Parts a surface where sheets touch in an edge or a vertex.

    Triangles with a repeated corner go. Triangles around a vertex that are joined through edges
    form fans; each fan gets a vertex of its own. An edge of more than two triangles joins each with
    one of opposite direction, so a closed, oriented surface stays closed (cutting and stitching,
    Gueziec et al. 2001). Two edges left between the same vertices are told apart by a new vertex
    on one of them.

    Returns:
        A mesh of positions and triangles; the same object where nothing had to be done.
    """
    proper = _proper(mesh.faces)
    faces = mesh.faces[proper]
    fans = _fans(faces)
    corners, owners = faces.ravel(), np.zeros(fans.max(initial=-1) + 1, np.int64)
    owners[fans] = corners
    positions = mesh.vertices[owners].astype(np.float64)
    shared = np.bincount(owners, minlength=len(mesh.vertices))[owners] > 1
    if proper.all() and not shared.any() and not len(_doubled(faces)[0]):
        return mesh
    middles = np.repeat(mesh.vertices[faces].mean(1), 3, axis=0)
    sizes = np.bincount(fans, minlength=len(owners))[:, None]
    sums = np.stack([np.bincount(fans, middles[:, i], len(owners)) for i in range(3)], 1)
    retreat = _RETREAT * (sums / sizes - positions)
    parted = Mesh(positions + retreat * shared[:, None], fans.reshape(-1, 3))
    while len(_doubled(parted.faces)[0]):
        parted = _divided(parted, *(side[0] for side in _doubled(parted.faces)))
    return parted


def _doubled(faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the joined half-edges of edges between vertices that have another edge already."""
    first, second = _joined(faces)
    starts, ends = _half_edges(faces)
    directed = starts[first] * (faces.max(initial=0) + 1) + ends[first]
    again = np.ones(len(first), bool)
    again[np.unique(directed, return_index=True)[1]] = False
    return first[again], second[again]


def _divided(mesh: Mesh, first: int, second: int) -> Mesh:
    """Returns a mesh with a vertex in the middle of two joined half-edges, near their triangles."""
    both = np.array([first // 3, second // 3])
    ends = mesh.vertices[[mesh.faces.ravel()[first], mesh.faces.ravel()[second]]]
    inner = mesh.vertices[mesh.faces[both]].mean((0, 1))
    middle = ends.mean(0) + _RETREAT * (inner - ends.mean(0))
    faces = np.delete(mesh.faces, both, axis=0)
    # Each of the two triangles a b c, divided on a b, becomes a m c and m b c.
    halves = []
    for edge in (first, second):
        a, b, c = np.roll(mesh.faces[edge // 3], -(edge % 3))
        halves += [[a, len(mesh.vertices), c], [len(mesh.vertices), b, c]]
    return Mesh(np.vstack([mesh.vertices, middle]), np.concatenate([faces, halves]))


def _proper(faces: np.ndarray) -> np.ndarray:
    """Returns, for each triangle, whether its corners differ."""
    return (faces != np.roll(faces, 1, axis=1)).all(1)


def _half_edges(faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the ends of half-edge 3 f + c, which runs from corner c of face f to the next."""
    return faces.ravel(), np.roll(faces, -1, axis=1).ravel()


def _fans(faces: np.ndarray) -> np.ndarray:
    """Returns the fan of each corner, (3 F,): corners of one vertex joined through edges."""
    first, second = _joined(faces)
    rows = np.concatenate([first, _next(first)])
    columns = np.concatenate([_next(second), second])
    graph = coo_matrix((np.ones(len(rows), bool), (rows, columns)), shape=(faces.size,) * 2)
    return connected_components(graph, directed=False)[1].astype(np.int64)


def _next(half_edges: np.ndarray) -> np.ndarray:
    """Returns the corner that each half-edge runs to."""
    return half_edges - half_edges % 3 + (half_edges + 1) % 3


def _joined(faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs the half-edges that run along an edge one way with those that run it the other way."""
    starts, ends = _half_edges(faces)
    edges = np.minimum(starts, ends) * (faces.max(initial=0) + 1) + np.maximum(starts, ends)
    up, up_keys = _ranked(np.flatnonzero(starts < ends), edges, faces.size)
    down, down_keys = _ranked(np.flatnonzero(starts > ends), edges, faces.size)
    _, of_up, of_down = np.intersect1d(up_keys, down_keys, assume_unique=True, return_indices=True)
    return up[of_up], down[of_down]


def _ranked(
    half_edges: np.ndarray, edges: np.ndarray, n_half_edges: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns half-edges in order of their edges, and keys that number the equal ones."""
    ordered = half_edges[np.argsort(edges[half_edges], kind="stable")]
    _, starts, counts = np.unique(edges[ordered], return_index=True, return_counts=True)
    ranks = np.arange(len(ordered)) - np.repeat(starts, counts)
    return ordered, edges[ordered] * n_half_edges + ranks
