"""Fewer triangles: quadric edge collapses down to a count."""

from __future__ import annotations

import re

import fast_simplification
import numpy as np

from .manifold import as_manifold
from .mesh import Mesh

FEWEST = 100
"""The least target: below it nothing of a figure is left."""

# How fast the allowed error grows. Slowly, the cheapest edges go first and folds are rare, but the
# library may give up before the target is reached.
_AGGRESSIONS = (3, 5, 7)
_TOLERANCE = 1.02


def parse_target(text: str) -> int:
    """Returns the number of triangles that a text means: a number, thousands as k; 0 for full.

    Raises:
        ValueError: It is none of these, or below `FEWEST`.

    >>> parse_target("40k"), parse_target("full"), parse_target("12000")
    (40000, 0, 12000)
    """
    plain = text.strip().lower()
    if plain == "full":
        return 0
    found = re.fullmatch(r"(\d+)(k?)", plain)
    count = int(found[1]) * (1000 if found[2] else 1) if found else 0
    if count < FEWEST:
        raise ValueError(
            f"meshing.target_faces is '{text}'; allowed: full, or a number of triangles, "
            f"{FEWEST} or more, such as 20k"
        )
    return count


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
    points, faces = (mesh.vertices - middle) / size, mesh.faces
    for aggression in _AGGRESSIONS:
        if len(faces) > _TOLERANCE * target:
            points, faces = _collapsed(points, faces, target, aggression)
    return as_manifold(Mesh(points * size + middle, faces))


def _collapsed(
    points: np.ndarray, faces: np.ndarray, target: int, aggression: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns what the library leaves of a mesh."""
    found = fast_simplification.simplify(
        np.ascontiguousarray(points, np.float64),
        np.ascontiguousarray(faces, np.int32),
        target_count=target,
        agg=aggression,
    )
    return found[0].astype(np.float64), found[1].astype(np.int64)
