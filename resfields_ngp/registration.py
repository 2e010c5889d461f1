"""A bent mesh laid onto another surface: non-rigid registration on a graph of nodes.

Each round pairs points of both surfaces (`matching`) and moves the nodes by one Gauss-Newton step
that shortens the pairs while neighbouring nodes keep moving alike (as rigidly as possible; Sumner
et al. 2007, Li, Sumner and Pauly 2008). Rounds begin stiff, so that limbs swing as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix, identity, vstack
from scipy.sparse.linalg import splu
from scipy.spatial.transform import Rotation

from .deformation_graph import DeformationGraph, Pose
from .matching import (
    Pairs,
    Points,
    even_vertices,
    nearest,
    shared_areas,
    transported,
)
from .mesh import Mesh, vertex_normals


@dataclass(frozen=True)
class Rounds:
    """Some rounds alike."""

    count: int
    """How many."""
    spread: float
    """Blur of the transport, or reach of nearest points, model units."""
    stiffness: float
    """Weight of neighbours that move alike, against the pairs."""
    along: float
    """Weight of a pair's distance along the surface, against 1 across it."""


SEARCH = (Rounds(3, 0.04, 1.0, 0.5), Rounds(3, 0.025, 0.3, 0.5), Rounds(3, 0.015, 0.1, 0.5))
"""Rounds of transport from a pose that may be far off."""
FOLLOW = (Rounds(3, 0.025, 0.3, 0.5), Rounds(3, 0.015, 0.1, 0.5))
"""Rounds of transport from a pose that is about right."""
FINISH = (Rounds(3, 0.05, 0.1, 0.1), Rounds(3, 0.03, 0.05, 0.1), Rounds(3, 0.02, 0.02, 0.1))
"""Rounds of nearest points after those."""
TWIST = 0.5
"""Weight of neighbours that turn alike, against that they stay where the other's turn puts them."""
N_TRANSPORTED, N_NEAREST = 1000, 6000
"""Points of each surface, at most about."""


class Target:
    """A surface to be laid onto, with its points."""

    def __init__(self, mesh: Mesh) -> None:
        """Takes points of a mesh in model space."""
        self.mesh = mesh
        normals = vertex_normals(mesh.vertices, mesh.faces)
        self.few, self.many = (
            Points(mesh.vertices[chosen], normals[chosen], shared_areas(mesh, chosen))
            for chosen in (even_vertices(mesh, N_TRANSPORTED), even_vertices(mesh, N_NEAREST))
        )


class Registration:
    """A mesh with its graph, to be laid onto one surface after the other."""

    def __init__(self, mesh: Mesh, spacing: float) -> None:
        """Spreads nodes over a mesh, `spacing` apart in its units."""
        self.graph = DeformationGraph(mesh, spacing)
        self._faces = mesh.faces
        self._few, self._many = (even_vertices(mesh, n) for n in (N_TRANSPORTED, N_NEAREST))
        self._few_masses = shared_areas(mesh, self._few)
        self._many_masses = shared_areas(mesh, self._many)

    def laid(self, pose: Pose, target: Target, transport: Sequence[Rounds]) -> Pose:
        """Returns the pose in which the mesh lies on a surface, searched from another pose."""
        for rounds in transport:
            for _ in range(rounds.count):
                source = self._points(pose, self._few, self._few_masses)
                pairs = transported(source, self._few, target.few, rounds.spread)
                pose = stepped(self.graph, pose, pairs, rounds)
        for rounds in FINISH:
            for _ in range(rounds.count):
                source = self._points(pose, self._many, self._many_masses)
                pairs = nearest(source, self._many, target.many, rounds.spread)
                pose = stepped(self.graph, pose, pairs, rounds)
        return pose

    def _points(self, pose: Pose, chosen: np.ndarray, masses: np.ndarray) -> Points:
        positions = self.graph.posed(pose)
        return Points(positions[chosen], vertex_normals(positions, self._faces)[chosen], masses)


