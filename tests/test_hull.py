"""The visual hull: what it contains, how far it reaches, where it puts model space."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage
from sphere_capture import SIZE, sphere_capture, with_masks

from resfields_ngp.carving import carve
from resfields_ngp.datasets.base import Capture
from resfields_ngp.hull import (
    Hull,
    HullConfig,
    build_hull,
    frame_silhouettes,
    full_box,
    smooth_path,
    with_doubts,
)
from resfields_ngp.model_space import ModelSpace

CENTRE = np.array([0.15, -0.1, 0.2])
RADIUS = 0.4
CONFIG = HullConfig(resolution=32)
STILL = np.tile(CENTRE, (1, 1, 1))


def ball(n: int = 4000, shell: bool = False) -> np.ndarray:
    """Returns (n, 3) points of the unit ball, or of its surface."""
    generator = np.random.default_rng(0)
    points = generator.normal(size=(n, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    return points if shell else points * generator.random((n, 1)) ** (1 / 3)


def to_model(capture: Capture, hull: Hull, normalised: np.ndarray, frame: int = 0) -> np.ndarray:
    """Returns normalised points (N, 3) in a frame's model space."""
    matrix = capture.world_from_normalised
    return hull.space.to_model(normalised @ matrix[:3, :3].T + matrix[:3, 3], frame)


