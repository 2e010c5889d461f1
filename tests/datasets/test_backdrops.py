"""Masks from a plain backdrop: exact on pictures without noise, none where it is not plain."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sphere_capture import sphere_capture
from tiny_capture import write_image, write_tiny

from resfields_ngp.datasets import Capture, CaptureConfig, load_capture
from resfields_ngp.datasets.backdrops import keyed_masks, with_keyed_masks

CENTRES = np.array([[[0.0, 0.1, 0.0], [0.5, -0.5, 0.2]], [[0.2, 0.0, -0.1], [0.5, 0.6, 0.0]]])


def spheres(backdrop: tuple[int, int, int] = (0, 0, 0), noise: int = 0) -> tuple[Capture, list]:
    """Returns grey spheres without masks before a backdrop, and their exact masks."""
    capture = sphere_capture(CENTRES, (0.4, 0.15))
    random, views, masks = np.random.default_rng(1), [], []
    for view in capture.views:
        off = random.integers(-noise, noise + 1, view.images.shape)
        images = np.where(view.masks[..., None], 128, np.array(backdrop)) + off
        views.append(replace(view, images=images.clip(0, 255).astype(np.uint8), masks=None))
        masks.append(view.masks)
    return replace(capture, views=tuple(views)), masks


@pytest.mark.parametrize("backdrop", [(0, 0, 0), (255, 255, 255), (20, 180, 40)])
@pytest.mark.parametrize("noise", [0, 5])
def test_masks_are_exact_before_a_plain_backdrop_however_noisy(backdrop, noise: int):
    capture, masks = spheres(backdrop, noise)
    found = with_keyed_masks(capture)
    assert all(np.array_equal(v.masks, m) for v, m in zip(found.views, masks, strict=True))
    assert "plain backdrop" in found.warnings[0] and len(found.warnings) == 1


@pytest.mark.parametrize("backdrop", [(0, 0, 0), (255, 255, 255)])
def test_what_a_lens_did_not_see_is_neither_backdrop_nor_subject(backdrop):
    bent = sphere_capture(CENTRES, (0.4, 0.15), k1=0.8)
    for view in bent.views:
        images = np.where(view.masks[..., None], 128, np.array(backdrop)).astype(np.uint8)
        images[view.unseen] = 0
        np.testing.assert_array_equal(keyed_masks(images, view.unseen), view.masks)


def test_a_frames_mask_is_the_same_whichever_frames_are_loaded():
    """Training sees all of them, meshes are fitted to one at a time."""
    capture, _ = spheres((20, 180, 40), 1)
    images = capture.views[0].images.copy()
    noise = np.random.default_rng(2).integers(-5, 6, images[1].shape)
    images[1] = (images[1] + noise).clip(0, 255)
    together = keyed_masks(images)
    alone = [keyed_masks(images[frame : frame + 1]) for frame in range(len(images))]
    np.testing.assert_array_equal(together, np.concatenate(alone))


def test_every_camera_may_have_a_backdrop_of_its_own_and_the_test_camera_too():
    (black, masks), (white, _) = spheres(), spheres((255, 255, 255))
    mixed = replace(black, views=(*black.views[:2], *white.views[2:]), test_view=white.views[0])
    found = with_keyed_masks(mixed)
    assert all(np.array_equal(v.masks, m) for v, m in zip(found.views, masks, strict=True))
    assert np.array_equal(found.test_view.masks, masks[0])


def test_a_held_out_camera_without_a_plain_backdrop_keeps_its_picture():
    capture, _ = spheres()
    noisy = np.random.default_rng(2).integers(0, 256, capture.views[0].images.shape, np.uint8)
    found = with_keyed_masks(
        replace(capture, test_view=replace(capture.views[0], name="cam_test", images=noisy))
    )
    assert found.test_view.masks is None
    assert "cam_test: held out without masks" in found.warnings[1]


def test_a_backdrop_that_changes_across_the_picture_is_not_plain():
    capture, _ = spheres()
    ramp = np.linspace(0, 80, capture.views[0].images.shape[2])[:, None]
    images = np.maximum(capture.views[0].images, ramp).astype(np.uint8)
    assert keyed_masks(images) is None
    shaded = replace(capture.views[0], images=images)
    bare = replace(capture, views=(shaded, *capture.views[1:]))
    assert with_keyed_masks(bare) is bare


def test_a_frame_that_shows_nothing_anywhere_leaves_the_capture_alone():
    capture, _ = spheres()
    is_seen = np.array([1, 0], np.uint8)[:, None, None, None]
    views = [replace(view, images=view.images * is_seen) for view in capture.views]
    bare = replace(capture, views=tuple(views))
    assert with_keyed_masks(bare) is bare


def test_masks_that_are_there_stay():
    capture = sphere_capture(CENTRES, (0.4, 0.15))
    assert with_keyed_masks(capture) is capture


def test_a_pixel_belongs_to_the_subject_from_half_its_area_on():
    fine = np.stack(np.meshgrid(*[(np.arange(640) + 0.5) / 10] * 2), axis=-1)
    covered = np.linalg.norm(fine - [30.3, 33.8], axis=2) < 20.0
    share = covered.reshape(64, 10, 64, 10).mean(axis=(1, 3))
    image = (share[..., None] * [180.0, 120.0, 60.0]).astype(np.uint8)
    found = keyed_masks(image[None])[0]
    assert (found & (share < 0.2)).sum() == 0 and (~found & (share > 0.6)).sum() == 0
    assert found.sum() == pytest.approx(np.pi * 20.0**2, rel=0.02)


def test_specks_are_noise_and_holes_are_holes():
    image = np.zeros((200, 200, 3), np.uint8)
    image[50:150, 50:150] = 200
    image[90:100, 90:100] = 0  # between an arm and the body
    expected = image[..., 0] > 0
    image[10, 10] = image[120, 120] = 90
    image[70, 70] = 0
    assert np.array_equal(keyed_masks(image[None])[0], expected)


def test_loading_keys_a_capture_without_masks_unless_told_not_to(tmp_path: Path):
    root = tmp_path / "capture"
    write_tiny(root)
    for folder in root.glob("cam_*"):
        shutil.rmtree(folder / "mask")
        for path in (folder / "rgb").glob("*.png"):
            image = np.full((18, 24, 3), 255, np.uint8)
            image[4:12, 6:15] = (10, 90, 30)
            write_image(path, image)
    capture = load_capture(CaptureConfig(str(root)))
    assert capture.has_masks and capture.test_view.masks is not None
    assert all(v.masks[:, 4:12, 6:15].all() and v.masks.sum() == 288 for v in capture.views)
    assert not load_capture(CaptureConfig(str(root), use_masks=False)).has_masks
