"""Laws of rigs: rings hold the figure, files round-trip, poses fit the frames."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from resfields_ngp.datasets import CaptureError
from resfields_ngp.prepare.rigs import RigConfig, read_rig, ring, to_json, unit_sphere

SPHERE = unit_sphere(np.array([[[-1, 0, -1], [1, 2, 1.0]], [[0, 0, 0], [2, 1, 1]]]))


@pytest.mark.parametrize("up", ["y", "z"])
@pytest.mark.parametrize("views", [4, 8, 10])
def test_every_camera_of_a_ring_sees_the_whole_sphere(views: int, up: str):
    rig = ring(RigConfig(views=views, size=100), 5, SPHERE, up)
    assert list(rig.cameras) == [*(f"cam_train_{i}" for i in range(views)), "cam_test"]
    random = np.random.default_rng(0)
    points = random.normal(size=(500, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    world = points * SPHERE[0, 0] + SPHERE[:3, 3]
    for cameras in rig.cameras.values():
        for frame in range(5):
            pixels, depths = cameras.project(world, frame)
            assert (depths > 0).all() and pixels.min() > 0 and pixels.max() < 100
            # Upright: what is higher in the world is higher in the picture.
            axis = "xyz".index(up)
            higher = SPHERE[:3, 3] + np.eye(3)[axis] * 0.1
            assert cameras.project(higher[None], frame)[0][0, 1] < 50


def test_the_test_camera_goes_round_once_and_never_stands():
    rig = ring(RigConfig(), 12, SPHERE)
    eyes = rig.cameras["cam_test"].world_from_camera[:, :3, 3] - SPHERE[:3, 3]
    angles = np.degrees(np.arctan2(eyes[:, 0], eyes[:, 2]))
    np.testing.assert_allclose(np.diff(np.unwrap(angles, period=360)), 30, atol=1e-6)
    still = ring(RigConfig(test_sweep=0), 12, SPHERE).cameras["cam_test"]
    assert np.ptp(still.world_from_camera, axis=0).max() == 0


def test_training_cameras_are_evenly_spread_and_alternate():
    rig = ring(RigConfig(views=8), 1, SPHERE)
    eyes = [rig.cameras[f"cam_train_{i}"].world_from_camera[0][:3, 3] for i in range(8)]
    away = np.array(eyes) - SPHERE[:3, 3]
    azimuths = np.degrees(np.unwrap(np.arctan2(away[:, 0], away[:, 2])))
    np.testing.assert_allclose(np.diff(azimuths), 45, atol=1e-6)
    elevations = np.degrees(np.arcsin(away[:, 1] / np.linalg.norm(away, axis=1)))
    np.testing.assert_allclose(elevations, [8, 20] * 4, atol=1e-6)


def test_a_rig_file_round_trips_exactly(tmp_path: Path):
    rig = ring(RigConfig(views=4), 3, SPHERE)
    path = tmp_path / "rig.json"
    path.write_bytes(to_json(rig))
    again = read_rig(path, [0, 1, 2], 3, np.eye(4))
    np.testing.assert_array_equal(again.world_from_normalised, rig.world_from_normalised)
    for name, cameras in rig.cameras.items():
        np.testing.assert_array_equal(again.cameras[name].intrinsics, cameras.intrinsics)
        poses = again.cameras[name].world_from_camera
        np.testing.assert_array_equal(poses, cameras.world_from_camera)


def test_poses_follow_the_chosen_frames(tmp_path: Path):
    rig = ring(RigConfig(views=1), 6, SPHERE)
    path = tmp_path / "rig.json"
    path.write_bytes(to_json(rig))
    poses = rig.cameras["cam_test"].world_from_camera
    of_all = read_rig(path, [1, 3], 6, SPHERE).cameras["cam_test"]
    np.testing.assert_array_equal(of_all.world_from_camera, poses[[1, 3]])
    of_chosen = read_rig(path, list(range(0, 12, 2)), 12, SPHERE).cameras["cam_test"]
    np.testing.assert_array_equal(of_chosen.world_from_camera, poses)
    with pytest.raises(CaptureError, match="cam_test: 6 poses for 2 frames of 9; expected 1, 2 or"):
        read_rig(path, [1, 3], 9, SPHERE)


@pytest.mark.parametrize(
    "damage", ["no json", "no cameras", "no rotation", "missing", "NaN", "empty folder"]
)
def test_a_damaged_rig_is_one_line(damage: str, tmp_path: Path):
    path = tmp_path / "rig.json"
    table = json.loads(to_json(ring(RigConfig(views=1), 1, SPHERE)))
    if damage == "no cameras":
        del table["cameras"]
    if damage == "no rotation":
        table["cameras"]["cam_test"]["world_from_camera"][0][0] = 7.0
    if damage == "NaN":
        table["cameras"]["cam_test"]["intrinsics"][0][0] = float("nan")
    path.write_text("{" if damage == "no json" else json.dumps(table))
    if damage == "missing":
        path = tmp_path / "gone.json"
    if damage == "empty folder":
        path = tmp_path
    with pytest.raises(CaptureError) as error:
        read_rig(path, [0], 1, SPHERE)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("wrong", [{"views": 0}, {"size": 0}, {"fov": 170.0}, {"high": 90.0}])
def test_impossible_rings_are_refused(wrong: dict):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RigConfig(**wrong)