def lies_in(cells: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Returns for each model point (N, 3) the value of the cell that holds it."""
    index = np.floor(points * cells.shape[0]).astype(int)
    assert (index >= 0).all() and (index < cells.shape[0]).all()
    return cells[tuple(index.T)]


def distances_at(hull: Hull, points: np.ndarray, frame: int = 0) -> np.ndarray:
    """Returns the trilinear distances at model points (N, 3)."""
    grid = hull.distances[frame]
    return ndimage.map_coordinates(grid, points.T * grid.shape[0] - 0.5, order=1, mode="nearest")


def normalised_side(capture: Capture, hull: Hull) -> float:
    return hull.space.scale / float(np.cbrt(np.linalg.det(capture.world_from_normalised[:3, :3])))


def test_hull_of_a_sphere_contains_the_sphere():
    capture = sphere_capture(STILL)
    hull = build_hull(capture, CONFIG)
    points = to_model(capture, hull, CENTRE + RADIUS * ball())
    assert lies_in(hull.occupied[0], points).all()
    # Masks are cut at pixel centres: half a pixel of slack, about 0.02 normalised at this size.
    assert (distances_at(hull, points) < 0.02 / normalised_side(capture, hull)).all()


def test_hull_of_many_views_is_close_to_the_sphere():
    capture = sphere_capture(STILL, n_views=16)
    hull = build_hull(capture, CONFIG)
    side = normalised_side(capture, hull)
    centre = to_model(capture, hull, CENTRE[None])[0]
    cells = (np.argwhere(hull.distances[0] < 0) + 0.5) / 32
    assert np.linalg.norm(cells - centre, axis=1).max() < 1.12 * RADIUS / side
    surface = to_model(capture, hull, CENTRE + RADIUS * ball(shell=True))
    # The hull circumscribes the sphere: on the surface the distance is 0 or a little inside.
    found = distances_at(hull, surface) * side
    assert found.max() < 0.02 and found.min() > -0.06 and abs(np.median(found)) < 0.015


def test_distances_are_in_model_units_far_away_too():
    capture = sphere_capture(STILL, n_views=16)
    hull = build_hull(capture, replace(CONFIG, margin=0.3))
    centre = to_model(capture, hull, CENTRE[None])[0]
    cells = (np.indices((32,) * 3).reshape(3, -1).T + 0.5) / 32
    expected = np.linalg.norm(cells - centre, axis=1) - RADIUS / normalised_side(capture, hull)
    error = hull.distances[0].ravel() - expected
    # The hull bulges out of the sphere; beyond that a cell's width, not the cones' weak bound.
    assert -0.05 < error.min() and error.max() < 1 / 32


def test_distances_at_the_centre_are_the_radius():
    capture = sphere_capture(STILL, n_views=16)
    hull = build_hull(capture, CONFIG)
    depth = distances_at(hull, to_model(capture, hull, CENTRE[None]))
    # Pixels and cells each round the cone's tip off by half their width.
    assert depth * normalised_side(capture, hull) == pytest.approx(-RADIUS, rel=0.12)


def test_slack_moves_the_outline_by_its_pixels():
    capture = sphere_capture(STILL, n_views=16)
    hulls = [build_hull(capture, replace(CONFIG, slack=slack)) for slack in (0.0, 2.0)]
    centre = [to_model(capture, hull, CENTRE[None]) for hull in hulls]
    depths = [
        distances_at(hull, point)[0] * normalised_side(capture, hull)
        for hull, point in zip(hulls, centre, strict=True)
    ]
    pixel = 4.5 / 120.0
    assert depths[0] - depths[1] == pytest.approx(2 * pixel, rel=0.15)


def test_box_is_tight():
    capture = sphere_capture(STILL, n_views=16)
    hull = build_hull(capture, CONFIG)
    assert 2 * RADIUS / 0.92 < normalised_side(capture, hull) < 1.3 * 2 * RADIUS


def test_a_view_carves_beside_its_image_by_the_distance_to_its_cone():
    """In a unit sphere that holds the cameras too, cells lie beside them."""
    capture = sphere_capture(STILL, n_views=1)
    view = capture.views[0].cameras.model_from_camera(
        0, ModelSpace(capture.world_from_normalised, np.zeros((1, 3)))
    )
    box = np.diag([40.0, 40.0, 40.0, 1.0])
    box[:3, 3] = -20.0
    silhouettes = frame_silhouettes(capture, 0, CONFIG)
    raw = 40 * carve(silhouettes, capture.world_from_normalised @ box, 32).ravel()
    centres = np.stack(np.meshgrid(*[(np.arange(32) + 0.5) / 32] * 3, indexing="ij"), axis=-1)
    offsets = 40 * centres.reshape(-1, 3) - 20 - view[:3, 3]
    axis = CENTRE - view[:3, 3]
    lengths = np.linalg.norm(offsets, axis=1)
    angles = np.arccos(offsets @ axis / lengths / np.linalg.norm(axis))
    angles -= np.arcsin(RADIUS / np.linalg.norm(axis))
    outside = (offsets @ view[:3, 2] > 0) & (angles > 0)
    true = lengths * np.sin(np.minimum(angles, np.pi / 2))
    assert (raw[outside] > 0.5 * true[outside] - 0.1).all()


def test_model_space_follows_a_moving_sphere():
    path = CENTRE + np.arange(6)[:, None] * np.array([0.1, 0.0, -0.05])
    capture = sphere_capture(path[:, None])
    hull = build_hull(capture, CONFIG)
    moved = (hull.space.offsets - hull.space.offsets[0]) * normalised_side(capture, hull)
    np.testing.assert_allclose(moved, path - path[0], atol=0.02)
    for frame, centre in enumerate(path):
        points = to_model(capture, hull, centre + RADIUS * ball(), frame)
        assert lies_in(hull.occupied[frame], points).all()


def test_unstabilised_space_rests_and_holds_all_frames():
    path = CENTRE + np.arange(3)[:, None] * np.array([0.2, 0.0, -0.1])
    capture = sphere_capture(path[:, None])
    hull = build_hull(capture, replace(CONFIG, stabilise=False))
    assert (hull.space.offsets == 0).all()
    for frame, centre in enumerate(path):
        points = to_model(capture, hull, centre + RADIUS * ball(), frame)
        assert lies_in(hull.occupied[frame], points).all()
    assert hull.space.scale > build_hull(capture, CONFIG).space.scale


def test_space_of_a_resting_subject_rests():
    hull = build_hull(sphere_capture(np.tile(CENTRE, (4, 1, 1))), CONFIG)
    assert (hull.space.offsets == 0).all()


def test_space_of_a_single_view_rests():
    path = CENTRE + np.arange(6)[:, None] * np.array([0.1, 0.0, -0.05])
    assert (build_hull(sphere_capture(path[:, None], n_views=1), CONFIG).space.offsets == 0).all()


def test_smoothing_keeps_steady_motion_and_damps_jitter():
    steady = np.arange(9)[:, None] * np.array([0.3, -0.1, 0.2])
    np.testing.assert_allclose(smooth_path(steady, 10.0), steady, atol=1e-9)
    jitter = np.random.default_rng(0).normal(size=(9, 3))
    assert np.abs(np.diff(smooth_path(jitter, 10.0), 2, axis=0)).max() < 0.5
    np.testing.assert_array_equal(smooth_path(jitter, 0.0).round(9), jitter.round(9))


def test_parts_thinner_than_a_cell_stay_occupied():
    beads = np.stack([np.linspace(-0.6, 0.6, 60), np.zeros(60), np.zeros(60)], axis=1)
    centres = np.concatenate([beads, [[0.7, 0.0, 0.0]]])[None]
    capture = sphere_capture(centres, (0.02,) * 60 + (0.2,), n_views=4)
    hull = build_hull(capture, replace(CONFIG, resolution=16))
    assert 2 * 0.02 < 0.5 * normalised_side(capture, hull) / 16
    assert lies_in(hull.occupied[0], to_model(capture, hull, beads)).all()


def test_small_separate_parts_are_dropped_or_kept():
    ghost = np.array([-0.7, 0.5, -0.6])
    capture = sphere_capture(np.stack([CENTRE, ghost])[None], (RADIUS, 0.05))
    kept = build_hull(capture, replace(CONFIG, min_component=0.0))
    assert lies_in(kept.occupied[0], to_model(capture, kept, ghost[None])).all()
    dropped = build_hull(capture, replace(CONFIG, min_component=0.02))
    assert dropped.space.scale < 0.8 * kept.space.scale
    assert (ndimage.label(dropped.occupied[0], np.ones((3, 3, 3)))[1]) == 1


def cut_in_two(masks: np.ndarray) -> np.ndarray:
    rows = np.nonzero(masks[0].any(axis=1))[0]
    masks[:, int(rows.mean())] = False
    return masks


def test_gaps_in_masks_are_closed():
    capture = sphere_capture(STILL)
    broken = with_masks(capture, cut_in_two, views=(0,))
    hull = build_hull(broken, replace(CONFIG, closing=0.02))
    assert distances_at(hull, to_model(capture, hull, CENTRE[None])) < -0.3
    gaping = build_hull(broken, replace(CONFIG, closing=0.0))
    assert distances_at(gaping, to_model(capture, gaping, CENTRE[None])) > -0.1


@pytest.mark.parametrize("doubt_gaps", [False, True])
def test_gaps_that_are_closed_are_in_doubt_where_asked(doubt_gaps: bool):
    capture = sphere_capture(STILL)
    config = replace(CONFIG, closing=0.02, doubt_gaps=doubt_gaps)
    views = with_doubts(with_masks(capture, cut_in_two, views=(0,)), config).views
    assert all((view.doubts is not None) == doubt_gaps for view in views)
    if doubt_gaps:
        gap = capture.views[0].masks & ~views[0].masks
        # A disc closes the outline's steps besides, but hardly any.
        assert gap.any() and views[0].doubts[gap].mean() > 0.9
        assert not any((view.doubts & view.masks).any() for view in views)
        assert max(view.doubts.sum() for view in views[1:]) < 0.1 * gap.sum()


def test_tolerance_overrules_one_bad_mask():
    capture = sphere_capture(STILL, n_views=6)

    def halve(masks: np.ndarray) -> np.ndarray:
        masks[:, :, : SIZE // 2] = False
        return masks

    broken = with_masks(capture, halve, views=(2,))
    hull = build_hull(broken, replace(CONFIG, tolerance=1))
    assert lies_in(hull.occupied[0], to_model(capture, hull, CENTRE + RADIUS * ball())).all()


def test_views_that_cut_the_subject_do_not_carve_beyond_their_border():
    capture = sphere_capture(STILL, n_views=5)
    view = capture.views[0]
    assert view.masks is not None
    columns = np.nonzero(view.masks[0].any(axis=0))[0]
    cut = int(columns.mean())  # the image ends in the middle of the sphere
    cameras = replace(view.cameras, width=cut)
    part = replace(
        view, cameras=cameras, images=view.images[:, :, :cut], masks=view.masks[:, :, :cut]
    )
    capture = replace(capture, views=(part, *capture.views[1:]))
    hull = build_hull(capture, CONFIG)
    assert lies_in(hull.occupied[0], to_model(capture, hull, CENTRE + RADIUS * ball())).all()


def test_views_that_see_all_of_the_subject_carve_beyond_their_border():
    capture = sphere_capture(STILL, n_views=1)
    capture = replace(capture, bounds=np.array([[-3.0] * 3, [3.0] * 3]))
    hull = build_hull(capture, CONFIG)
    eye = capture.views[0].cameras.world_from_camera[0][:3, 3]
    cells = (np.argwhere(hull.distances[0] < 0) + 0.5) / 32
    away = hull.space.to_world(cells, 0) - eye
    axis = capture.views[0].cameras.world_from_camera[0][:3, 2]
    assert ((away @ axis) / np.linalg.norm(away, axis=1)).min() > 0.9


def test_cells_that_no_view_sees_are_outside():
    capture = sphere_capture(STILL, n_views=1, distance=1.5)  # the box reaches behind the camera
    hull = build_hull(capture, CONFIG)
    cells = (np.argwhere(hull.occupied[0]) + 0.5) / 32
    pose = capture.views[0].cameras.world_from_camera[0]
    assert ((hull.space.to_world(cells, 0) - pose[:3, 3]) @ pose[:3, 2]).min() > 0


def test_hull_without_masks_is_the_whole_box():
    capture = sphere_capture(STILL)
    views = tuple(replace(view, masks=None) for view in capture.views)
    hull = build_hull(replace(capture, views=views), CONFIG)
    assert hull.occupied.all() and (hull.distances < 0).all()
    corners = to_model(capture, hull, np.array([[-1.0] * 3, [1.0] * 3]))
    np.testing.assert_allclose(corners, [[0.0] * 3, [1.0] * 3], atol=1e-9)


def test_full_box_takes_the_captures_bounds():
    bounds = np.array([[-0.5, -0.2, 0.0], [0.5, 0.3, 0.1]])
    capture = replace(sphere_capture(STILL), bounds=bounds)
    hull = full_box(capture, 16)
    assert normalised_side(capture, hull) == pytest.approx(1.0)
    np.testing.assert_allclose(to_model(capture, hull, bounds).mean(axis=0), 0.5)


@pytest.mark.parametrize("field, value", [("resolution", 4), ("margin", 0.5), ("tolerance", -1)])
def test_values_out_of_range_are_refused(field: str, value: float):
    with pytest.raises(ValueError, match=f"hull.{field} is {value}; allowed"):
        HullConfig(**{field: value})


@pytest.mark.parametrize("n_points", [1, 31999, 32000, 40000])
def test_a_cone_is_measured_at_any_number_of_points(n_points: int):
    capture = sphere_capture(np.array([[[0.0, 0.0, 0.0]]]), (0.4,))
    silhouette = frame_silhouettes(capture, 0, HullConfig())[0]
    points = np.random.default_rng(0).uniform(1, 9, (3, 1, n_points)).astype(np.float32)
    found = silhouette.distances(points)
    each = [silhouette.distances(points[:, :, at : at + 500]) for at in range(0, n_points, 500)]
    np.testing.assert_array_equal(found, np.concatenate(each, axis=1))
