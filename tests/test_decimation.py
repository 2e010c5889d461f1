"""Laws of decimation: the count is met, the surface stays closed and where it was."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from resfields_ngp.decimation import decimate, parse_target
from resfields_ngp.manifold import is_watertight
from resfields_ngp.mesh import Mesh, statistics


def ball(radius: float = 1.0, centre: tuple[float, ...] = (0.0, 0.0, 0.0)) -> Mesh:
    """Returns a fine sphere."""
    sphere = trimesh.creation.icosphere(5, radius)
    return Mesh(np.asarray(sphere.vertices) + centre, np.asarray(sphere.faces, np.int64))


def test_a_sphere_keeps_its_shape_with_a_tenth_of_its_triangles() -> None:
    mesh = decimate(ball(), 2000)
    found = statistics(mesh)
    assert 1900 <= found.n_faces <= 2000
    assert found.volume == pytest.approx(4 / 3 * np.pi, rel=0.01)
    assert np.abs(np.linalg.norm(mesh.vertices, axis=1) - 1).max() < 0.01
    assert is_watertight(mesh)


def test_size_and_place_do_not_matter() -> None:
    far = decimate(ball(1500.0, (1e5, -2e5, 3e5)), 2000)
    radii = np.linalg.norm(far.vertices - [1e5, -2e5, 3e5], axis=1)
    np.testing.assert_allclose(radii, 1500.0, rtol=0.01)
    assert is_watertight(far)


@pytest.mark.parametrize("target", [0, 20480, 10**6])
def test_full_keeps_every_triangle(target: int) -> None:
    mesh = ball()
    assert decimate(mesh, target) is mesh


@pytest.mark.parametrize(
    ("text", "count"), [("20k", 20_000), ("5K", 5000), ("Full", 0), ("100", 100), ("1k", 1000)]
)
def test_targets_are_numbers_and_thousands(text: str, count: int) -> None:
    assert parse_target(text) == count


@pytest.mark.parametrize("text", ["99", "-5", "1e4", "", "40 000", "0k", "2.5k", "k"])
def test_bad_targets_are_named(text: str) -> None:
    with pytest.raises(ValueError, match=r"meshing.target_faces is .*allowed: full, or a number"):
        parse_target(text)
