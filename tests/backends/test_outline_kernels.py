"""Kernels behind outlines agree with plain twins: drawn triangles, exits, springs at rest."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_matrix, diags
from scipy.sparse import random as random_matrix

from resfields_ngp.backends.cpu.outlines import balanced, draw, nearest_exits, turning
from resfields_ngp.rasterising import covered_pixels

HEIGHT, WIDTH, FINER = 20, 30, 3
NOWHERE = np.zeros((HEIGHT, WIDTH), np.uint8)


def triangles(n: int, size: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns the corners (3 n, 2) of triangles in and around a picture, and their numbers."""
    generator = np.random.default_rng(0)
    middles = generator.uniform(-5, [WIDTH + 5, HEIGHT + 5], (n, 1, 2))
    corners = middles + generator.normal(0, size, (n, 3, 2))
    return corners.reshape(-1, 2), np.arange(3 * n).reshape(n, 3)


def drawn(pixels: np.ndarray, faces: np.ndarray, deep: np.ndarray, margin: float) -> np.ndarray:
    samples = np.zeros((HEIGHT * FINER, WIDTH * FINER), np.float32)
    draw(pixels, faces, deep, margin, samples)
    return samples


@pytest.mark.parametrize("n", [0, 1, 100])
@pytest.mark.parametrize("size", [0.2, 1.0, 20.0])
def test_drawn_are_the_samples_within_triangles_that_face_the_camera(n: int, size: float) -> None:
    pixels, faces = triangles(n, size)
    arms = pixels[faces[:, 1:]] - pixels[faces[:, :1]]
    faces_camera = np.linalg.det(arms) < 0  # y runs down
    wanted = np.zeros((HEIGHT * FINER, WIDTH * FINER), np.float32)
    corners = pixels[faces[faces_camera]] * FINER
    for _, x, y, _ in covered_pixels(corners, WIDTH * FINER, HEIGHT * FINER):
        wanted[y, x] = 1
    np.testing.assert_array_equal(drawn(pixels, faces, NOWHERE, 0.0), wanted)


def test_small_triangles_that_begin_where_it_is_deep_are_passed_over() -> None:
    pixels = np.array([[9.5, 9.5], [9.5, 11.0], [11.0, 9.5]])
    faces, deep = np.array([[0, 1, 2]]), NOWHERE.copy()
    deep[9, 9] = 1
    assert not drawn(pixels, faces, deep, 2.0).any()
    assert drawn(pixels, faces, deep, 1.0).any()
    assert drawn(pixels, faces, 1 - deep, 2.0).any()
    assert drawn(pixels - 9.6, faces, 1 - NOWHERE, 2.0).any()  # it begins beyond the border


def test_a_triangle_without_area_covers_nothing() -> None:
    pixels = np.array([[1.0, 1.0], [5.0, 5.0], [9.0, 9.0]])
    assert not drawn(pixels, np.array([[0, 1, 2], [0, 0, 1]]), NOWHERE, 0.0).any()


@pytest.mark.parametrize("n_edges", [0, 1, 200])
def test_edges_turn_away_where_one_end_only_faces_the_camera(n_edges: int) -> None:
    generator = np.random.default_rng(0)
    vertices, normals = generator.normal(size=(2, 50, 3))
    edges, centre = generator.integers(0, 50, (n_edges, 2)), np.array([3.0, 0.0, 0.0])
    facing, chosen = turning(vertices, normals, edges, centre)
    np.testing.assert_allclose(facing, ((centre - vertices) * normals).sum(1), atol=1e-14)
    np.testing.assert_array_equal(chosen, np.flatnonzero(np.diff(facing[edges] > 0, axis=1)))


def test_the_nearest_exit_is_where_a_line_through_values_becomes_positive() -> None:
    steps = np.arange(-4, 5) * 0.5
    line = (steps - 0.3).astype(np.float32)
    twice = np.abs(steps + 0.7) - 0.4  # in at -1.1, out at -0.3
    values = np.stack([line, -line, line - 9, twice.astype(np.float32)])
    found = nearest_exits(values.astype(np.float32), steps, 2.0)
    np.testing.assert_allclose(found, [0.3, np.nan, np.nan, -0.3], atol=0.05)
    assert found[0] == pytest.approx(0.3, abs=1e-6)
    assert np.isnan(nearest_exits(values[:1], steps, 0.2)).all()
    assert nearest_exits(values[:0], steps, 2.0).shape == (0,)


@pytest.mark.parametrize("n_points", [1, 60])
def test_balanced_moves_solve_the_normal_equations(n_points: int) -> None:
    generator, n = np.random.default_rng(0), 40
    places = csr_matrix(random_matrix(n_points, n, 0.1, random_state=0))
    chain = diags([-1.0, 2.5, -1.0], [-1, 0, 1], shape=(n, n), format="csr")
    normals = generator.normal(size=(n_points, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    lengths, start = generator.normal(size=n_points), generator.normal(size=(n, 3))
    parts = [(each.indptr, each.indices, each.data) for each in (places, chain)]
    found = balanced(parts[0], normals, lengths, parts[1], start, 500, 1e-10)
    asked = np.einsum("mv,mi->mvi", places.toarray(), normals).reshape(n_points, -1)
    system = asked.T @ asked + np.kron(chain.toarray(), np.eye(3))
    wanted = np.linalg.solve(system, asked.T @ lengths).reshape(n, 3)
    np.testing.assert_allclose(found, wanted, atol=1e-8)
    few = balanced(parts[0], normals, lengths, parts[1], start, 0, 1e-10)
    np.testing.assert_array_equal(few, start)  # without a step it stays
