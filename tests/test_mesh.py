"""Laws of meshes: components, edges, areas and volumes against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from resfields_ngp.mesh import Mesh, face_components, largest_components, statistics


def ball(radius: float, centre: tuple[float, float, float]) -> Mesh:
    sphere = trimesh.creation.icosphere(subdivisions=3, radius=radius)
    return Mesh(np.asarray(sphere.vertices) + centre, np.asarray(sphere.faces))


def union(*meshes: Mesh) -> Mesh:
    starts = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes[:-1]])
    faces = [mesh.faces + start for mesh, start in zip(meshes, starts, strict=True)]
    return Mesh(np.concatenate([mesh.vertices for mesh in meshes]), np.concatenate(faces))


def test_statistics_of_a_box() -> None:
    box = trimesh.creation.box((1.0, 2.0, 3.0))
    found = statistics(Mesh(np.asarray(box.vertices) + 1e5, np.asarray(box.faces)))
    assert (found.n_vertices, found.n_faces, found.components) == (8, 12, 1)
    assert found.area == pytest.approx(22.0)
    assert found.volume == pytest.approx(6.0)
    assert (found.boundary_edges, found.non_manifold_edges) == (0, 0)


def test_boundary_and_non_manifold_edges_are_counted() -> None:
    vertices = np.eye(5, 3)
    fan = Mesh(vertices, np.array([[0, 1, 2], [1, 0, 3], [0, 1, 4]]))
    found = statistics(fan)
    assert (found.boundary_edges, found.non_manifold_edges) == (6, 1)


def test_small_components_are_dropped() -> None:
    body, floater = ball(1.0, (0, 0, 0)), ball(0.1, (3, 0, 0))
    both = union(floater, body)
    assert face_components(both).max() == 1
    assert largest_components(both, 0.02).n_faces == body.n_faces
    assert largest_components(both, 0.005).n_faces == both.n_faces


def test_only_the_largest_few_are_kept() -> None:
    parts = union(ball(0.8, (0, 0, 0)), ball(1.0, (4, 0, 0)), ball(0.9, (8, 0, 0)))
    kept = largest_components(parts, 0.0, count=2)
    assert statistics(kept).components == 2
    assert kept.vertices[:, 0].min() > 2.9


def test_walls_of_cavities_are_dropped() -> None:
    body, hole = ball(1.0, (0, 0, 0)), ball(0.9, (0, 0, 0))
    hollow = union(body, Mesh(hole.vertices, hole.faces[:, ::-1]))
    assert statistics(largest_components(hollow, 0.02)).volume == pytest.approx(
        statistics(body).volume
    )


def test_attributes_follow_their_vertices() -> None:
    body, floater = ball(1.0, (0, 0, 0)), ball(0.1, (3, 0, 0))
    both = union(floater, body)
    colours = np.zeros_like(both.vertices, np.uint8)
    colours[len(floater.vertices) :] = 200
    kept = largest_components(Mesh(both.vertices, both.faces, both.vertices, colours), 0.5)
    assert kept.colours is not None and (kept.colours == 200).all()
    np.testing.assert_array_equal(kept.normals, kept.vertices)


def test_empty_mesh_has_statistics() -> None:
    empty = Mesh(np.zeros((0, 3)), np.zeros((0, 3), int))
    assert statistics(empty).components == 0
    assert statistics(empty).bounds is None
    assert largest_components(empty, 0.02).n_faces == 0


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(ValueError, match="colours has shape"):
        Mesh(np.zeros((4, 3)), np.zeros((1, 3), int), colours=np.zeros((3, 3), np.uint8))
