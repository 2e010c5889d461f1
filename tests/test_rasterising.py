"""Laws of the rasteriser: outlines, depths and which triangle is in front."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from analytic import ring_of_cameras

from resfields_ngp import rasterising
from resfields_ngp.mesh import Mesh
from resfields_ngp.metrics import silhouette_iou
from resfields_ngp.rasterising import rasterise, shaded, silhouette

CENTRE = np.array([1.0, 2.0, 3.0])
CAMERAS = ring_of_cameras(CENTRE, distance=5.0, n_frames=2, azimuth=0.7, size=96)


def ball(subdivisions: int, radius: float = 1.0) -> Mesh:
    sphere = trimesh.creation.icosphere(subdivisions=subdivisions, radius=radius)
    return Mesh(np.asarray(sphere.vertices) + CENTRE, np.asarray(sphere.faces))


def pixel_directions() -> tuple[np.ndarray, np.ndarray]:
    """Returns the camera's centre and (H, W, 3) world directions with unit optical depth."""
    rows, columns = np.mgrid[:96, :96] + 0.5
    pixels = np.stack([columns, rows, np.ones_like(rows)], -1)
    pose = CAMERAS.world_from_camera[1]
    return pose[:3, 3], pixels @ np.linalg.inv(CAMERAS.intrinsics[1]).T @ pose[:3, :3].T


def test_silhouette_of_a_sphere_is_its_analytic_outline() -> None:
    eye, directions = pixel_directions()
    units = directions / np.linalg.norm(directions, axis=-1, keepdims=True)
    along = units @ (CENTRE - eye)
    outline = np.linalg.norm(CENTRE - eye) ** 2 - along**2 < 1.0
    assert silhouette_iou(silhouette(ball(5), CAMERAS, 1), outline) > 0.995


def test_depths_are_those_of_the_sphere() -> None:
    eye, directions = pixel_directions()
    seen, depths = rasterise(ball(5), CAMERAS, 1)
    points = eye + directions[seen >= 0] * depths[seen >= 0][:, None]
    assert np.abs(np.linalg.norm(points - CENTRE, axis=1) - 1.0).max() < 2e-3


def test_nearer_triangles_hide_farther_ones() -> None:
    inner, outer = ball(3, 0.9), ball(3)
    both = Mesh(
        np.concatenate([inner.vertices, outer.vertices]),
        np.concatenate([inner.faces, outer.faces + len(inner.vertices)]),
    )
    seen, _ = rasterise(both, CAMERAS, 0)
    assert (seen[seen >= 0] >= inner.n_faces).all()


def test_large_triangles_and_small_chunks_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = ball(0)
    seen, depths = rasterise(mesh, CAMERAS, 0)
    monkeypatch.setattr(rasterising, "_CHUNK", 50)
    seen_in_parts, depths_in_parts = rasterise(mesh, CAMERAS, 0)
    np.testing.assert_array_equal(seen, seen_in_parts)
    np.testing.assert_array_equal(depths, depths_in_parts)


def test_what_lies_behind_the_camera_is_not_seen() -> None:
    behind = ball(2)
    eye = CAMERAS.world_from_camera[0][:3, 3]
    assert not silhouette(
        Mesh(behind.vertices + 2 * (eye - CENTRE), behind.faces), CAMERAS, 0
    ).any()


def test_empty_meshes_are_not_seen() -> None:
    assert not silhouette(Mesh(np.zeros((0, 3)), np.zeros((0, 3), int)), CAMERAS, 0).any()


def test_clay_is_lit_from_the_upper_left_and_black_around() -> None:
    picture = shaded(ball(4), CAMERAS, 0)
    assert picture.shape == (96, 96, 3)
    assert picture[0, 0].max() == 0
    assert picture[35, 35, 0] > picture[60, 60, 0] > 0
