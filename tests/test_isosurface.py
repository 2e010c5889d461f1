"""Laws of the isosurface: closed, placed right, the same whatever the blocks."""

from __future__ import annotations

import numpy as np
import pytest

from resfields_ngp import isosurface as module
from resfields_ngp.isosurface import isosurface
from resfields_ngp.mesh import Mesh, edge_counts, face_areas, face_volumes, statistics

CENTRE = np.array([0.52, 0.47, 0.5])


def sphere(radius: float):
    return lambda positions: (np.linalg.norm(positions - CENTRE, axis=1) - radius).astype(
        np.float32
    )


@pytest.mark.parametrize("resolution", [32, 130])
def test_sphere_is_closed_and_has_its_volume_across_blocks(resolution: int) -> None:
    mesh = Mesh(*isosurface(sphere(0.31), resolution))
    assert (edge_counts(mesh) == 2).all()
    # Chords cut (cell / radius)^2 / 4 of the volume at most.
    assert face_volumes(mesh).sum() == pytest.approx(
        4 / 3 * np.pi * 0.31**3, rel=3.0 / resolution**1.5
    )
    distances = np.linalg.norm(mesh.vertices - CENTRE, axis=1)
    assert np.abs(distances - 0.31).max() < 0.2 / resolution


def test_blocks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    vertices, faces = isosurface(sphere(0.3), 64)
    monkeypatch.setattr(module, "BLOCK", 8)
    small_vertices, small_faces = isosurface(sphere(0.3), 64)
    assert len(faces) == len(small_faces)
    np.testing.assert_allclose(
        np.sort(vertices, axis=0), np.sort(small_vertices, axis=0), atol=1e-6
    )


def test_triangles_face_outwards() -> None:
    mesh = Mesh(*isosurface(sphere(0.3), 40))
    corners = mesh.vertices[mesh.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert ((normals * (corners.mean(1) - CENTRE)).sum(1) >= 0).all()


def test_only_nodes_near_the_surface_are_evaluated() -> None:
    asked = []

    def counted(positions: np.ndarray) -> np.ndarray:
        asked.append(len(positions))
        return sphere(0.3)(positions)

    isosurface(counted, 128)
    assert sum(asked) < 0.15 * 129**3


def test_field_is_not_asked_outside_and_the_surface_closes_there() -> None:
    def inside_everywhere(positions: np.ndarray) -> np.ndarray:
        assert (sphere(0.3)(positions) <= 1e-6).all()
        return np.full(len(positions), -0.01, np.float32)

    mesh = Mesh(*isosurface(inside_everywhere, 64, outside=sphere(0.3)))
    assert (edge_counts(mesh) == 2).all()
    assert np.abs(np.linalg.norm(mesh.vertices - CENTRE, axis=1) - 0.3).max() < 1 / 64


def test_surface_closes_at_the_box() -> None:
    mesh = Mesh(*isosurface(lambda x: np.full(len(x), -1.0, np.float32), 32))
    found = statistics(mesh)
    assert found.boundary_edges == 0
    assert found.volume == pytest.approx(1.0, rel=0.2)


@pytest.mark.parametrize("scale", [1.0, 1e-3, 50.0])
def test_rough_fields_of_any_scale_leave_no_cracks(scale: float) -> None:
    rng = np.random.default_rng(0)
    waves, phases = rng.normal(size=(3, 12)) * 40, rng.uniform(0, 6, 12)

    def rough(positions: np.ndarray) -> np.ndarray:
        return (scale * np.cos(positions @ waves + phases).sum(1)).astype(np.float32)

    mesh = Mesh(*isosurface(rough, 80))
    assert mesh.n_faces > 1000
    assert not (edge_counts(mesh) % 2).any()


def test_nodes_exactly_on_the_surface_make_whole_triangles() -> None:
    mesh = Mesh(*isosurface(lambda x: (np.abs(x - 0.5).max(1) - 0.25).astype(np.float32), 64))
    assert (edge_counts(mesh) == 2).all()
    # The twelve edges of the cube are bevelled by up to a cell.
    bevel = 12 * 0.5 * (2 - np.sqrt(2)) / 64
    assert face_areas(mesh).sum() == pytest.approx(6 * 0.25 - bevel, rel=2e-3)


def test_no_surface_gives_an_empty_mesh() -> None:
    vertices, faces = isosurface(lambda x: np.ones(len(x), np.float32), 16)
    assert vertices.shape == (0, 3)
    assert faces.shape == (0, 3)


def test_resolution_too_low_is_named() -> None:
    with pytest.raises(ValueError, match="resolution is 2"):
        isosurface(sphere(0.3), 2)
