"""Laws of floaters: what stands where cones cross goes, what a mask shows stays, however small."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import trimesh

from resfields_ngp.cameras import Cameras, look_at
from resfields_ngp.datasets.base import View
from resfields_ngp.floaters import distances_without_floaters, needed_parts
from resfields_ngp.mesh import Mesh
from resfields_ngp.outlines import Outline, drawn_distances, mask_outlines

SIZE = 96
BODY, HAND = ((-0.8, 0.0, -0.8), 0.5), ((0.8, 0.0, 0.8), 0.4)
GHOSTS = (((-0.8, 0.0, 0.8), 0.3), ((0.8, 0.0, -0.8), 0.3))
"""Seen along x and along z they are behind or before the others."""

Place = tuple[float, float, float]
EYES: tuple[Place, ...] = ((0.0, 0.0, -40.0), (-40.0, 0.0, 0.0))
Ball = tuple[Place, float]
"""Centre and radius."""


def ball(given: Ball) -> Mesh:
    found = trimesh.creation.icosphere(subdivisions=3)
    return Mesh(np.asarray(found.vertices) * given[1] + given[0], np.asarray(found.faces))


def outlines_of(*given: Ball, eyes: Sequence[Place] = EYES) -> list[Outline]:
    """Returns the masks of balls, seen along z and along x from far away."""
    views = []
    for eye in eyes:
        pose = look_at(np.array(eye), np.zeros(3), np.array([0.0, 1.0, 0.0]))
        intrinsics = np.array([[960.0, 0, SIZE / 2], [0, 960, SIZE / 2], [0, 0, 1]])
        cameras = Cameras(intrinsics[None], pose[None], SIZE, SIZE)
        mask = np.zeros((SIZE, SIZE), bool)
        for mesh in map(ball, given):
            pixels = cameras.project(mesh.vertices, 0)[0]
            mask |= drawn_distances(pixels, mesh.faces, (SIZE, SIZE)) < 0
        views.append(View("", cameras, np.zeros((1, SIZE, SIZE, 3), np.uint8), mask[None]))
    return mask_outlines(views, 0)


def needed(outlines: list[Outline], *given: Ball) -> list[bool]:
    return needed_parts([ball(each) for each in given], outlines).tolist()


def test_what_others_cover_in_every_view_is_not_needed():
    outlines = outlines_of(BODY, HAND)
    assert needed(outlines, BODY, HAND, *GHOSTS) == [True, True, False, False]
    assert needed(outlines, GHOSTS[1], BODY, GHOSTS[0], HAND) == [False, True, False, True]


def test_what_one_mask_shows_alone_is_needed_however_small():
    finger = ((0.0, 0.9, 0.0), 0.08)  # 2 pixels in radius
    outlines = outlines_of(BODY, HAND, finger)
    assert needed(outlines, BODY, HAND, finger, *GHOSTS) == [True, True, True, False, False]
    assert needed(outlines_of(BODY, HAND), BODY, HAND, finger) == [True, True, False]


def test_a_ghost_in_the_place_of_what_is_missing_is_needed():
    outlines = outlines_of(BODY, HAND)
    assert needed(outlines, BODY, *GHOSTS) == [True, True, True]


def test_the_largest_part_and_without_masks_every_part_is_needed():
    assert needed([], BODY, *GHOSTS) == [True, True, True]
    assert needed(outlines_of(HAND), BODY) == [True]
    assert needed(outlines_of(HAND), BODY, ((0.0, 0.9, 0.0), 0.2)) == [True, False]


def test_of_four_masks_one_alone_does_not_say_where_a_part_is():
    finger = ((0.0, 0.9, 0.0), 0.08)
    eyes = (*EYES, (0.0, 0.0, 40.0), (40.0, 0.0, 0.0))
    without, shown = outlines_of(BODY, HAND, eyes=eyes), outlines_of(BODY, HAND, finger, eyes=eyes)
    for n_views, is_needed in ((1, False), (2, True), (4, True)):
        outlines = shown[:n_views] + without[n_views:]
        assert needed(outlines, BODY, HAND, finger) == [True, True, is_needed]
    assert needed(shown[:1] + without[1:3], BODY, HAND, finger)[2]


def test_pixels_in_doubt_may_need_anybody():
    outlines = outlines_of(BODY)
    assert needed(outlines, BODY, HAND) == [True, False]
    around = (outlines_of(HAND)[0].distances < 2).astype(np.uint8)
    doubted = [replace(outlines[0], doubts=around), outlines[1]]
    assert needed(doubted, BODY, HAND) == [True, True]
    assert needed(doubted, BODY, GHOSTS[0]) == [True, False]


def test_pixels_that_show_nothing_need_nobody():
    outlines = outlines_of(BODY, HAND)
    around = (outlines_of(HAND)[0].distances < 2).astype(np.uint8)
    blind = [replace(outline, unseen=around) for outline in outlines[:1]]
    assert needed(outlines[:1], BODY, HAND) == [True, True]
    assert needed(blind, BODY, HAND) == [True, False]


def test_an_outline_that_is_a_pixel_off_needs_nothing_beside_the_subject():
    outlines = outlines_of(((-0.8, 0.0, -0.8), 0.54), HAND)  # a pixel wider
    assert needed(outlines, BODY, HAND, *GHOSTS) == [True, True, False, False]


def grid_distances(*given: Ball, resolution: int = 40) -> np.ndarray:
    """Returns signed distances to balls at cell centres of [-2, 2]^3, in units of its side."""
    axis = (np.arange(resolution) + 0.5) / resolution * 4.0 - 2.0
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1)
    each = [np.linalg.norm(points - np.array(centre), axis=-1) - radius for centre, radius in given]
    return (np.minimum.reduce(each) / 4.0).astype(np.float32)


def test_distances_to_floaters_become_the_way_to_what_is_left():
    outlines = outlines_of(BODY, HAND)

    def to_world(points: np.ndarray) -> np.ndarray:
        return 4.0 * points - 2.0

    clean, whole = grid_distances(BODY, HAND), grid_distances(BODY, HAND, *GHOSTS)
    assert distances_without_floaters(clean, to_world, lambda: outlines) is clean
    found = distances_without_floaters(whole, to_world, lambda: outlines)
    inside = clean != whole
    assert whole[inside].min() < -0.05  # the ghosts were there
    assert found[inside].min() > 0.02 and (found <= clean + 2.0 / 40)[inside].all()
    assert np.array_equal(found[clean < 0.02], whole[clean < 0.02])
    missing = grid_distances(BODY, *GHOSTS)
    assert distances_without_floaters(missing, to_world, lambda: outlines) is missing


@pytest.mark.parametrize("shift", [30.0, -1000.0])
def test_a_part_beside_the_pictures_is_not_needed(shift: float):
    aside = ((shift, 0.0, 0.0), 0.3)
    outlines = outlines_of(BODY, HAND)[:1]  # along z
    assert needed(outlines, BODY, HAND, aside) == [True, True, False]


def test_a_thin_part_that_the_grid_breaks_is_one():
    outlines = outlines_of(BODY, HAND)
    for gap, is_kept in ((0.12, True), (0.5, False)):  # cells are 0.1 wide
        bead = ((-0.8 + 0.5 + gap + 0.1, 0.0, -0.8), 0.1)  # which no mask shows
        distances = grid_distances(BODY, bead, HAND)
        found = distances_without_floaters(distances, lambda x: 4.0 * x - 2.0, lambda: outlines)
        assert (found is distances) == is_kept
