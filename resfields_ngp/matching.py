"""Which point of one surface belongs to which of another: by transport of mass, and by nearness.

Nearest points lose a leg that jumps by more than its width: two legs then claim the same one. A
transport plan of all the surface's mass (unbalanced entropic optimal transport, Chizat et al. 2018;
for registration Feydy et al. 2019) gives each its own. Nearest points finish, where it is blurred.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import KDTree

from .mesh import Mesh, face_areas

TURN = 0.04
"""Distance that counts as much as normals that differ by 1, model units."""
REACH = 0.6
"""Distance beyond which mass is rather left than moved, model units."""
SWEEPS = 8
"""Sinkhorn iterations of a plan while its blur shrinks, and as many again after that."""


@dataclass(frozen=True)
class Points:
    """Points of a surface."""

    positions: np.ndarray
    """(M, 3)."""
    normals: np.ndarray
    """(M, 3) unit."""
    masses: np.ndarray
    """(M,) the area that each stands for; they sum to 1."""

    @property
    def features(self) -> np.ndarray:
        """(M, 6) coordinates in which nearness takes normals into account."""
        return np.concatenate([self.positions, TURN * self.normals], axis=1)


@dataclass(frozen=True)
class Pairs:
    """Vertices of a mesh and where they should go."""

    vertices: np.ndarray
    """(M,) numbers."""
    targets: np.ndarray
    """(M, 3) places on the other surface."""
    normals: np.ndarray
    """(M, 3) normals there."""
    weights: np.ndarray
    """(M,) how much each counts, 0 to about 1."""


def shared_areas(mesh: Mesh, chosen: np.ndarray) -> np.ndarray:
    """Returns the part of a mesh's area that is nearest to each of some (M,) vertices, (M,)."""
    size = len(mesh.vertices)
    areas = np.bincount(mesh.faces.ravel(), np.repeat(face_areas(mesh), 3), size)
    closest = KDTree(mesh.vertices[chosen]).query(mesh.vertices)[1]
    # None is quite without: logarithms are taken of them.
    masses = np.bincount(closest, areas, len(chosen)) + 1e-6 * areas.mean()
    return masses / masses.sum()


def even_vertices(mesh: Mesh, count: int) -> np.ndarray:
    """Returns about `count` vertex numbers of a mesh, spread evenly over it."""
    used = np.unique(mesh.faces)
    if len(used) <= count:
        return used
    size = np.sqrt(face_areas(mesh).sum() / count)
    cells = np.floor(mesh.vertices[used] / size).astype(np.int64)
    return used[np.unique(cells, axis=0, return_index=True)[1]]


def transported(
    source: Points,
    chosen: np.ndarray,  # (M,) the vertices that the source's points are
    target: Points,
    blur: float,
) -> Pairs:
    """Pairs each source point with the mean of where a transport plan sends its mass.

    Args:
        source: Points of the mesh.
        chosen: Their numbers.
        target: Points of the other surface.
        blur: Spread of what one point is sent to, model units.
    """
    plan = transport_plan(source, target, blur)
    sent = plan.sum(1)
    shares = plan / np.maximum(sent, 1e-12)[:, None]
    normals = _unit(shares @ target.normals)
    return Pairs(chosen, shares @ target.positions, normals, sent / source.masses)


def transport_plan(source: Points, target: Points, blur: float) -> np.ndarray:
    """Returns the mass sent from each source point to each target point, (M, N).

    By Sinkhorn's iterations in the logarithmic domain, from a blur over everything down to the one
    asked for, which needs far fewer of them; marginals give way to distances above `REACH`.
    """
    x, y = source.features.astype(np.float32), target.features.astype(np.float32)
    costs = (x * x).sum(1)[:, None] + (y * y).sum(1) - 2 * x @ y.T
    log_source, log_target = (np.log(p.masses).astype(np.float32) for p in (source, target))
    rows, columns = np.zeros_like(log_source), np.zeros_like(log_target)
    blurs = np.geomspace(max(REACH, blur), blur, SWEEPS, dtype=np.float32)
    for heat in np.append(blurs, [blurs[-1]] * SWEEPS) ** 2:
        give = 1 / (1 + heat / np.float32(REACH**2))
        columns = -give * heat * _log_sum(((log_source + rows / heat)[:, None] - costs / heat).T)
        rows = -give * heat * _log_sum(log_target + (columns - costs) / heat)
    return np.exp((log_source + rows / heat)[:, None] + log_target + (columns - costs) / heat)


def nearest(source: Points, chosen: np.ndarray, target: Points, reach: float) -> Pairs:
    """Pairs each point with the nearest of the other surface, both ways.

    Pairs count less the farther they are apart, a quarter at `reach` (Geman and McClure), and not
    at all where the surfaces face apart.
    """
    forth = KDTree(target.features).query(source.features)[1]
    back = KDTree(source.features).query(target.features)[1]
    froms = np.concatenate([np.arange(len(chosen)), back])
    tos = np.concatenate([forth, np.arange(len(target.masses))])
    gaps = np.linalg.norm(source.positions[froms] - target.positions[tos], axis=1)
    facing = np.clip((source.normals[froms] * target.normals[tos]).sum(1), 0, 1)
    weights = facing / (1 + (gaps / reach) ** 2) ** 2
    return Pairs(chosen[froms], target.positions[tos], target.normals[tos], weights)


def _log_sum(scores: np.ndarray) -> np.ndarray:
    """Returns the logarithm of each row's sum of exponentials."""
    tops = scores.max(1)
    return tops + np.log(np.exp(scores - tops[:, None]).sum(1))


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-20)
