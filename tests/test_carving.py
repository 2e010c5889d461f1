"""Laws of carving where images show nothing: what a lens never saw carves no more than what lies
beside the picture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sphere_capture import SIZE, sphere_capture

from resfields_ngp.carving import carve, make_silhouette, mask_distances, touches_border
from resfields_ngp.datasets.base import Capture, CaptureError
from resfields_ngp.hull import HullConfig, build_hull, frame_silhouettes
from resfields_ngp.hull_faults import check_not_inverted
from resfields_ngp.inspection import mask_coverage

CENTRE, RADIUS, K1 = np.array([0.15, 0.5, 0.2]), 0.4, 0.8
CONFIG = HullConfig(resolution=32)
NEAR, WIDE = 2.0, 2.8
"""From the first distance three of four pictures cut the ball, from the other none does."""


def captured(distance: float, k1: float = 0.0) -> Capture:
    return sphere_capture(np.tile(CENTRE, (1, 1, 1)), (RADIUS,), distance=distance, k1=k1)


def ball_points(capture: Capture, n_points: int = 4000) -> np.ndarray:
    """Returns (n_points, 3) of the ball, world units."""
    random = np.random.default_rng(0)
    points = random.normal(size=(n_points, 3))
    points *= random.random((n_points, 1)) ** (1 / 3) / np.linalg.norm(points, axis=1)[:, None]
    matrix = capture.world_from_normalised
    return (CENTRE + RADIUS * points) @ matrix[:3, :3].T + matrix[:3, 3]


def box_points(capture: Capture) -> np.ndarray:
    """Returns (n, 3) points all over the box, world units."""
    points = np.random.default_rng(1).uniform(-1.0, 1.0, (20_000, 3))
    matrix = capture.world_from_normalised
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def test_a_straightened_picture_says_what_a_pinhole_says_where_its_lens_saw():
    plain, bent = captured(NEAR), captured(NEAR, K1)
    points = box_points(plain)
    n_cut = 0
    for index, view in enumerate(bent.views):
        homogeneous = np.c_[points, np.ones(len(points))] @ view.cameras.projection(0).T
        parts = [part[:, None].astype(np.float32) for part in homogeneous.T]
        ours, theirs = (
            frame_silhouettes(capture, 0, HullConfig(closing=0.0))[index]
            for capture in (bent, plain)
        )
        pixel = ours.tangent * homogeneous[:, 2]
        found, expected = ours.distances(parts)[:, 0], theirs.distances(parts)[:, 0]
        x, y = np.floor(homogeneous[:, :2] / homogeneous[:, 2:]).T.astype(int)
        inside = (x >= 0) & (x < SIZE) & (y >= 0) & (y < SIZE)
        assert view.unseen is not None
        seen = inside.copy()
        seen[inside] = ~view.unseen[0, y[inside], x[inside]]
        told = seen & (np.abs(expected) > 1.5 * pixel)
        assert told.sum() > 5000 and (np.sign(found) == np.sign(expected))[told].all()
        if ours.is_cut:
            assert np.isneginf(found[~seen & (homogeneous[:, 2] > 0)]).all()
            assert np.isfinite(found[seen]).all()
            n_cut += 1
    assert n_cut == 3


def test_a_subject_that_leaves_what_the_lens_saw_is_not_carved_away_there():
    bent = captured(NEAR, K1)
    hull = build_hull(bent, CONFIG)
    cells = np.floor(hull.space.to_model(ball_points(bent), 0) * hull.resolution).astype(int)
    assert hull.occupied[0][tuple(cells.T)].all()
    # Taken for background, what is unseen would take a part of the ball with it.
    blind = replace(bent, views=tuple(replace(view, unseen=None) for view in bent.views))
    box = hull.space.world_from_frame(0)
    carved = carve(frame_silhouettes(blind, 0, CONFIG), box, hull.resolution)
    assert (carved[tuple(cells.T)] > hull.margin).mean() > 0.04


def test_the_hull_through_a_lens_is_the_pinholes_where_both_see_the_subject():
    hulls = [build_hull(captured(WIDE, k1), CONFIG) for k1 in (0.0, K1)]
    inside = [hull.distances[0] < 0 for hull in hulls]
    assert np.allclose(hulls[0].space.scale, hulls[1].space.scale, rtol=0.04)
    assert inside[0].sum() == pytest.approx(inside[1].sum(), rel=0.15)
    box = hulls[0].space.world_from_frame(0)
    raw = [carve(frame_silhouettes(captured(WIDE, k1), 0, CONFIG), box, 32) for k1 in (0.0, K1)]
    near = np.abs(raw[0]) < 0.1
    assert np.abs(raw[0] - raw[1])[near].max() < 2 * pixel_of(captured(WIDE)) / hulls[0].space.scale


def pixel_of(capture: Capture) -> float:
    """Returns what a pixel measures at the ball, world units."""
    cameras = capture.views[0].cameras
    return float(cameras.project(ball_points(capture), 0)[1].max()) / cameras.intrinsics[0, 0, 0]


def test_a_subject_wholly_in_view_leaves_nothing_where_the_lens_saw_nothing():
    bent = captured(WIDE, K1)
    silhouettes = frame_silhouettes(bent, 0, CONFIG)
    assert not any(silhouette.is_cut for silhouette in silhouettes)
    points = box_points(bent)
    for silhouette in silhouettes:
        homogeneous = np.c_[points, np.ones(len(points))] @ silhouette.projection.T
        parts = [part[:, None].astype(np.float32) for part in homogeneous.T]
        assert np.isfinite(silhouette.distances(parts)[homogeneous[:, 2] > 0]).all()


def test_there_is_no_outline_between_subject_and_unseen():
    mask, unseen = np.zeros((20, 30), bool), np.zeros((20, 30), bool)
    mask[:, 8:22], unseen[:, 18:] = True, True
    found = mask_distances(mask & ~unseen, unseen)
    # As if the subject went on: the only outline is at column 8.
    assert np.allclose(found[:, :18], 7.5 - np.arange(18), atol=0.1)
    assert (found[:, 18:] < 0).all()
    assert np.array_equal(mask_distances(mask, np.zeros_like(mask)), mask_distances(mask))


def test_a_mask_is_cut_where_it_meets_what_is_unseen():
    mask, unseen = np.zeros((20, 30), bool), np.zeros((20, 30), bool)
    mask[5:9, 5:9] = True
    assert not touches_border(mask) and not touches_border(mask, unseen)
    unseen[9, 9] = True
    assert touches_border(mask, unseen)


def test_masks_agree_through_lenses_however_they_are_cut():
    bent = captured(NEAR, K1)
    coverage = mask_coverage(bent, build_hull(bent, CONFIG))
    assert min(values.min() for values in coverage.values()) > 0.97


def test_inverted_masks_are_noticed_through_a_lens():
    bent = captured(WIDE, K1)
    views = [replace(view, masks=~view.masks & ~view.unseen) for view in bent.views]
    with pytest.raises(CaptureError, match="inverted"):
        check_not_inverted(replace(bent, views=tuple(views)))


def test_without_a_map_a_silhouette_is_what_it_was():
    view = captured(NEAR).views[0]
    assert view.unseen is None and view.untrusted is None and view.masks is not None
    nothing = np.zeros_like(view.masks[0])
    plain = make_silhouette(view.masks[0], view.cameras, 0)
    mapped = make_silhouette(view.masks[0], view.cameras, 0, unseen=nothing)
    assert np.array_equal(plain.slopes, mapped.slopes) and plain.is_cut == mapped.is_cut
