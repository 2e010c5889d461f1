"""Meshes whose outlines meet the masks': what training left between them is moved at export.

A field is soft: its level sets lose tips, and what is thinner than a pixel or a cell. The masks
still hold those. At points of the rim the gap between both outlines says how far the surface should
move along its normal n; a displacement d of the whole mesh, as smooth as it can be, follows from

    sum (n . d - gap)^2 ds  +  STIFFNESS * integral |grad d|^2  +  HOLD * integral |d|^2  =  min

with lengths in pixels, d being shared by neighbours. Only along normals is anything asked of d: a
tip that is too short is drawn out with its flanks where they are, because they may slide along
themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_matrix, diags, identity

from .cameras import projected
from .facing import moves_that_turn_nothing
from .mesh import Mesh, distinct_edges, face_areas, vertex_normals
from .outlines import Outline, drawn_distances, find_rim, outline_gaps
from .surface_fitting import graph_laplacian

OutlinesAt = Callable[[int], Sequence[Outline]]
"""From the index of a frame among those fitted to what the training cameras' masks show of it."""

PASSES = 3
"""Rounds of drawing and moving: rims wander as the surface moves."""
STIFFNESS = 0.3
"""Weight of the displacement's slope; the stairs of a mask are smoothed over some pixels."""
SPREAD = 2
"""Rounds in which vertices share their displacements with their neighbours, the nearest most."""
HOLD = 0.001
"""Weight of the displacement itself, a pixel squared: far from any rim it fades."""
_ITERATIONS = 25
_TOLERANCE = 3e-3
# In units of an edge's mean length: the mean length of a line in an equilateral triangle, and the
# cotangent weight of an edge of such triangles.
_CHORD, _COTANGENT = 0.45, 0.577
_SHORTEST = 0.01  # edges count as if they were no shorter than this part of the mean one


@dataclass(frozen=True)
class _Demands:
    """What M points of all rims ask for."""

    places: csr_matrix
    """(M, V) from what vertices have to what the points have."""
    normals: np.ndarray
    """(M, 3)."""
    lengths: np.ndarray
    """(M,) displacement along the normal, world units; NaN for none."""
    pixel: float
    """What a pixel measures, world units."""


def fit_outlines(
    mesh: Mesh,
    outlines: Sequence[Outline],
    reach: float,
) -> np.ndarray:  # (V, 3)
    """Returns a mesh's vertices, moved so that its outlines meet those of masks.

    Args:
        mesh: World units; closed.
        outlines: The masks, by camera. Where they contradict one another the mesh ends in between.
        reach: Most pixels that a point of a rim is to move: what is farther from a mask is no
            matter of blur, and is left to the field.
    """
    start, moves = np.asarray(mesh.vertices, np.float64), np.zeros((len(mesh.vertices), 3))
    if not outlines or mesh.n_faces == 0 or reach <= 0:
        return start
    edges, _ = distinct_edges(mesh.faces, len(start))
    lengths = np.linalg.norm(start[edges[:, 1]] - start[edges[:, 0]], axis=1)
    length = float(lengths.mean())
    weights = length / np.maximum(lengths, _SHORTEST * length)
    laplacian = graph_laplacian(edges, weights, len(start))
    sharing = _sharing(laplacian)
    area = float(face_areas(mesh).sum()) / len(start)
    for _ in range(PASSES):
        demands = _demands(start, _spread(sharing, moves), mesh.faces, edges, outlines, reach)
        if demands is None:
            break
        for _ in range(SPREAD):
            demands = replace(demands, places=csr_matrix(demands.places @ sharing))
        springs = STIFFNESS * _COTANGENT * laplacian
        springs = csr_matrix(springs + HOLD * area / demands.pixel**2 * identity(len(start)))
        weight = _CHORD * length / demands.pixel
        moves = _solved(demands, springs / weight, moves)
    return start + moves_that_turn_nothing(start, _spread(sharing, moves), mesh.faces)


def _sharing(laplacian: csr_matrix) -> csr_matrix:
    """Returns the (V, V) map from moves to ones of which half are taken over from neighbours.

    Ends of short edges are told nearly the same, else the slivers of a marched surface turn over.
    """
    halves = diags(0.5 / np.maximum(laplacian.diagonal(), 1e-9))
    return csr_matrix(identity(laplacian.get_shape()[0]) - halves @ laplacian)


def _spread(sharing: csr_matrix, told: np.ndarray) -> np.ndarray:
    """Returns how vertices move, (V, 3), by what they are told.

    They share it `SPREAD` times: a demand on one vertex alone would pull it out as a spike, whose
    slope costs next to nothing.
    """
    for _ in range(SPREAD):
        told = np.asarray(sharing @ told)
    return told


def _demands(
    start: np.ndarray,
    moves: np.ndarray,
    faces: np.ndarray,
    edges: np.ndarray,
    outlines: Sequence[Outline],
    reach: float,
) -> _Demands | None:
    """Draws the moved mesh in every camera and compares outlines; None where none are near."""
    vertices = start + moves
    normals = vertex_normals(vertices, faces)
    rims, lengths = [], []
    for outline in outlines:
        rim = find_rim(outline, vertices, normals, edges)
        pixels, depths = projected(vertices, outline.projection)
        if (depths <= 1e-9).any():  # a camera amid the subject has no outline of it
            continue
        own = drawn_distances(pixels, faces, outline.distances.shape)
        gaps = outline_gaps(outline, rim, own, reach) * rim.sizes
        ends = moves[rim.edges]
        done = ends[:, 0] + (ends[:, 1] - ends[:, 0]) * rim.shares[:, None]
        wanted = gaps + (done * rim.normals).sum(1)
        keep = np.abs(wanted) <= reach * rim.sizes  # False for NaN
        rims.append(rim.chosen(keep))
        lengths.append(wanted[keep])
    if not sum(map(len, lengths)):
        return None
    ends = np.concatenate([rim.edges for rim in rims])
    shares = np.concatenate([rim.shares for rim in rims])
    rows = np.arange(len(ends))
    entries = (np.stack([1 - shares, shares], 1).ravel(), (rows.repeat(2), ends.ravel()))
    return _Demands(
        csr_matrix(entries, shape=(len(ends), len(start))),
        np.concatenate([rim.normals for rim in rims]),
        np.concatenate(lengths),
        float(np.median(np.concatenate([rim.sizes for rim in rims]))),
    )


def _solved(demands: _Demands, springs: csr_matrix, moves: np.ndarray) -> np.ndarray:
    """Returns displacements (V, 3) that balance demands and springs.

    By conjugate gradients from the last ones on, and only so far as shows: what is left is smooth
    and small.
    """
    from .backends.cpu.outlines import balanced

    places, lengths = _parts(demands.places), demands.lengths
    limits = _ITERATIONS, _TOLERANCE
    return balanced(places, demands.normals, lengths, _parts(springs), moves, *limits)


def _parts(matrix: csr_matrix) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return matrix.indptr, matrix.indices, matrix.data
