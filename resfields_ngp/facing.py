"""Displacements of a mesh that leave its triangles facing the way they faced."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csc_matrix, csr_matrix

from .mesh import face_crosses

_SHARE = 0.5
"""How far a round takes the corners of a triangle that turned towards moving as one."""
_PATIENCE = 200
"""Rounds after which they are also held back: rarely needed, but it always comes to an end."""
_HELD = 0.5


def moves_that_turn_nothing(
    start: np.ndarray,  # (V, 3)
    moves: np.ndarray,  # (V, 3)
    faces: np.ndarray,  # (F, 3)
) -> np.ndarray:  # (V, 3)
    """Returns displacements of a mesh's vertices by which no triangle turns over.

    It turns over where its normal turns by more than 90 degrees. The corners of such a triangle
    come to move alike, which leaves where they are going and what they were as it was, until the
    triangles around take up the difference. Where none turns the same array comes back.

    Args:
        start: Where vertices are.
        moves: How they are to move.
        faces: The triangles.
    """
    before = face_crosses(start, faces)
    over = np.flatnonzero((before * face_crosses(start + moves, faces)).sum(1) < 0)
    if len(over) == 0:
        return moves
    around, moves, n_rounds = _triangles_around(faces, len(start)), moves.copy(), 0
    while len(over):
        vertices, means = _corner_means(faces[over], moves[faces[over]].mean(1))
        means *= 1.0 if n_rounds < _PATIENCE else _HELD
        moves[vertices] += _SHARE * (means - moves[vertices])
        suspects = np.unique(around[:, vertices].indices)
        after = face_crosses(start + moves, faces[suspects])
        over = suspects[(before[suspects] * after).sum(1) < 0]
        n_rounds += 1
    return moves


def _triangles_around(faces: np.ndarray, n_vertices: int) -> csc_matrix:
    """Returns a (F, V) matrix whose columns have entries for the triangles of each vertex."""
    ends = np.arange(len(faces) + 1) * 3
    entries = (np.ones(faces.size, bool), faces.ravel(), ends)
    return csc_matrix(csr_matrix(entries, shape=(len(faces), n_vertices)))


def _corner_means(
    faces: np.ndarray,  # (N, 3)
    values: np.ndarray,  # (N, 3) of triangles
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the vertices of some triangles, (M,), and the means (M, 3) over those of each."""
    vertices, numbers, counts = np.unique(faces, return_inverse=True, return_counts=True)
    sums = [np.bincount(numbers.ravel(), np.repeat(column, 3)) for column in values.T]
    return vertices, np.stack(sums, 1) / counts[:, None]
