"""Ground-truth points on a mesh: uniform by area, where something outside can see them."""

from __future__ import annotations

import numpy as np

from .raycasting import RayCaster
from .shading import ShadedMesh

_N_DIRECTIONS = 64


def sample_surface(
    mesh: ShadedMesh, caster: RayCaster, n: int, visible: bool, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draws points of a mesh, uniform by area.

    Args:
        mesh: World units.
        caster: The same mesh's.
        n: How many.
        visible: Only points whose front is seen from infinity in one of 64 directions.
        random: Draws them.

    Returns:
        (m, 3) positions in the world and (m, 3) unit normals; m is n, or less where next to
        nothing of the mesh is visible.
    """
    areas = np.linalg.norm(mesh.crosses, axis=1)
    points, normals, found = [], [], 0
    for _ in range(20):
        if found >= n:
            break
        triangles = random.choice(len(areas), n, p=areas / areas.sum())
        drawn = _points_in(mesh, triangles, random)
        facing = mesh.normals[triangles]
        if visible:
            keep = _seen(drawn, facing, caster, 1e-4 * float(np.ptp(mesh.mesh.vertices, 0).max()))
            drawn, facing = drawn[keep], facing[keep]
        points.append(drawn)
        normals.append(facing)
        found += len(drawn)
    return np.concatenate(points)[:n], np.concatenate(normals)[:n]


def _points_in(mesh: ShadedMesh, triangles: np.ndarray, random: np.random.Generator) -> np.ndarray:
    first, second = random.random((2, len(triangles), 1))
    beyond = first + second > 1
    first, second = np.where(beyond, 1 - first, first), np.where(beyond, 1 - second, second)
    a, b, c = (mesh.mesh.vertices[mesh.mesh.faces[triangles, i]] for i in range(3))
    return a + first * (b - a) + second * (c - a)


def _seen(points: np.ndarray, normals: np.ndarray, caster: RayCaster, offset: float) -> np.ndarray:
    """Returns (N,) whether a ray from a point's front, in any direction, meets nothing."""
    seen = np.zeros(len(points), bool)
    starts = points + offset * normals
    for direction in directions_around(_N_DIRECTIONS):
        (rows,) = np.nonzero(~seen & (normals @ direction > 0.05))
        rays = np.broadcast_to(direction, (len(rows), 3))
        seen[rows] = caster.escape(starts[rows], rays)
    return seen


def directions_around(n: int) -> np.ndarray:
    """Returns (n, 3) unit vectors evenly all around (Fibonacci's spiral), far apart in order."""
    index = np.arange(n) + 0.5
    height = 1 - 2 * index / n
    angle = np.pi * (1 + np.sqrt(5)) * index
    level = np.sqrt(1 - height**2)
    spiral = np.stack([level * np.cos(angle), height, level * np.sin(angle)], 1)
    # Neighbours on the spiral see the same; a stride coprime to n spreads the first few.
    stride = next(step for step in range(n // 2 + 1, n + n) if np.gcd(step, n) == 1)
    return spiral[np.arange(n) * stride % n]
