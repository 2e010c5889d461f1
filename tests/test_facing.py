"""Laws of facing: whatever vertices are told, no triangle turns over, and all else stays."""

from __future__ import annotations

import numpy as np
import pytest
from test_outlines import ball

from resfields_ngp.facing import moves_that_turn_nothing
from resfields_ngp.mesh import Mesh, distinct_edges, face_crosses


def edge_length(mesh: Mesh) -> float:
    edges, _ = distinct_edges(mesh.faces, len(mesh.vertices))
    return float(np.linalg.norm(np.diff(mesh.vertices[edges], axis=1), axis=2).mean())


def count_turned(mesh: Mesh, moves: np.ndarray) -> int:
    before, after = (face_crosses(at, mesh.faces) for at in (mesh.vertices, mesh.vertices + moves))
    return int(((before * after).sum(1) < 0).sum())


@pytest.mark.parametrize("size", [0.3, 1.0, 30.0])
def test_whatever_is_asked_nothing_turns_over(size: float) -> None:
    mesh = ball()
    moves = np.random.default_rng(0).normal(0, size * edge_length(mesh), mesh.vertices.shape)
    assert count_turned(mesh, moves) > 50
    assert count_turned(mesh, moves_that_turn_nothing(mesh.vertices, moves, mesh.faces)) == 0


def test_a_mesh_pulled_through_itself_comes_to_rest_before() -> None:
    mesh = ball()
    moves = (mesh.vertices.mean(0) - mesh.vertices) * [0.0, 2.0, 0.0]  # its own mirror image
    assert count_turned(mesh, moves) > mesh.n_faces / 4
    assert count_turned(mesh, moves_that_turn_nothing(mesh.vertices, moves, mesh.faces)) == 0


def test_moves_that_turn_nothing_come_back_themselves() -> None:
    mesh = ball()
    grown = 0.3 * (mesh.vertices - mesh.vertices.mean(0)) + [1.0, 2.0, 3.0]
    assert moves_that_turn_nothing(mesh.vertices, grown, mesh.faces) is grown


def test_triangles_that_had_no_area_are_no_matter() -> None:
    vertices = np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [0, 1, 0]])
    faces, moves = np.array([[0, 1, 2], [0, 1, 3]]), np.zeros((4, 3))
    moves[1] = [0, -0.5, 0]
    assert moves_that_turn_nothing(vertices, moves, faces) is moves


def test_only_what_is_near_a_turned_triangle_is_changed() -> None:
    mesh, length = ball(), edge_length(ball())
    moves = np.zeros_like(mesh.vertices)
    moves[7] = np.array([0.0, 2.0, 0.0]) * length  # over its neighbours
    given = moves.copy()
    found = moves_that_turn_nothing(mesh.vertices, moves, mesh.faces)
    apart = np.linalg.norm(mesh.vertices - mesh.vertices[7], axis=1)
    assert count_turned(mesh, found) == 0
    assert (found[apart > 6 * length] == 0).all()
    assert (moves == given).all()  # what was given is left alone
