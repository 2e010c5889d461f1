"""Laws of fitting to a field: folds are drawn flat, and distances from meshes are exact."""

from __future__ import annotations

import numpy as np
from analytic import sphere_reconstruction
from test_deformation_graph import ball

from resfields_ngp.frame_surface import Surface
from resfields_ngp.mesh import Mesh
from resfields_ngp.surface_fitting import (
    SPRINGS,
    edge_laplacian,
    fitted,
    flipped,
    smoother,
    steps_to,
    unfolded,
)
from resfields_ngp.surface_points import distances_from


def sphere() -> tuple[Surface, float]:
    """Returns a field's sphere about the middle of model space, and its radius."""
    reconstruction = sphere_reconstruction(1)
    return Surface(reconstruction, 0), reconstruction.field.radius


def test_folds_are_drawn_flat_and_the_rest_stays() -> None:
    surface, radius = sphere()
    mesh = ball((0.5, 0.5, 0.5), radius)
    folded = mesh.vertices.copy()
    one, other = mesh.faces[0, :2]
    folded[[one, other]] = mesh.vertices[[other, one]]
    assert flipped(surface, folded, mesh.faces).any()
    flat = unfolded(surface, folded, mesh.faces, edge_laplacian(mesh.faces, len(folded)))
    assert not flipped(surface, flat, mesh.faces).any()
    np.testing.assert_allclose(np.linalg.norm(flat - 0.5, axis=1), radius, atol=2e-3)
    assert (flat == mesh.vertices).all(1).mean() > 0.9


def test_a_dented_ball_is_fitted_to_the_field() -> None:
    surface, radius = sphere()
    mesh = ball((0.5, 0.5, 0.5), radius)
    start = 0.5 + (mesh.vertices - 0.5) * (1 + 0.03 * np.sin(20 * mesh.vertices[:, :1]))
    laplacian = edge_laplacian(mesh.faces, len(start))
    springs = [smoother(laplacian, weight) for weight in SPRINGS]
    found = fitted(surface, start, mesh.faces, springs)
    np.testing.assert_allclose(np.linalg.norm(found - 0.5, axis=1), radius, atol=3e-4)


def test_where_mesh_and_field_face_apart_nothing_steps() -> None:
    surface, radius = sphere()
    mesh = ball((0.5, 0.5, 0.5), radius * 1.02)
    outward = (mesh.vertices - 0.5) / np.linalg.norm(mesh.vertices - 0.5, axis=1)[:, None]
    steps = steps_to(surface, mesh.vertices, outward)
    np.testing.assert_allclose((steps * outward).sum(1), -0.02 * radius, atol=1e-5)
    assert not steps_to(surface, mesh.vertices, -outward).any()


def test_smoothing_keeps_what_is_the_same_everywhere() -> None:
    mesh = ball()
    smooth = smoother(edge_laplacian(mesh.faces, len(mesh.vertices)), 10.0)
    shift = np.tile([0.1, -0.2, 0.3], (len(mesh.vertices), 1))
    np.testing.assert_allclose(smooth(shift), shift, atol=1e-9)
    noise = np.random.default_rng(0).standard_normal(mesh.vertices.shape)
    assert np.abs(smooth(noise)).mean() < 0.3 * np.abs(noise).mean()


def test_distances_from_long_triangles_are_exact() -> None:
    # A plane of slivers, far longer than they are apart.
    x = np.linspace(0, 0.1, 41)
    vertices = np.concatenate([[[a, 0, 0], [a, 3, 0]] for a in x])
    first = 2 * np.arange(40)
    quads = [[first, first + 2, first + 1], [first + 1, first + 2, first + 3]]
    faces = np.concatenate([np.stack(corners, axis=1) for corners in quads])
    points = np.random.default_rng(0).random((200, 3)) * [0.1, 3, 0.2]
    found = distances_from(Mesh(vertices, faces), points)
    np.testing.assert_allclose(found, points[:, 2], atol=2e-4)