def stepped(graph: DeformationGraph, pose: Pose, pairs: Pairs, rounds: Rounds) -> Pose:
    """Returns the pose after one Gauss-Newton step."""
    rows, misses = pair_rows(graph, pose, pairs, rounds.along)
    stiff, strains = stiff_rows(graph, pose)
    factor = np.sqrt(rounds.stiffness)
    jacobian = csr_matrix(vstack([rows, factor * stiff]))
    residuals = np.concatenate([misses, factor * strains])
    normal = jacobian.T @ jacobian
    damping = 1e-6 * normal.diagonal().mean() + 1e-12
    system = (normal + damping * identity(6 * graph.n_nodes)).tocsc()
    change = -splu(system).solve(jacobian.T @ residuals)
    turns, shifts = change.reshape(-1, 6)[:, :3], change.reshape(-1, 6)[:, 3:]
    return pose.moved(turns, shifts)


def pair_rows(
    graph: DeformationGraph, pose: Pose, pairs: Pairs, along: float
) -> tuple[csr_matrix, np.ndarray]:
    """Returns the derivatives of the pairs' distances by the nodes' motions, and the distances."""
    arms = graph.arms(pose, pairs.vertices)
    owners, weights = graph.owners[pairs.vertices], graph.weights[pairs.vertices]
    gaps = graph.posed(pose, pairs.vertices) - pairs.targets
    scales = np.sqrt(pairs.weights / len(pairs.weights))
    # n n^T + along (1 - n n^T), times the gap: across the surface fully, along it a little.
    outer = pairs.normals[:, :, None] * pairs.normals[:, None]
    metric = scales[:, None, None] * (along * np.eye(3) + (1 - along) * outer)
    directions = metric[:, :, None]  # (M, 3, 1, 3)
    turns = np.cross(arms[:, None], directions)
    blocks = np.concatenate(np.broadcast_arrays(turns, directions), axis=-1)
    blocks = blocks * weights[:, None, :, None]
    columns = np.broadcast_to(6 * owners[:, None, :, None] + np.arange(6), blocks.shape)
    return _rows(blocks, columns, graph.n_nodes), np.einsum("mij,mj->mi", metric, gaps).ravel()


def stiff_rows(graph: DeformationGraph, pose: Pose) -> tuple[csr_matrix, np.ndarray]:
    """Returns the same of how far neighbouring nodes are from moving as one."""
    here, there = graph.links.T
    scale = 1 / np.sqrt(max(len(here), 1))
    rests = graph.places[there] - graph.places[here]
    arms = np.einsum("eij,ej->ei", pose.rotations[here], rests)
    strains = arms + (graph.places + pose.translations)[here]
    strains = strains - (graph.places + pose.translations)[there]
    units = np.broadcast_to(np.eye(3), (len(here), 3, 3))
    own = np.concatenate([np.cross(arms[:, None], units), units], axis=-1)
    other = np.concatenate([np.zeros_like(units), -units], axis=-1)
    pulls = scale * np.stack([own, other], axis=2)
    # Turns are compared too, at the length of the link.
    size = np.linalg.norm(rests, axis=1)
    relative = Rotation.from_matrix(
        pose.rotations[here] @ pose.rotations[there].transpose(0, 2, 1)
    ).as_rotvec()
    turn = np.concatenate([units, np.zeros_like(units)], axis=-1)
    twists = scale * TWIST * size[:, None, None, None] * np.stack([turn, -turn], axis=2)
    columns = 6 * graph.links[:, None, :, None] + np.arange(6)
    columns = np.broadcast_to(columns, pulls.shape)
    rows = vstack([_rows(pulls, columns, graph.n_nodes), _rows(twists, columns, graph.n_nodes)])
    bends = scale * TWIST * size[:, None] * relative
    return csr_matrix(rows), np.concatenate([scale * strains.ravel(), bends.ravel()])


def _rows(blocks: np.ndarray, columns: np.ndarray, n_nodes: int) -> csr_matrix:
    """Returns a sparse matrix of (M, 3, K, 6) blocks, 3 M rows."""
    n_rows, width = 3 * len(blocks), blocks.shape[2] * 6
    starts = np.arange(0, n_rows * width + 1, width)
    return csr_matrix((blocks.ravel(), columns.ravel(), starts), shape=(n_rows, 6 * n_nodes))
