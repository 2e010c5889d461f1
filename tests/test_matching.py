"""Laws of matching: mass is kept, each part gets its own, and what is alike is matched exactly."""

from __future__ import annotations

import numpy as np
from test_deformation_graph import ball, both

from resfields_ngp.matching import (
    Points,
    even_vertices,
    nearest,
    shared_areas,
    transport_plan,
    transported,
)
from resfields_ngp.mesh import Mesh, vertex_normals


def points(mesh: Mesh, chosen: np.ndarray) -> Points:
    """Returns some vertices as points."""
    normals = vertex_normals(mesh.vertices, mesh.faces)[chosen]
    return Points(mesh.vertices[chosen], normals, shared_areas(mesh, chosen))


def test_a_plan_keeps_the_mass_where_distances_are_small() -> None:
    mesh = ball()
    chosen = even_vertices(mesh, 200)
    source = points(mesh, chosen)
    moved = Points(source.positions + [0.01, 0, 0], source.normals, source.masses)
    plan = transport_plan(source, moved, 0.02)
    np.testing.assert_allclose(plan.sum(1), source.masses, rtol=0.1)
    np.testing.assert_allclose(plan.sum(0), moved.masses, rtol=0.1)


def test_parts_that_jump_by_their_width_keep_their_own() -> None:
    near, width = 0.05, 0.15
    before = both(ball((0, 0, 0), near), ball((width, 0, 0), near))
    after = Mesh(before.vertices + [0.8 * width, 0, 0], before.faces)
    chosen = np.arange(len(before.vertices))[::4]
    source, target = points(before, chosen), points(after, chosen)
    is_second = source.positions[:, 0] > width / 2
    middle = 0.8 * width + width / 2
    sent = transported(source, chosen, target, 0.02)
    assert ((sent.targets[:, 0] > middle) == is_second).mean() > 0.9
    taken = nearest(source, chosen, target, 0.1).targets[: len(chosen)]
    assert ((taken[:, 0] > middle) == is_second).mean() < 0.6


def test_a_surface_is_nearest_to_itself() -> None:
    mesh = ball()
    chosen = even_vertices(mesh, 300)
    pairs = nearest(points(mesh, chosen), chosen, points(mesh, chosen), 0.05)
    np.testing.assert_array_equal(pairs.targets, mesh.vertices[pairs.vertices])
    np.testing.assert_allclose(pairs.weights, 1)


def test_surfaces_that_face_apart_are_no_pairs() -> None:
    mesh = ball()
    chosen = even_vertices(mesh, 300)
    source = points(mesh, chosen)
    inward = Points(source.positions, -source.normals, source.masses)
    close = np.linalg.norm(source.positions, axis=1) > 0
    weights = nearest(source, chosen, inward, 1e3).weights[: len(chosen)][close]
    assert weights.max() < 0.2


def test_areas_are_shared_out() -> None:
    mesh = both(ball((0, 0, 0), 0.1), ball((1, 0, 0), 0.2))
    half = len(mesh.vertices) // 2
    masses = shared_areas(mesh, np.arange(0, len(mesh.vertices), 2))
    np.testing.assert_allclose(masses.sum(), 1)
    np.testing.assert_allclose(masses[: half // 2].sum(), 0.2, atol=0.01)


def test_normals_of_a_ball_point_outwards() -> None:
    mesh = ball((0.5, 0, 0))
    outward = (mesh.vertices - [0.5, 0, 0]) / 0.2
    normals = vertex_normals(mesh.vertices, mesh.faces)
    assert (normals * outward).sum(1).min() > 0.999
