from __future__ import annotations

import cv2
import numpy as np
import pytest

from resfields_ngp.datasets import CaptureError
from resfields_ngp.datasets.lenses import read_lens


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
