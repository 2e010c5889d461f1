from __future__ import annotations

import cv2
import numpy as np
import pytest

from resfields_ngp.cameras import Cameras, decompose_projection, look_at
from resfields_ngp.model_space import ModelSpace

WIDTH, HEIGHT = 160, 120


def some_cameras(n_frames: int = 4) -> Cameras:
    """Returns a moving, zooming camera that looks at the origin."""
    random = np.random.default_rng(0)
    eyes = random.normal(size=(n_frames, 3))
    eyes *= 5 / np.linalg.norm(eyes, axis=1, keepdims=True)
    poses = np.stack([look_at(eye, np.zeros(3), np.array([0, 1.0, 0])) for eye in eyes])
    intrinsics = np.zeros((n_frames, 3, 3))
    intrinsics[:, 0, 0] = 200 + 20 * np.arange(n_frames)
    intrinsics[:, 1, 1] = 190 + 20 * np.arange(n_frames)
    intrinsics[:, :2, 2] = (77.0, 64.0)
    intrinsics[:, 2, 2] = 1
    return Cameras(intrinsics, poses, WIDTH, HEIGHT)


def some_points(n_points: int = 60) -> np.ndarray:
    return np.random.default_rng(1).uniform(-1, 1, (n_points, 3))


@pytest.mark.parametrize("scale", [1.0, -0.3, 1e-4, 250.0])
def test_decomposing_a_projection_gives_the_camera_back_at_any_scale(scale):
    cameras = some_cameras()
    for frame in range(cameras.n_frames):
        intrinsics, pose = decompose_projection(scale * cameras.projection(frame))
        assert np.allclose(intrinsics, cameras.intrinsics[frame], atol=1e-6)
        assert np.allclose(pose, cameras.world_from_camera[frame], atol=1e-8)


@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_a_projection_of_a_world_in_any_unit_is_decomposed(unit):
    cameras = some_cameras()
    far = unit * np.array([4e5, 5.2e6, 300.0])
    shrink = np.diag([1 / unit] * 3 + [1.0])
    shrink[:3, 3] = -far / unit
    for frame in range(cameras.n_frames):
        intrinsics, pose = decompose_projection(cameras.projection(frame) @ shrink)
        assert np.allclose(intrinsics, cameras.intrinsics[frame], rtol=1e-6)
        expected = unit * cameras.world_from_camera[frame, :3, 3]
        assert np.allclose(pose[:3, 3] - far, expected, rtol=0, atol=1e-6 * unit)


def test_points_project_where_opencv_puts_them():
    cameras, points = some_cameras(), some_points()
    for frame in range(cameras.n_frames):
        camera_from_world = np.linalg.inv(cameras.world_from_camera[frame])
        expected, _ = cv2.projectPoints(
            points,
            cv2.Rodrigues(camera_from_world[:3, :3])[0],
            camera_from_world[:3, 3],
            cameras.intrinsics[frame],
            None,
        )
        pixels, depths = cameras.project(points, frame)
        assert np.allclose(pixels, expected[:, 0], atol=1e-6)
        assert (depths > 0).all()


def test_rays_through_projected_points_pass_through_them_in_model_space():
    cameras, points = some_cameras(), some_points()
    rotation = cv2.Rodrigues(np.array([0.3, -0.5, 0.2]))[0]
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = 2.5 * rotation, (0.5, -1.0, 2.0)
    offsets = np.random.default_rng(2).normal(size=(cameras.n_frames, 3))
    space = ModelSpace(matrix, offsets)
    for frame in range(cameras.n_frames):
        pixels, _ = cameras.project(points, frame)
        origins, directions = cameras.rays(pixels, frame, space)
        offset = space.to_model(points, frame) - origins
        along = (offset * directions).sum(1, keepdims=True)
        assert (along > 0).all()
        # Rays are float32; the points are about two model units away.
        assert np.abs(offset - along * directions).max() < 1e-5
        assert np.allclose(np.linalg.norm(directions, axis=1), 1, atol=1e-6)


def test_the_optical_axis_passes_through_the_principal_point():
    eye, target = np.array([3.0, 1.0, -2.0]), np.array([0.2, 0.4, 0.1])
    pose = look_at(eye, target, np.array([0, 1.0, 0]))
    intrinsics = np.array([[100, 0, 31.0], [0, 100, 17.0], [0, 0, 1]])
    cameras = Cameras(intrinsics[None], pose[None], 64, 48)
    pixels, depths = cameras.project(target[None], 0)
    assert np.allclose(pixels, [[31, 17]])
    assert depths[0] == pytest.approx(np.linalg.norm(target - eye))


def test_look_at_keeps_up_above_and_right_on_the_right():
    pose = look_at(np.array([0, 0, 5.0]), np.zeros(3), np.array([0, 1.0, 0]))
    cameras = Cameras(np.diag([100.0, 100, 1])[None], pose[None], 64, 48)
    above, right = cameras.project(np.array([[0, 1.0, 0], [1.0, 0, 0]]), 0)[0]
    assert above[1] < 0
    assert right[0] > 0
    assert np.linalg.det(pose[:3, :3]) == pytest.approx(1)


def test_halved_cameras_see_points_at_half_the_pixel():
    cameras, points = some_cameras(), some_points()
    assert (cameras.resized(0.5).width, cameras.resized(0.5).height) == (80, 60)
    halved = cameras.resized(0.5).project(points, 1)[0]
    assert np.allclose(2 * halved, cameras.project(points, 1)[0])


def test_a_subset_keeps_the_frames_asked_for():
    cameras = some_cameras()
    subset = cameras.frame_subset([3, 1])
    assert np.array_equal(subset.projection(0), cameras.projection(3))
    assert np.array_equal(subset.projection(1), cameras.projection(1))


def test_broken_projections_are_refused_by_name():
    projection = some_cameras().projection(0)
    with pytest.raises(ValueError, match="NaN"):
        decompose_projection(projection * np.array([[np.nan], [1], [1]]))
    with pytest.raises(ValueError, match="singular"):
        decompose_projection(projection * np.array([[0], [1], [1]]))


def test_a_nan_pose_is_refused():
    cameras = some_cameras()
    poses = cameras.world_from_camera.copy()
    poses[1, 0, 3] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        Cameras(cameras.intrinsics, poses, WIDTH, HEIGHT)
