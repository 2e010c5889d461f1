"""A mesh bent by a graph of nodes: rigid motions at nodes, blended over the vertices near them.

Embedded deformation (Sumner et al. 2007): node j at rest position g_j has a rotation R_j and a
translation t_j, and a vertex v goes to sum_j w_j(v) (R_j (v - g_j) + g_j + t_j). Distances are
measured along the surface, so that legs which stand side by side bend on their own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra
from scipy.spatial.transform import Rotation

from .mesh import Mesh, distinct_edges

N_OWNERS = 4
"""Nodes that a vertex follows at most."""


@dataclass(frozen=True)
class Pose:
    """Where the nodes of a graph have gone."""

    rotations: np.ndarray
    """(N, 3, 3) of each node."""
    translations: np.ndarray
    """(N, 3) of each node."""

    @staticmethod
    def rest(n_nodes: int) -> Pose:
        """Returns the pose that moves nothing."""
        return Pose(np.tile(np.eye(3), (n_nodes, 1, 1)), np.zeros((n_nodes, 3)))

    def moved(
        self,
        turns: np.ndarray,  # (N, 3) rotation vectors
        shifts: np.ndarray,  # (N, 3)
    ) -> Pose:
        """Returns the pose after each node has turned and shifted a little further."""
        rotations = Rotation.from_rotvec(turns).as_matrix() @ self.rotations
        return Pose(rotations, self.translations + shifts)


class DeformationGraph:
    """Nodes spread evenly over a mesh, and how its vertices follow them."""

    def __init__(self, mesh: Mesh, spacing: float) -> None:
        """Spreads nodes.

        Args:
            mesh: The mesh at rest.
            spacing: Distance between neighbouring nodes along the surface, the mesh's units.
        """
        lengths = _edge_lengths(mesh)
        self._nodes = _spread(lengths, spacing)
        self.owners, self.weights = _followed(lengths, self._nodes, spacing)
        """(V, K) nodes that each vertex follows, and how much, (V, K); rows sum to 1."""
        self.links = _links(self.owners, self.weights)
        """(E, 2) nodes that share a vertex, each pair both ways."""
        self.rest(mesh.vertices)

    def rest(self, positions: np.ndarray) -> None:
        """Makes (V, 3) positions those at rest; nodes stay the vertices they are."""
        self._vertices = positions.astype(np.float64)
        self.places = self._vertices[self._nodes]
        """(N, 3) rest positions of the nodes."""

    @property
    def n_nodes(self) -> int:
        """The number of nodes."""
        return len(self.places)

    def arms(self, pose: Pose, vertices: np.ndarray) -> np.ndarray:
        """Returns R_j (v - g_j) of some (M,) vertices and the nodes they follow, (M, K, 3)."""
        owners = self.owners[vertices]
        arms = self._vertices[vertices, None] - self.places[owners]
        return np.einsum("mkij,mkj->mki", pose.rotations[owners], arms)

    def posed(self, pose: Pose, vertices: np.ndarray | None = None) -> np.ndarray:
        """Returns where some vertices are in a pose, (M, 3); all of them if none are named."""
        chosen = np.arange(len(self._vertices)) if vertices is None else vertices
        owners = self.owners[chosen]
        places = self.arms(pose, chosen) + (self.places + pose.translations)[owners]
        return np.einsum("mk,mki->mi", self.weights[chosen], places)


def _edge_lengths(mesh: Mesh) -> csr_matrix:
    """Returns the (V, V) lengths of a mesh's edges."""
    edges = distinct_edges(mesh.faces, len(mesh.vertices))[0]
    lengths = np.linalg.norm(np.diff(mesh.vertices[edges], axis=1)[:, 0], axis=1)
    size = len(mesh.vertices)
    # An edge of no length is none to Dijkstra's algorithm.
    return csr_matrix((np.maximum(lengths, 1e-9), (edges[:, 0], edges[:, 1])), shape=(size, size))


def _spread(lengths: csr_matrix, spacing: float) -> np.ndarray:
    """Returns (N,) vertices no closer to one another than `spacing`, and none farther from all."""
    free = np.ones(lengths.get_shape()[0], bool)
    free[np.setdiff1d(np.arange(len(free)), np.concatenate(lengths.nonzero()))] = False
    nodes = []
    while free.any():
        node = int(free.argmax())
        nodes.append(node)
        near = dijkstra(lengths, directed=False, indices=node, limit=spacing)
        free &= ~np.isfinite(near)
    return np.array(nodes, np.int64)


def _followed(
    lengths: csr_matrix, nodes: np.ndarray, spacing: float
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the nodes that vertices follow and their weights: less, the farther along."""
    reach = 2 * spacing
    far = dijkstra(lengths, directed=False, indices=nodes, limit=reach)
    count = min(N_OWNERS, len(nodes))
    owners = np.argsort(far, axis=0)[:count].T
    distances = np.take_along_axis(far.T, owners, axis=1)
    weights = np.clip(1 - distances / reach, 0, None) ** 2
    weights[weights.sum(1) == 0] = 1.0  # vertices of no triangle
    return owners, weights / weights.sum(1, keepdims=True)


def _links(owners: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns (E, 2) pairs of nodes that some vertex follows together."""
    firsts, seconds = np.nonzero(~np.eye(owners.shape[1], dtype=bool))
    pairs = np.stack([owners[:, firsts], owners[:, seconds]], axis=-1)
    together = (weights[:, firsts] > 0) & (weights[:, seconds] > 0)
    return np.unique(pairs[together], axis=0).reshape(-1, 2)
