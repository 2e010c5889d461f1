"""Laws of manifolds: what is parted becomes closed, what is closed already stays."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from resfields_ngp.manifold import as_manifold, is_watertight
from resfields_ngp.mesh import Mesh, statistics

TETRAHEDRON = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]])
CORNERS = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])


def two_tetrahedra(n_shared: int) -> Mesh:
    """Returns two closed tetrahedra, mirrored at the origin, with some vertices in common."""
    mirrored = -CORNERS[:, [1, 0, 2]] + [0.0, 0.0, 0.0]
    if n_shared == 2:
        mirrored = np.array([[0.0, 0, 0], [1, 0, 0], [0, -1, 0], [0, 0, -1]])
    numbers = np.array([*range(n_shared), *range(4, 8 - n_shared)])
    faces = TETRAHEDRON if np.linalg.det(mirrored[1:] - mirrored[0]) > 0 else TETRAHEDRON[:, ::-1]
    vertices = np.concatenate([CORNERS, mirrored[n_shared:]])
    return Mesh(vertices, np.concatenate([TETRAHEDRON, numbers[faces]]))


@pytest.mark.parametrize("n_shared", [1, 2])
def test_bodies_that_touch_are_parted_and_closed(n_shared: int) -> None:
    touching = two_tetrahedra(n_shared)
    assert not is_watertight(touching)
    parted = as_manifold(touching)
    assert is_watertight(parted)
    found = statistics(parted)
    assert (found.n_vertices, found.n_faces, found.components) == (8, 8, 2)
    assert found.volume == pytest.approx(2 / 6, rel=0.1)


def test_parted_vertices_do_not_coincide() -> None:
    parted = as_manifold(two_tetrahedra(2))
    merged = trimesh.Trimesh(parted.vertices, parted.faces, process=True, merge_norm=True)
    assert merged.is_watertight and len(merged.vertices) == 8


def test_a_manifold_is_left_alone() -> None:
    torus = trimesh.creation.torus(1.0, 0.3)
    mesh = Mesh(np.asarray(torus.vertices), np.asarray(torus.faces, np.int64))
    assert as_manifold(mesh) is mesh and is_watertight(mesh)


def test_triangles_with_a_repeated_corner_go() -> None:
    mesh = Mesh(CORNERS, np.concatenate([TETRAHEDRON, [[1, 1, 2]]]))
    assert not is_watertight(mesh)
    assert is_watertight(as_manifold(mesh))


@pytest.mark.parametrize(
    "faces",
    [TETRAHEDRON[:3], np.concatenate([TETRAHEDRON[:3], TETRAHEDRON[3:, ::-1]]), TETRAHEDRON[:0]],
    ids=["open", "one turned round", "empty"],
)
def test_open_or_disoriented_surfaces_are_not_watertight(faces: np.ndarray) -> None:
    assert not is_watertight(Mesh(CORNERS, faces))


def test_an_open_surface_keeps_its_border() -> None:
    mesh = Mesh(CORNERS, TETRAHEDRON[:2])
    assert as_manifold(mesh) is mesh


def test_a_doubled_edge_is_told_apart() -> None:
    """A ring of two wedges, pinched so that it passes twice between the same two vertices."""
    # Two tetrahedra on one edge, opened along it and stitched crosswise: one body, edge 0-1 twice.
    vertices = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0, -1, 0], [0, 0, -1]])
    first = TETRAHEDRON
    second = np.array([0, 1, 4, 5])[TETRAHEDRON]
    touching = Mesh(vertices, np.concatenate([first, second]))
    bridged = _bridged(touching, first[2], second[2])
    assert not is_watertight(bridged)
    parted = as_manifold(bridged)
    assert is_watertight(parted)
    assert statistics(parted).components == 1


def _bridged(mesh: Mesh, first: np.ndarray, second: np.ndarray) -> Mesh:
    """Returns a mesh with a prism between two triangles in their place."""
    from itertools import permutations

    gone = [(mesh.faces == each).all(1) for each in (first, second)]
    faces = mesh.faces[~(gone[0] | gone[1])]
    for p, q, r in permutations(second):
        a, b, c = first
        sides = [[a, b, q], [a, q, p], [b, c, r], [b, r, q], [c, a, p], [c, p, r]]
        sides = np.array(sides)
        proper = sides[(sides != np.roll(sides, 1, axis=1)).all(1)]
        whole = np.concatenate([faces, proper])
        up, counts = np.unique(_directed(whole), axis=0, return_counts=True)
        down = np.unique(_directed(whole)[:, ::-1], axis=0)
        if len(up) == len(down) and (up == down).all() and counts.max() > 1:
            return Mesh(mesh.vertices, whole)
    raise AssertionError("no closed bridge")


def _directed(faces: np.ndarray) -> np.ndarray:
    return np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
