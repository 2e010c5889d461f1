"""Laws of fitting outlines: lost tips come back, and what masks do not tell stays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest
from test_outlines import CENTRE, PIXEL, ball, view_of

from resfields_ngp import outline_fitting
from resfields_ngp.carving import mask_distances
from resfields_ngp.isosurface import isosurface
from resfields_ngp.mesh import Mesh, face_crosses, vertex_normals
from resfields_ngp.outline_fitting import fit_outlines
from resfields_ngp.outlines import Outline, mask_outlines

AZIMUTHS = (0.1, 1.7, 3.2, 4.9)


def spindle(half_height: float = 1.0, thickness: float = 0.4) -> Mesh:
    """Returns a spindle along y, marched on a grid, with tips as sharp as a double cone's."""

    def values(positions: np.ndarray) -> np.ndarray:
        x, y, z = ((positions - 0.5) * 3).T
        return ((np.hypot(x, z) - thickness * (1 - np.abs(y) / half_height)) / 3).astype(np.float32)

    vertices, faces = isosurface(values, 192)
    return Mesh((vertices - 0.5) * 3.0 + CENTRE, faces)


def blunted(mesh: Mesh, half_height: float) -> Mesh:
    """Returns a mesh pressed between two plates, softly."""
    vertices = mesh.vertices - CENTRE
    y = vertices[:, 1]
    vertices[:, 1] = np.sign(y) * -np.logaddexp(-np.abs(y) / 0.02, -half_height / 0.02) * 0.02
    return Mesh(vertices + CENTRE, mesh.faces)


def height(vertices: np.ndarray) -> float:
    return float(np.ptp(vertices[:, 1]))


def outlines(mesh: Mesh) -> list[Outline]:
    return mask_outlines([view_of(mesh, azimuth) for azimuth in AZIMUTHS], 0)


def test_tips_that_were_lost_come_back() -> None:
    true = spindle()
    short = blunted(true, 1.0 - 2.0 * PIXEL)
    lost = height(true.vertices) - height(short.vertices)
    found = fit_outlines(short, outlines(true), 3.0)
    missing = height(true.vertices) - height(found)
    assert lost > 3.5 * PIXEL  # both tips
    # The last half pixel of a tip is too thin to be in a mask.
    assert abs(missing) < 2 * 0.8 * PIXEL
    outwards = np.abs(
        np.hypot(*(found - CENTRE)[:, [0, 2]].T) - np.hypot(*(short.vertices - CENTRE)[:, [0, 2]].T)
    )
    assert outwards.mean() < 0.1 * PIXEL  # the flanks stay


def count_turned(mesh: Mesh, found: np.ndarray) -> int:
    before, after = (face_crosses(each, mesh.faces) for each in (mesh.vertices, found))
    return int(((before * after).sum(1) < 0).sum())


def noisy(outline: Outline, generator: np.random.Generator) -> Outline:
    """Returns the outline of a mask with blots and bites of some pixels along its rim."""
    noise = cv2.GaussianBlur(generator.normal(0, 20, outline.distances.shape), (0, 0), 2.0)
    return replace(outline, distances=mask_distances(outline.distances + noise < 0))


def test_slivers_of_a_marched_surface_do_not_turn_over() -> None:
    short = blunted(spindle(), 1.0 - PIXEL)
    found = fit_outlines(short, outlines(spindle(thickness=0.4 + PIXEL)), 3.0)
    assert count_turned(short, found) == 0


def marched_ball() -> Mesh:
    """Returns a ball on a grid whose cells are half a pixel, slivers included."""
    vertices, faces = isosurface(lambda at: np.linalg.norm(at - 0.5, axis=1) - 1 / 3, 192)
    return Mesh((vertices - 0.5) * 3.0 + CENTRE, faces)


@pytest.mark.parametrize("shape", [marched_ball, spindle])
def test_noisy_masks_turn_no_triangle_over(
    shape: Callable[[], Mesh], monkeypatch: pytest.MonkeyPatch
) -> None:
    mesh, generator = shape(), np.random.default_rng(0)
    masks = [noisy(outline, generator) for outline in outlines(mesh)]
    assert count_turned(mesh, fit_outlines(mesh, masks, 4.0)) == 0
    monkeypatch.setattr(outline_fitting, "moves_that_turn_nothing", lambda _start, moves, _: moves)
    assert count_turned(mesh, fit_outlines(mesh, masks, 4.0)) > 0  # or nothing was put to the test


