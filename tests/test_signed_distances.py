"""Laws of signed distances: closed forms of a sphere and a box; holes and turned meshes."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from resfields_ngp.mesh import Mesh
from resfields_ngp.signed_distances import MeshDistance

POINTS = np.random.default_rng(0).uniform(-2.0, 2.0, (4000, 3))


def as_mesh(solid: trimesh.Trimesh) -> Mesh:
    return Mesh(np.asarray(solid.vertices), np.asarray(solid.faces))


def box_distances(points: np.ndarray, half: np.ndarray) -> np.ndarray:
    excess = np.abs(points) - half
    return np.linalg.norm(np.maximum(excess, 0.0), axis=1) + np.minimum(excess.max(1), 0.0)


def test_distances_to_a_box_are_exact():
    half = np.array([0.5, 1.0, 1.5])
    distance = MeshDistance(as_mesh(trimesh.creation.box(2.0 * half)))
    assert np.allclose(distance(POINTS), box_distances(POINTS, half), atol=1e-6)
    assert distance.is_watertight and not distance.faces_inwards


def test_distances_to_a_sphere_are_exact_to_its_facets():
    distance = MeshDistance(as_mesh(trimesh.creation.icosphere(5, 1.0)))
    # Facets lie up to 3e-4 inside the sphere.
    assert np.allclose(distance(POINTS), np.linalg.norm(POINTS, axis=1) - 1.0, atol=4e-4)


def test_a_mesh_turned_inside_out_has_the_same_distances():
    mesh = as_mesh(trimesh.creation.box((1.0, 1.0, 1.0)))
    turned = MeshDistance(Mesh(mesh.vertices, mesh.faces[:, ::-1]))
    assert turned.faces_inwards
    assert np.array_equal(turned(POINTS), MeshDistance(mesh)(POINTS))


def test_a_small_hole_does_not_change_the_sign():
    ball = as_mesh(trimesh.creation.icosphere(3, 1.0))
    holed = MeshDistance(Mesh(ball.vertices, ball.faces[1:]))
    assert not holed.is_watertight
    radii = np.linalg.norm(POINTS, axis=1)
    clear = np.abs(radii - 1.0) > 0.15
    assert np.array_equal(holed(POINTS)[clear] < 0.0, radii[clear] < 1.0)


def test_overlapping_parts_are_one_solid():
    one = as_mesh(trimesh.creation.box((2.0, 1.0, 1.0)))
    two = as_mesh(trimesh.creation.box((1.0, 2.0, 1.0)))
    faces = np.concatenate([one.faces, two.faces + len(one.vertices)])
    both = MeshDistance(Mesh(np.concatenate([one.vertices, two.vertices]), faces))
    halves = np.array([[1.0, 0.5, 0.5], [0.5, 1.0, 0.5]])
    inside = np.any([box_distances(POINTS, half) < 0.0 for half in halves], axis=0)
    assert np.array_equal(both(POINTS) < 0.0, inside)


@pytest.mark.parametrize("n_points", [0, 1])
def test_few_points_are_no_special_case(n_points: int):
    distance = MeshDistance(as_mesh(trimesh.creation.box((1.0, 1.0, 1.0))))
    assert distance(POINTS[:n_points]).shape == (n_points,)
