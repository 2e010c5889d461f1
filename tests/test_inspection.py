"""What inspection says of a capture, and the picture that shows it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from sphere_capture import sphere_capture, with_masks, with_poses

from resfields_ngp.datasets.base import Capture, CaptureError
from resfields_ngp.hull import HullConfig, build_hull
from resfields_ngp.inspection import inspect_capture, mask_coverage
from resfields_ngp.reprojection import hull_mesh, write_reprojection_picture

CONFIG = HullConfig(resolution=32)
CENTRE = np.array([0.15, -0.1, 0.2])


@pytest.fixture(scope="module")
def capture() -> Capture:
    return sphere_capture(CENTRE + np.arange(3)[:, None, None] * np.array([0.1, 0.0, 0.0]))


def test_consistent_masks_are_covered(capture: Capture):
    coverage = mask_coverage(capture, build_hull(capture, CONFIG))
    assert set(coverage) == {view.name for view in capture.views}
    assert min(values.min() for values in coverage.values()) > 0.99


def test_a_ghost_in_one_mask_costs_its_share_of_that_mask(capture: Capture):
    def haunt(masks: np.ndarray) -> np.ndarray:
        n_true = int(masks[1].sum())
        rows = n_true // 24 + 1
        masks[1, :rows, :24] = True  # as many pixels again, in a corner
        return masks

    haunted = with_masks(capture, haunt, (2,))
    coverage = mask_coverage(haunted, build_hull(haunted, CONFIG))
    assert coverage["cam_2"][1] == pytest.approx(0.5, abs=0.05)
    assert coverage["cam_2"][0] > 0.99 and coverage["cam_0"].min() > 0.99


def test_a_camera_slightly_off_is_named_in_a_warning(capture: Capture):
    def shift(pose: np.ndarray) -> np.ndarray:
        moved = pose.copy()
        moved[:3, 3] += 0.5 * pose[:3, 0]
        return moved

    report = inspect_capture(with_poses(capture, shift, (1,)), CONFIG)
    assert any("cam_1: only" in warning for warning in report.warnings)
    assert inspect_capture(capture, CONFIG).warnings == ()


def test_sizes_are_those_of_the_arrays(capture: Capture):
    test_view = replace(capture.views[0], name="cam_test")
    tested = replace(capture, test_view=test_view, warnings=("one image was repaired",))
    report = inspect_capture(tested, CONFIG, n_parameters=1000)
    expected = 5 * 3 * 96 * 96 * (3 + 1)
    assert report.image_bytes == expected and report.hull_bytes == 3 * 32**3 * 4
    assert report.model_bytes == 16000
    assert report.views[-1].name == report.test_camera == "cam_test"
    assert report.views[-1].coverage is None and report.warnings[0] == "one image was repaired"
    assert report.travel == pytest.approx(0.2 * 2.5, rel=0.1)
    text = "\n".join(report.lines())
    assert "3 frames (5 to 7)" in text and "cam_3: 3 images, 96 x 96" in text
    assert "warning: one image was repaired" in text


def with_depths(capture: Capture, per_step: float, depth_scale: float) -> Capture:
    """Returns the capture with depths of the spheres' middles, stored in steps of a length."""
    views, matrix = [], capture.world_from_normalised
    for view in capture.views:
        depths = np.zeros(view.images.shape[:3], np.uint16)
        for frame in range(capture.n_frames):
            middle = matrix[:3, :3] @ (CENTRE + [0.1 * frame, 0.0, 0.0]) + matrix[:3, 3]
            eye = view.cameras.world_from_camera[frame][:3, 3]
            depths[frame] = round(np.linalg.norm(middle - eye) / per_step)
        depths[:, :40] = 0  # unknown
        depths[:, :, :2] = 60000  # off the subject
        views.append(replace(view, depths=depths))
    return replace(capture, views=tuple(views), depth_scale=depth_scale)


@pytest.mark.parametrize("step", [0.001, 1.0])
def test_depths_of_another_unit_are_warned_of_with_the_scale_that_fits(capture: Capture, step):
    assert inspect_capture(with_depths(capture, step, step), CONFIG).warnings == ()
    wrong = 0.001 if step == 1.0 else 1.0
    (warning,) = inspect_capture(with_depths(capture, step, wrong), CONFIG).warnings
    assert "cam_0: its depth images put the subject" in warning
    assert "as those of 3 other cameras" in warning
    assert f"check capture.depth_scale (it is {wrong:g}; {step:g} would fit)" in warning


def test_captures_without_masks_are_inspected(capture: Capture):
    bare = replace(capture, views=tuple(replace(view, masks=None) for view in capture.views))
    report = inspect_capture(bare, CONFIG)
    assert report.views[0].coverage is None and report.views[0].foreground is None
    assert any("no masks" in warning for warning in report.warnings)
    assert "foreground" not in "\n".join(report.lines())


def test_an_empty_hull_is_refused_with_its_reason(capture: Capture):
    with pytest.raises(CaptureError, match="poses look inverted"):
        inspect_capture(with_poses(capture, np.linalg.inv), CONFIG)


def test_mesh_of_the_hull_is_in_world_units(capture: Capture):
    hull = build_hull(capture, CONFIG)
    mesh = hull_mesh(hull, 1)
    matrix = capture.world_from_normalised
    centre = matrix[:3, :3] @ (CENTRE + [0.1, 0.0, 0.0]) + matrix[:3, 3]
    radii = np.linalg.norm(mesh.vertices - centre, axis=1)
    # Four cones circumscribe the sphere: nowhere much inside of it, corners stick out.
    assert radii.min() > 0.9 * 0.4 * 2.5 and np.median(radii) < 1.4 * 0.4 * 2.5


@pytest.mark.parametrize("has_masks", [True, False])
def test_picture_shows_hull_and_box_on_the_images(
    capture: Capture, tmp_path: Path, has_masks: bool
):
    if not has_masks:
        views = tuple(replace(view, masks=None) for view in capture.views)
        capture = replace(capture, views=views)
    path = tmp_path / "reprojection.png"
    write_reprojection_picture(capture, build_hull(capture, CONFIG), path, n_frames=2)
    picture = cv2.imread(str(path))
    assert picture is not None and picture.shape == (2 * 384, 4 * 384, 3)
    reddish = (picture[..., 2] == 255) & (picture[..., 1] == 60)
    assert (reddish.sum() > 500) == has_masks


def test_picture_that_cannot_be_written_names_the_file(capture: Capture, tmp_path: Path):
    (tmp_path / "taken").write_text("a file, not a folder")
    with pytest.raises(OSError, match="reprojection.png: could not be written"):
        path = tmp_path / "taken" / "reprojection.png"
        write_reprojection_picture(capture, build_hull(capture, CONFIG), path, n_frames=1)
