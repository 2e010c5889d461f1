"""A triangle mesh with normals and colours: its components, its edges, its statistics."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from .records import check_shape


@dataclass(frozen=True)
class Mesh:
    """Triangles in space, counter-clockwise seen from outside."""

    vertices: np.ndarray
    """(V, 3) positions."""
    faces: np.ndarray
    """(F, 3) vertex numbers."""
    normals: np.ndarray | None = None
    """(V, 3) unit vectors that point outwards."""
    colours: np.ndarray | None = None
    """(V, 3) uint8 sRGB."""

    def __post_init__(self) -> None:
        check_shape("vertices", self.vertices, "V 3")
        check_shape("faces", self.faces, "F 3")
        for name in ("normals", "colours"):
            attribute = getattr(self, name)
            if attribute is not None:
                check_shape(name, attribute, f"{len(self.vertices)} 3")

    @property
    def n_faces(self) -> int:
        """The number of triangles."""
        return len(self.faces)

    def subset(self, keep: np.ndarray) -> Mesh:
        """Returns the triangles where `keep` (F,) is True, and only the vertices that they use."""
        kept, is_used = self.faces[keep], np.zeros(len(self.vertices), bool)
        is_used[kept] = True
        used, faces = np.flatnonzero(is_used), _ranks(is_used)[kept]
        normals = None if self.normals is None else self.normals[used]
        colours = None if self.colours is None else self.colours[used]
        return Mesh(self.vertices[used], faces, normals, colours)


def is_far(mesh: Mesh) -> bool:
    """Returns whether single precision rounds by over a hundred-thousandth of the mesh."""
    if len(mesh.vertices) == 0:
        return False
    rounding = np.abs(mesh.vertices).max() * np.finfo(np.float32).eps
    return bool(rounding > 1e-5 * np.ptp(mesh.vertices, axis=0).max())


@dataclass(frozen=True)
class MeshStatistics:
    """What the manifest says of a mesh, in its units."""

    n_vertices: int
    """Vertices."""
    n_faces: int
    """Triangles."""
    bounds: list[list[float]] | None
    """The lowest and the highest corner; None for an empty mesh."""
    area: float
    """Surface area, units squared."""
    volume: float
    """Enclosed volume, units cubed; positive when the triangles face outwards."""
    components: int
    """Parts that share no edge path."""
    boundary_edges: int
    """Edges of one triangle only: none on a closed surface."""
    non_manifold_edges: int
    """Edges of more than two triangles."""


def statistics(mesh: Mesh) -> MeshStatistics:
    """Measures a mesh."""
    counts = edge_counts(mesh)
    used = mesh.vertices[np.unique(mesh.faces)]
    return MeshStatistics(
        n_vertices=len(mesh.vertices),
        n_faces=mesh.n_faces,
        bounds=[used.min(0).tolist(), used.max(0).tolist()] if len(used) else None,
        area=float(face_areas(mesh).sum()),
        volume=float(face_volumes(mesh).sum()),
        components=int(face_components(mesh).max(initial=-1)) + 1,
        boundary_edges=int((counts == 1).sum()),
        non_manifold_edges=int((counts > 2).sum()),
    )


def edge_counts(mesh: Mesh) -> np.ndarray:
    """Returns how many triangles each distinct edge belongs to, (E,)."""
    return distinct_edges(mesh.faces, len(mesh.vertices))[1]


def distinct_edges(faces: np.ndarray, n_vertices: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the distinct edges, (E, 2) vertex numbers, lower first, and `edge_counts`, (E,)."""
    edges = np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2).astype(np.int64), axis=1)
    size = max(n_vertices, 1)
    numbers, counts = np.unique(edges[:, 0] * size + edges[:, 1], return_counts=True)
    return np.stack([numbers // size, numbers % size], axis=1), counts


def face_crosses(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Returns (F, 3) normals of triangles, twice as long as their areas."""
    a, b, c = (np.asarray(vertices, np.float64)[corners] for corners in faces.T)
    (ux, uy, uz), (vx, vy, vz) = (b - a).T, (c - a).T
    return np.stack([uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx], 1)


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Returns (V, 3) unit normals of vertices, the triangles' means by area."""
    crosses = face_crosses(vertices, faces)
    sums = [np.bincount(faces.ravel(), np.repeat(c, 3), len(vertices)) for c in crosses.T]
    normals = np.stack(sums, axis=1)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-300)


def face_areas(mesh: Mesh) -> np.ndarray:
    """Returns the area of each triangle, (F,)."""
    return np.linalg.norm(face_crosses(mesh.vertices, mesh.faces), axis=1) / 2


def face_volumes(mesh: Mesh) -> np.ndarray:
    """Returns signed volumes between triangles and a common point, (F,); their sum is enclosed."""
    corners = mesh.vertices[mesh.faces].astype(np.float64)
    # About the middle of the mesh rather than the origin, which may be far off and cost digits.
    corners -= mesh.vertices.mean(0, dtype=np.float64) if len(mesh.vertices) else 0.0
    return np.einsum("fi,fi->f", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6


def face_components(mesh: Mesh) -> np.ndarray:
    """Returns the component of each triangle, (F,), numbered from 0 without gaps."""
    if mesh.n_faces == 0:
        return np.zeros(0, np.int64)
    rows, columns = mesh.faces[:, [0, 1]].ravel(), mesh.faces[:, [1, 2]].ravel()
    size = len(mesh.vertices)
    graph = coo_matrix((np.ones(len(rows), bool), (rows, columns)), shape=(size, size))
    n_labels, labels = connected_components(graph, directed=False)
    labels, has_faces = labels[mesh.faces[:, 0]], np.zeros(n_labels, bool)
    has_faces[labels] = True
    return _ranks(has_faces)[labels]


def _ranks(chosen: np.ndarray) -> np.ndarray:
    """Returns, for each place where `chosen` is True, how many there are before it."""
    return np.cumsum(chosen) - 1


def largest_components(
    mesh: Mesh,
    area_fraction: float,
    count: int = 0,
) -> Mesh:
    """Drops floaters, and cavities that nobody sees from outside.

    Args:
        mesh: A closed mesh that faces outwards.
        area_fraction: The least area that a component must have to stay, as a fraction of the
            largest one's, in [0, 1].
        count: Keep at most so many components, the largest ones; 0 keeps all.

    Returns:
        What is left. A component whose volume is negative is the wall of a cavity and always goes.
    """
    if mesh.n_faces == 0:
        return mesh
    components = face_components(mesh)
    areas = np.bincount(components, face_areas(mesh))
    solid = np.bincount(components, face_volumes(mesh)) > 0
    areas = np.where(solid, areas, 0.0)
    keep = solid & (areas >= area_fraction * areas.max())
    if count:
        keep &= np.argsort(np.argsort(-areas)) < count
    return mesh.subset(keep[components])
