from __future__ import annotations

import cv2
import numpy as np
import pytest

from resfields_ngp.datasets import CaptureError
from resfields_ngp.datasets.lenses import Lens, read_lens


@pytest.mark.parametrize("fisheye", [False, True])
def test_distortion_is_taken_out(fisheye):
    """A point drawn where the distorted lens puts it is found where the pinhole puts it."""
    fields = {"fl_x": 150.0, "cx": 101.0, "cy": 77.0, "k1": -0.3, "k2": 0.05}
    fields |= {"camera_model": "OPENCV_FISHEYE"} if fisheye else {"p1": 0.004, "p2": -0.003}
    lens = read_lens(fields, 200, 150, "here")
    point = np.array([[[0.35, -0.25, 1.0]]])
    coefficients = np.array(lens.distortion)
    project = cv2.fisheye.projectPoints if fisheye else cv2.projectPoints
    zero = np.zeros(3)
    distorted = project(point, zero, zero, lens.intrinsics, coefficients)[0].ravel()
    rows, columns = np.mgrid[:150, :200] + 0.5
    spot = np.exp(-((columns - distorted[0]) ** 2 + (rows - distorted[1]) ** 2) / 4.5)
    flat = lens.undistort((255 * spot).astype(np.uint8)).astype(float)
    found = np.array([(flat * columns).sum(), (flat * rows).sum()]) / flat.sum()
    expected = (lens.intrinsics @ point.ravel())[:2]
    assert np.linalg.norm(expected - distorted) > 3
    # The spot is stretched a little unevenly.
    assert np.linalg.norm(found - expected) < 0.1


def test_without_distortion_images_are_untouched():
    lens = read_lens({"camera_angle_x": 0.8, "k1": 0.0}, 20, 10, "here")
    image = np.random.default_rng(0).integers(0, 256, (10, 20, 3), dtype=np.uint8)
    assert np.array_equal(lens.undistort(image), image)


def test_intrinsics_follow_an_image_scaled_both_ways_alike():
    fields = {"fl_x": 100.0, "fl_y": 90.0, "cx": 41.0, "cy": 31.0, "w": 80, "h": 60}
    lens = read_lens(fields, 40, 30, "here")
    assert np.allclose(lens.intrinsics, [[50, 0, 20.5], [0, 45, 15.5], [0, 0, 1]])
    with pytest.raises(CaptureError, match="here: the image is 40 x 40, w and h say 80 x 60"):
        read_lens(fields, 40, 40, "here")


WIDTH, HEIGHT = 60, 44
INTRINSICS = np.array([[70.0, 0, 31.0], [0, 72, 20.5], [0, 0, 1]])


@pytest.mark.parametrize(
    ("distortion", "fisheye"),
    [((0.4, 0.1, 0.01, -0.02, 0.0), False), ((0.9, 0.0, 0.0, 0.0), True)],
)
def test_unseen_is_what_the_lens_puts_beside_its_image(distortion, fisheye):
    lens = Lens(INTRINSICS, distortion, fisheye)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    rays = np.stack([columns, rows, np.ones_like(rows)], -1).reshape(-1, 3)
    rays = rays @ np.linalg.inv(INTRINSICS).T
    project = cv2.fisheye.projectPoints if fisheye else cv2.projectPoints
    zero = np.zeros(3)
    x, y = project(rays[None], zero, zero, INTRINSICS, np.array(distortion))[0].reshape(-1, 2).T
    beside = np.maximum(np.maximum(-x, x - WIDTH), np.maximum(-y, y - HEIGHT))
    unseen = lens.unseen(WIDTH, HEIGHT)
    assert unseen is not None and 0.02 < unseen.mean() < 0.5
    clear = np.abs(beside) > 1e-3
    assert np.array_equal(unseen.ravel()[clear], beside[clear] > 0)
    white = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    for smooth in (True, False):  # black there, and no darker anywhere else
        assert np.array_equal(lens.undistort(white, smooth)[..., 0] == 0, unseen)
        assert np.array_equal(lens.undistort(white, smooth)[..., 1] == 255, ~unseen)


def test_a_lens_that_reaches_farther_than_its_pinhole_leaves_nothing_unseen():
    assert Lens(INTRINSICS, (-0.1, 0.0, 0.0, 0.0), False).unseen(WIDTH, HEIGHT) is None
    assert Lens(INTRINSICS, (), False).unseen(WIDTH, HEIGHT) is None


def test_what_a_polynomial_that_folds_back_shows_again_is_unseen():
    """Beyond r = 1 / sqrt(-3 k1) the image is met a second time."""
    wide = np.array([[30.0, 0, WIDTH / 2], [0, 30, HEIGHT / 2], [0, 0, 1]])
    unseen = Lens(wide, (-0.5, 0.0, 0.0, 0.0), False).unseen(WIDTH, HEIGHT)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    radii = np.hypot(columns - WIDTH / 2, rows - HEIGHT / 2) / 30
    fold = np.sqrt(1 / 1.5)
    clear = np.abs(radii - fold) > 2 / 30
    assert unseen is not None and np.array_equal(unseen[clear], radii[clear] > fold)


def test_lenses_that_are_alike_share_one_map():
    one, other = (Lens(INTRINSICS.copy(), (0.4, 0.0, 0.0, 0.0), False) for _ in range(2))
    assert one.unseen(WIDTH, HEIGHT) is other.unseen(WIDTH, HEIGHT)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("w", 0, "here: w is 0; expected 1 or more"),
        ("h", 0.5, "here: h is 0.5; expected 1 or more"),
        ("w", True, "here: w is True; expected a finite number"),
        ("cx", float("inf"), "here: cx is inf; expected a finite number"),
    ],
)
def test_numbers_that_no_lens_has_are_refused(key: str, value: float, expected: str):
    with pytest.raises(CaptureError, match=expected):
        read_lens({"fl_x": 100.0, "w": 40, "h": 30, key: value}, 40, 30, "here")