def test_masks_of_something_else_turn_no_triangle_over() -> None:
    mesh, wrong = spindle(), outlines(ball(0.5))
    assert count_turned(mesh, fit_outlines(mesh, wrong, 16.0)) == 0


def test_where_none_turns_over_the_masks_have_their_way(monkeypatch: pytest.MonkeyPatch) -> None:
    masks = outlines(ball(1 + PIXEL))
    found = fit_outlines(ball(), masks, 2.0)
    monkeypatch.setattr(outline_fitting, "moves_that_turn_nothing", lambda _start, moves, _: moves)
    np.testing.assert_array_equal(fit_outlines(ball(), masks, 2.0), found)


def test_a_mesh_that_agrees_with_its_masks_stays() -> None:
    mesh = spindle()
    np.testing.assert_allclose(fit_outlines(mesh, outlines(mesh), 2.0), mesh.vertices, atol=1e-9)


def test_the_edge_of_what_a_lens_saw_pulls_at_nothing() -> None:
    mesh = ball()
    views = []
    for azimuth in AZIMUTHS:
        view = view_of(mesh, azimuth)
        assert view.masks is not None
        unseen = np.zeros_like(view.masks)
        # Beyond a line a pixel within the ball's own outline.
        unseen[:, :, : np.nonzero(view.masks[0].any(0))[0][0] + 2] = True
        views.append(replace(view, masks=view.masks & ~unseen, unseen=unseen))
    found = fit_outlines(mesh, mask_outlines(views, 0), 3.0)
    blind = fit_outlines(mesh, mask_outlines([replace(v, unseen=None) for v in views], 0), 3.0)
    moved, pulled = (np.linalg.norm(each - mesh.vertices, axis=1).max() for each in (found, blind))
    assert moved < 0.1 * PIXEL < 0.8 * PIXEL < pulled


@pytest.mark.parametrize("missing", [-1.0, 1.0])
def test_a_ball_of_the_wrong_size_is_mended_between_the_rims_too(missing: float) -> None:
    true = ball(1 + missing * PIXEL)
    found = fit_outlines(ball(), outlines(true), 2.0)
    radii = (np.linalg.norm(found - CENTRE, axis=1) - 1) / PIXEL
    assert radii.mean() == pytest.approx(missing, abs=0.35)
    assert radii.std() < 0.2
    outwards = (found - CENTRE) / np.linalg.norm(found - CENTRE, axis=1, keepdims=True)
    assert (vertex_normals(found, true.faces) * outwards).sum(1).mean() > 0.999  # still smooth


def test_what_is_beyond_reach_is_left_to_the_field() -> None:
    far = outlines(ball(1 + 5 * PIXEL))
    np.testing.assert_array_equal(fit_outlines(ball(), far, 2.0), ball().vertices)


def test_nothing_moves_without_masks_or_reach_or_mesh() -> None:
    mesh, empty = ball(), Mesh(np.zeros((0, 3)), np.zeros((0, 3), np.int64))
    np.testing.assert_array_equal(fit_outlines(mesh, [], 2.0), mesh.vertices)
    np.testing.assert_array_equal(fit_outlines(mesh, outlines(ball(1.05)), 0.0), mesh.vertices)
    assert fit_outlines(empty, outlines(mesh), 2.0).shape == (0, 3)


def test_no_point_of_a_rim_goes_farther_than_the_reach() -> None:
    true = spindle()
    short = blunted(true, 1.0 - 4 * PIXEL)
    moved = fit_outlines(short, outlines(true), 1.0) - short.vertices
    assert np.linalg.norm(moved, axis=1).max() < 1.5 * PIXEL


def test_units_of_the_world_do_not_matter() -> None:
    short, masks = blunted(spindle(), 1.0 - PIXEL), outlines(spindle())
    scaled = [
        Outline(outline.distances, outline.projection @ np.diag([1e-3, 1e-3, 1e-3, 1.0]))
        for outline in masks
    ]
    plain = fit_outlines(short, masks, 2.0)
    large = fit_outlines(Mesh(short.vertices * 1e3, short.faces), scaled, 2.0)
    np.testing.assert_allclose(large / 1e3, plain, atol=1e-6)
