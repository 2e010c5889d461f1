from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from ball_scene import N_FRAMES, ball_capture, ball_space, seeded

from resfields_ngp.datasets.base import Capture
from resfields_ngp.device_pixels import DevicePixels
from resfields_ngp.pixels import PixelSource, bounding_boxes, outline_odds
from resfields_ngp.records import Batch

N_VIEWS = 3
FRAMES = (2, 0)
KIND = "host"


def noisy_capture(has_masks: bool = True) -> Capture:
    """Returns the ball's capture with every pixel's colour and depth told apart."""
    random = np.random.default_rng(0)
    capture = ball_capture()
    views = []
    for view in capture.views:
        images = random.integers(0, 256, view.images.shape, dtype=np.uint8)
        depths = random.integers(1, 60000, view.images.shape[:3], dtype=np.uint16)
        masks = view.masks if has_masks else None
        views.append(replace(view, images=images, masks=masks, depths=depths))
    return replace(capture, views=tuple(views), depth_scale=0.002)


BUDGETS = {"resident": 1 << 40, "streamed": 0}


@pytest.fixture(params=["host", *BUDGETS], autouse=True)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where pixels are drawn: every law holds for every source."""
    monkeypatch.setitem(globals(), "KIND", request.param)
    return request.param


def make_source(capture: Capture, depth: bool = False) -> PixelSource | DevicePixels:
    if KIND == "host":
        return PixelSource(capture, ball_space(), capture.views, depth)
    budget, device = BUDGETS[KIND], torch.device("cpu")
    source = DevicePixels(capture, ball_space(), capture.views, depth, device, budget)
    assert source.is_resident == (KIND == "resident")
    return source


def draw(
    capture: Capture, n_rays: int = 300, foreground: float = 0.7, seed: int = 0, depth: bool = True
) -> Batch:
    return make_source(capture, depth).draw(FRAMES, n_rays, foreground, seeded(seed))


def pixels_hit(capture: Capture, batch: Batch):
    """Yields view, frame, rows of the batch and the pixel positions that their rays project to."""
    space = ball_space()
    for i, begin, end in batch.rays.slices:
        frame = batch.rays.slices.frames[i]
        for view in capture.views:
            centre = space.to_model(view.cameras.world_from_camera[frame][None, :3, 3], frame)
            origins = batch.rays.origins[begin:end].numpy()
            rows = begin + np.flatnonzero(np.abs(origins - centre).max(axis=1) < 1e-4)
            origins = batch.rays.origins[rows].double().numpy()
            points = origins + 2.5 * batch.rays.directions[rows].double().numpy()
            yield view, frame, rows, *view.cameras.project(space.to_world(points, frame), frame)


@pytest.mark.parametrize("has_masks", [False, True])
def test_rays_hit_the_pixels_whose_colours_they_carry(has_masks: bool):
    capture = noisy_capture(has_masks)
    batch = draw(capture)
    seen = 0
    for view, frame, rows, positions, depths in pixels_hit(capture, batch):
        assert len(rows) == 300 // (len(FRAMES) * N_VIEWS)
        seen += len(rows)
        columns, lines = np.floor(positions).astype(int).T
        # Rays go through pixel centres; float32 directions are good to a thousandth of a pixel.
        assert np.abs(positions % 1.0 - 0.5).max() < 5e-3 and (depths > 0).all()
        colours = view.images[frame, lines, columns] / 255.0
        masks = view.masks[frame, lines, columns] if has_masks else np.ones(len(rows))
        assert np.allclose(batch.rgbs[rows], colours * masks[:, None], atol=1e-6)
        world_units = view.depths[frame, lines, columns] * capture.depth_scale
        assert np.allclose(batch.depths[rows], world_units / ball_space().scale * masks, rtol=1e-5)
        if has_masks:
            assert np.array_equal(batch.masks[rows], masks)
    assert seen == batch.rays.n_rays


def test_directions_have_unit_length():
    directions = draw(noisy_capture()).rays.directions
    assert torch.allclose(directions.norm(dim=1), torch.ones(len(directions)), atol=1e-6)


@pytest.mark.parametrize("n_rays", [1, 300, 305])
def test_every_frame_and_view_has_the_same_number_of_pixels(n_rays: int):
    batch = draw(noisy_capture(), n_rays)
    each = max(1, n_rays // (len(FRAMES) * N_VIEWS))
    assert batch.rays.slices.frames == FRAMES
    assert batch.rays.slices.offsets == (0, N_VIEWS * each, 2 * N_VIEWS * each)
    assert batch.rgbs.shape == (2 * N_VIEWS * each, 3)


@pytest.mark.parametrize("foreground", [0.0, 0.3, 0.7])
def test_the_part_on_the_subject_is_the_one_asked_for(foreground: float):
    masks = draw(noisy_capture(), 600, foreground).masks
    assert float(masks.mean()) == pytest.approx(foreground, abs=0.01)


@pytest.mark.parametrize("foreground", [0.0, 0.3, 0.6])
def test_no_pixel_in_doubt_is_drawn(foreground: float):
    capture = noisy_capture()
    # Every other column off the mask.
    striped = np.arange(capture.views[0].masks.shape[2]) % 2 == 0
    views = [replace(view, doubts=~view.masks & striped) for view in capture.views]
    capture = replace(capture, views=tuple(views))
    batch = draw(capture, 600, foreground)
    n_outside = 0
    for view, frame, rows, positions, _ in pixels_hit(capture, batch):
        columns, lines = np.floor(positions).astype(int).T
        assert not view.doubts[frame, lines, columns].any()
        n_outside += (~view.masks[frame, lines, columns]).sum()
        assert np.array_equal(batch.masks[rows], view.masks[frame, lines, columns])
    assert n_outside == pytest.approx((1.0 - foreground) * batch.rays.n_rays, abs=20)


@pytest.mark.parametrize("has_masks", [False, True])
def test_what_no_image_shows_is_not_drawn(has_masks: bool):
    capture = noisy_capture(has_masks)
    unseen = np.zeros(capture.views[0].images.shape[:3], bool)
    unseen[:, :, ::3] = True
    views = [
        replace(view, unseen=unseen, masks=view.masks & ~unseen if has_masks else None)
        for view in capture.views
    ]
    capture = replace(capture, views=tuple(views))
    batch = draw(capture, 600, 0.4)
    assert batch.weights is not None and batch.weights.all()
    for view, frame, rows, positions, _ in pixels_hit(capture, batch):
        columns, lines = np.floor(positions).astype(int).T
        assert len(rows) == 100 and not unseen[frame, lines, columns].any()
        colours = view.images[frame, lines, columns] / 255.0
        if has_masks:
            colours *= view.masks[frame, lines, columns, None]
        assert np.allclose(batch.rgbs[rows], colours, atol=1e-6)


@pytest.mark.parametrize("has_masks", [False, True])
def test_where_nothing_else_is_left_a_pixel_does_not_count(has_masks: bool):
    capture = noisy_capture(has_masks)
    unseen = np.ones(capture.views[0].images.shape[:3], bool)
    unseen[:, 40:44] = False
    masks = np.zeros_like(unseen)
    masks[:, 40:44, 30:60] = True
    bound = {"unseen": unseen, "masks": masks if has_masks else None}
    views = tuple(replace(view, **bound) for view in capture.views)
    capture = replace(capture, views=views)
    batch = draw(capture, 600, 0.4)
    assert batch.weights is not None and 0.05 < float(batch.weights.mean()) < 0.95
    for _, frame, rows, positions, _ in pixels_hit(capture, batch):
        columns, lines = np.floor(positions).astype(int).T
        assert np.array_equal(batch.weights[rows] == 0, unseen[frame, lines, columns])


def test_where_all_is_seen_every_pixel_counts_and_draws_are_what_they_were():
    capture = noisy_capture()
    nothing = np.zeros(capture.views[0].images.shape[:3], bool)
    views = tuple(replace(view, unseen=nothing) for view in capture.views)
    plain, mapped = draw(capture), draw(replace(capture, views=views))
    assert plain.weights is None and mapped.weights is not None and mapped.weights.all()
    assert torch.equal(plain.rgbs, mapped.rgbs) and torch.equal(plain.masks, mapped.masks)
    assert torch.equal(plain.rays.directions, mapped.rays.directions)


@pytest.mark.parametrize("is_cut", [False, True])
@pytest.mark.parametrize("foreground", [0.1, 0.5, 0.9])
def test_the_odds_are_those_of_counted_draws(foreground: float, is_cut: bool):
    capture = noisy_capture()
    if is_cut:
        unseen = np.zeros(capture.views[0].images.shape[:3], bool)
        unseen[:, :, :46] = True
        views = [replace(v, unseen=unseen, masks=v.masks & ~unseen) for v in capture.views]
        capture = replace(capture, views=tuple(views))
    odds = []
    for view in capture.views:
        one = replace(capture, views=(view,))
        for frame, (left, top, width, height) in enumerate(bounding_boxes(view)):
            inside = view.masks[frame].sum()
            box = slice(top, top + height), slice(left, left + width)
            n_unseen = view.unseen[frame][box].sum() if is_cut else 0
            batch = make_source(one).draw((frame,), 4000, foreground, seeded())
            drawn = float(batch.masks.sum())
            around = width * height - inside - n_unseen
            odds.append((drawn / inside) / ((batch.rays.n_rays - drawn) / around))
    expected = np.exp(np.mean(np.log(odds)))
    assert outline_odds(capture.views, foreground) == pytest.approx(expected, rel=0.02)


def test_without_masks_pixels_are_drawn_evenly():
    assert outline_odds(noisy_capture(False).views, 0.7) == 1.0


def test_a_subject_too_small_for_its_part_gives_way_to_the_background():
    capture = noisy_capture()
    masks = np.zeros_like(capture.views[0].masks)
    masks[:, 40, 40] = True
    small = replace(capture, views=tuple(replace(view, masks=masks) for view in capture.views))
    batch = draw(small, 600)
    assert batch.rays.n_rays == 600 and 0 <= float(batch.masks.mean()) < 0.1


def test_a_frame_in_which_the_subject_is_not_seen_is_drawn_all_over():
    capture = noisy_capture()
    masks = np.zeros_like(capture.views[0].masks)
    unseen = replace(capture, views=tuple(replace(view, masks=masks) for view in capture.views))
    batch = draw(unseen)
    assert batch.rays.n_rays == 300 and not batch.masks.any() and not batch.rgbs.any()


def test_pixels_lie_around_the_subject_where_masks_say_where_it_is():
    capture = noisy_capture()
    batch = draw(capture, 600, 0.3)
    for view, frame, _, positions, _ in pixels_hit(capture, batch):
        lines, columns = np.nonzero(view.masks[frame])
        low = np.array([columns.min(), lines.min()]) - 8
        high = np.array([columns.max(), lines.max()]) + 9
        assert (positions > low).all() and (positions < high).all()


def test_draws_are_seeded():
    capture = noisy_capture()
    one, same, other = (draw(capture, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(one.rgbs, same.rgbs)
    assert torch.equal(one.rays.directions, same.rays.directions)
    assert not torch.equal(one.rays.directions, other.rays.directions)


def test_what_a_capture_lacks_or_is_not_asked_for_is_none():
    assert draw(noisy_capture(has_masks=False)).masks is None
    assert draw(noisy_capture(), depth=False).depths is None
    assert draw(ball_capture()).depths is None


def test_every_frame_can_be_drawn():
    capture = noisy_capture()
    source = make_source(capture)
    batch = source.draw(tuple(range(N_FRAMES)), 90, 0.5, seeded())
    assert batch.rays.slices.offsets == (0, 30, 60, 90)


def test_views_of_different_sizes_are_drawn_alike():
    capture = noisy_capture()
    small = capture.views[0]
    cut = slice(None), slice(0, 50), slice(0, 60)
    assert small.masks is not None and small.depths is not None
    small = replace(
        small, images=small.images[cut], masks=small.masks[cut], depths=small.depths[cut]
    )
    mixed = replace(capture, views=(small, *capture.views[1:]))
    batch = draw(mixed)
    for view, frame, rows, positions, _ in pixels_hit(mixed, batch):
        columns, lines = np.floor(positions).astype(int).T
        assert view.masks is not None and len(rows) == 50
        colours = view.images[frame, lines, columns] / 255.0
        masks = view.masks[frame, lines, columns]
        assert np.allclose(batch.rgbs[rows], colours * masks[:, None], atol=1e-6)
