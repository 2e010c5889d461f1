"""Laws of outlines: a mesh agrees with its own mask, and gaps are what was taken from it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh
from analytic import ring_of_cameras

from resfields_ngp.cameras import Cameras
from resfields_ngp.carving import mask_distances
from resfields_ngp.datasets.base import CaptureConfig, CaptureError, View
from resfields_ngp.hull import HullConfig
from resfields_ngp.mesh import Mesh, vertex_normals
from resfields_ngp.outlines import (
    Outline,
    drawn_distances,
    find_rim,
    mask_outlines,
    outline_gaps,
    stored_outlines,
)
from resfields_ngp.surface_fitting import edge_laplacian

CENTRE = np.array([3.0, -1.0, 2.0])
DISTANCE, SIZE = 5.0, 96
PIXEL = DISTANCE / (1.6 * SIZE)
"""What a pixel measures at the centre, world units."""


def ball(radius: float = 1.0, centre: np.ndarray = CENTRE) -> Mesh:
    """Returns a dense ball."""
    found = trimesh.creation.icosphere(subdivisions=5, radius=radius)
    return Mesh(np.asarray(found.vertices) + centre, np.asarray(found.faces))


def camera(azimuth: float = 0.7) -> Cameras:
    return ring_of_cameras(CENTRE, DISTANCE, 1, azimuth, SIZE)


def drawn(mesh: Mesh, cameras: Cameras) -> np.ndarray:
    """Returns (H, W) distances to a mesh's own outline."""
    return drawn_distances(cameras.project(mesh.vertices, 0)[0], mesh.faces, (SIZE, SIZE))


def view_of(mesh: Mesh, azimuth: float = 0.7) -> View:
    """Returns a camera whose mask is a mesh, drawn as masks are."""
    cameras = camera(azimuth)
    mask = drawn(mesh, cameras)[None] < 0
    return View(f"at_{azimuth:.1f}", cameras, np.zeros((1, SIZE, SIZE, 3), np.uint8), mask)


def gaps(mesh: Mesh, outline: Outline, reach: float = 3.0) -> np.ndarray:
    """Returns the gaps at all rims of a mesh."""
    edges = np.stack(edge_laplacian(mesh.faces, len(mesh.vertices)).nonzero(), 1)
    edges = edges[edges[:, 0] < edges[:, 1]]
    rim = find_rim(outline, mesh.vertices, vertex_normals(mesh.vertices, mesh.faces), edges)
    return outline_gaps(outline, rim, drawn(mesh, camera()), reach)


def test_a_drawn_ball_has_its_analytic_outline() -> None:
    cameras = camera()
    rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5
    pixels = (
        np.stack([columns, rows, np.ones_like(rows)], -1) @ np.linalg.inv(cameras.intrinsics[0]).T
    )
    units = pixels / np.linalg.norm(pixels, axis=-1, keepdims=True)
    mask = DISTANCE**2 * 1.09 * (1 - units[..., 2] ** 2) < 1  # the ring lies 0.3 above its centre
    assert ((drawn(ball(), cameras) < 0) != mask).sum() <= 12  # of 3,000: half cover, or centre


def test_a_coarse_mesh_is_drawn_like_a_dense_one() -> None:
    shape = trimesh.creation.box(extents=(1.0, 2.0, 0.3)).subdivide()
    coarse = Mesh(np.asarray(shape.vertices) + CENTRE, np.asarray(shape.faces))
    for _ in range(5):
        shape = shape.subdivide()
    dense = Mesh(np.asarray(shape.vertices) + CENTRE, np.asarray(shape.faces))
    np.testing.assert_array_equal(drawn(coarse, camera()), drawn(dense, camera()))


def test_distances_of_a_mask_vanish_between_its_pixels() -> None:
    mask = np.zeros((8, 8), bool)
    mask[:, :4] = True
    np.testing.assert_allclose(mask_distances(mask)[3], np.arange(8) - 3.5, atol=1e-5)


def test_a_mesh_has_no_gap_to_its_own_mask() -> None:
    (outline,) = mask_outlines([view_of(ball())], 0)
    found = gaps(ball(), outline)
    assert len(found) > 100
    np.testing.assert_allclose(found, 0, atol=1e-6)


@pytest.mark.parametrize("missing", [-1.3, 0.6, 1.7])
def test_the_gap_of_a_smaller_ball_is_what_it_lacks(missing: float) -> None:
    (outline,) = mask_outlines([view_of(ball(1 + missing * PIXEL))], 0)
    found = gaps(ball(), outline)
    assert not np.isnan(found).any()
    assert found.mean() == pytest.approx(missing, abs=0.12)  # perspective: 0.05; the rest is stairs


def test_slack_moves_the_outline_outwards() -> None:
    plain, slack = (mask_outlines([view_of(ball())], 0, pixels)[0] for pixels in (0.0, 1.5))
    assert np.median(gaps(ball(), slack) - gaps(ball(), plain)) == pytest.approx(1.5, abs=0.15)


def test_outlines_beyond_reach_are_no_gap() -> None:
    (outline,) = mask_outlines([view_of(ball(1 + 4 * PIXEL))], 0)
    assert np.isnan(gaps(ball(), outline, reach=3.0)).all()
    assert not np.isnan(gaps(ball(), outline, reach=6.0)).any()


def test_hidden_rims_are_no_gap() -> None:
    towards = camera().world_from_camera[0][:3, 3] - CENTRE
    before = ball(0.3, CENTRE + 1.5 * towards / np.linalg.norm(towards))
    large = ball()
    both = Mesh(
        np.concatenate([large.vertices, before.vertices]),
        np.concatenate([large.faces, before.faces + len(large.vertices)]),
    )
    (outline,) = mask_outlines([view_of(ball())], 0)
    found = gaps(both, outline)
    n_alone = len(gaps(large, outline))
    assert (~np.isnan(found)).sum() == n_alone < len(found)


def test_where_the_mask_is_doubted_there_is_no_gap() -> None:
    view = view_of(ball(1 + PIXEL))
    doubts = np.zeros((1, SIZE, SIZE), bool)
    doubts[:, : SIZE // 2] = True
    (outline,) = mask_outlines([replace(view, doubts=doubts)], 0)
    assert np.isnan(gaps(ball(), outline)).mean() == pytest.approx(0.5, abs=0.1)


def test_where_the_image_shows_nothing_there_is_no_gap_and_elsewhere_the_same() -> None:
    view = view_of(ball(1 + PIXEL))
    assert view.masks is not None
    unseen = np.zeros((1, SIZE, SIZE), bool)
    unseen[:, : SIZE // 2] = True
    (whole,) = mask_outlines([view], 0)
    (outline,) = mask_outlines([replace(view, masks=view.masks & ~unseen, unseen=unseen)], 0)
    expected, found = gaps(ball(), whole), gaps(ball(), outline)
    told = ~np.isnan(found)
    assert told.mean() == pytest.approx(0.5, abs=0.1)
    np.testing.assert_allclose(found[told], expected[told], atol=0.2)


def test_views_without_a_mask_have_no_outline() -> None:
    seen = view_of(ball())
    assert seen.masks is not None
    bare, empty = replace(seen, masks=None), replace(seen, masks=np.zeros_like(seen.masks))
    assert len(mask_outlines([bare, seen, empty], 0)) == 1


def test_a_capture_that_is_gone_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="bring it back, or pass --meshing.outline-reach 0"):
        stored_outlines(CaptureConfig(str(tmp_path / "gone")), HullConfig(), 3)
