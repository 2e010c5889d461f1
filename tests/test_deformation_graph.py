"""Laws of the graph that bends meshes: at rest nothing moves, alike is rigid, parts are apart."""

from __future__ import annotations

import numpy as np
import trimesh
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation

from resfields_ngp.deformation_graph import DeformationGraph, Pose
from resfields_ngp.mesh import Mesh


def ball(centre: tuple[float, float, float] = (0, 0, 0), radius: float = 0.2) -> Mesh:
    """Returns a ball of 1280 triangles."""
    found = trimesh.creation.icosphere(subdivisions=3, radius=radius)
    return Mesh(np.asarray(found.vertices) + centre, np.asarray(found.faces))


def both(first: Mesh, second: Mesh) -> Mesh:
    """Returns two meshes as one."""
    faces = np.concatenate([first.faces, second.faces + len(first.vertices)])
    return Mesh(np.concatenate([first.vertices, second.vertices]), faces)


def test_at_rest_nothing_moves() -> None:
    mesh = ball()
    graph = DeformationGraph(mesh, 0.05)
    np.testing.assert_allclose(graph.posed(Pose.rest(graph.n_nodes)), mesh.vertices, atol=1e-12)


def test_nodes_that_move_alike_move_the_mesh_rigidly() -> None:
    mesh = ball((0.3, 0.1, 0))
    graph = DeformationGraph(mesh, 0.05)
    turn = Rotation.from_rotvec([0.3, -0.5, 0.9])
    shift = np.array([0.1, 0.2, -0.3])
    # Rotations are about the nodes' own places, so that translations take in the rest.
    shifts = turn.apply(graph.places) + shift - graph.places
    pose = Pose.rest(graph.n_nodes).moved(np.tile(turn.as_rotvec(), (graph.n_nodes, 1)), shifts)
    expected = turn.apply(mesh.vertices) + shift
    np.testing.assert_allclose(graph.posed(pose), expected, atol=1e-12)
    some = np.array([3, 0, 77])
    np.testing.assert_allclose(graph.posed(pose, some), expected[some], atol=1e-12)


def test_nodes_are_evenly_spread() -> None:
    mesh = ball()
    graph = DeformationGraph(mesh, 0.05)
    # Along edges it is a little farther than straight on, at most by about a fifth here.
    nearest = KDTree(graph.places).query(graph.places, k=2)[0][:, 1]
    assert nearest.min() > 0.05 / 1.25
    assert KDTree(graph.places).query(mesh.vertices)[0].max() <= 0.05
    np.testing.assert_allclose(graph.weights.sum(1), 1)
    assert (graph.weights >= 0).all()


def test_parts_side_by_side_move_on_their_own() -> None:
    # Closer together than nodes are apart.
    mesh = both(ball((0, 0, 0)), ball((0.41, 0, 0)))
    graph = DeformationGraph(mesh, 0.05)
    is_second = graph.places[:, 0] > 0.205
    pose = Pose.rest(graph.n_nodes).moved(
        np.zeros((graph.n_nodes, 3)), is_second[:, None] * [1, 0, 0]
    )
    moved = graph.posed(pose) - mesh.vertices
    half = len(mesh.vertices) // 2
    np.testing.assert_allclose(moved[:half], 0, atol=1e-12)
    np.testing.assert_allclose(moved[half:], np.tile([1, 0, 0], (half, 1)), atol=1e-12)


def test_positions_can_be_made_those_at_rest() -> None:
    mesh = ball()
    graph = DeformationGraph(mesh, 0.05)
    graph.rest(mesh.vertices * 2)
    np.testing.assert_allclose(graph.posed(Pose.rest(graph.n_nodes)), mesh.vertices * 2, atol=1e-12)
