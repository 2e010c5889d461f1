"""Laws of LLFF's poses_bounds.npy: known cameras written as rows are the same cameras again."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from colmap_model import write_colmap
from footage_scene import CENTRE, HEIGHT, N_CAMERAS, N_FRAMES, WIDTH, prepare, rig, shot, write

from resfields_ngp.cameras import Cameras
from resfields_ngp.datasets import CaptureConfig, CaptureError, load_capture
from resfields_ngp.prepare.calibrations.llff import read_llff

NAMES = [f"cam{index:02d}" for index in range(N_CAMERAS)]
SCALE = 4
"""The calibration is of images this many times as wide as the scene's."""


def square_rig() -> list[Cameras]:
    """Returns the scene's cameras with the centres and focal lengths that rows can say."""
    cameras = []
    for index, each in enumerate(rig()):
        focal = 50.0 + index
        lens = np.array([[[focal, 0, WIDTH / 2], [0, focal, HEIGHT / 2], [0, 0, 1]]])
        cameras.append(Cameras(lens, each.world_from_camera, WIDTH, HEIGHT))
    return cameras


def row_of(cameras: Cameras) -> np.ndarray:
    """Returns the 17 numbers of a camera, made of its axes one by one."""
    right, down, forward, place = cameras.world_from_camera[0, :3].T
    focal = SCALE * cameras.intrinsics[0, 0, 0]
    sizes = [SCALE * cameras.height, SCALE * cameras.width, focal]
    return np.append(np.stack([down, right, -forward, place, sizes], axis=1).ravel(), [0.5, 9.0])


def write_llff(root: Path, as_videos: bool) -> Path:
    for index, name in enumerate(NAMES):
        if as_videos:
            root.mkdir(parents=True, exist_ok=True)
            code = cv2.VideoWriter.fourcc(*"mp4v")
            video = cv2.VideoWriter(str(root / f"{name}.mp4"), code, 30, (WIDTH, HEIGHT))
        for frame in range(N_FRAMES):
            image, mask = shot(index, frame)
            write(root / "masks" / name / f"{frame:06d}.png", 255 * mask.astype("u1"))
            if as_videos:
                video.write(np.ascontiguousarray(image[..., ::-1]))
            else:
                write(root / "images" / name / f"{frame:06d}.png", image)
        if as_videos:
            video.release()
    np.save(root / "poses_bounds.npy", np.stack([row_of(each) for each in square_rig()]))
    return root


def test_a_row_in_closed_form(tmp_path: Path):
    """A camera at (1, 2, 3) that looks along +x, its down being -z: right is -y."""
    write(tmp_path / "images" / "a" / "0.png", np.zeros((30, 40, 3), np.uint8))
    matrix = [[0, 0, -1, 1, 30], [0, -1, 0, 2, 40], [-1, 0, 0, 3, 60]]
    np.save(tmp_path / "poses_bounds.npy", [[*np.ravel(matrix), 0.1, 9]])
    view = read_llff(tmp_path, "", "").views[0]
    cameras = Cameras(view.intrinsics, view.poses, view.width, view.height)
    points = np.array([[3.0, 2, 3], [3, 1, 3], [3, 2, 2]])  # ahead, to the right, below
    pixels, depths = cameras.project(points, 0)
    np.testing.assert_allclose(pixels, [[20, 15], [50, 15], [20, 45]], atol=1e-9)
    np.testing.assert_allclose(depths, 2)


@pytest.mark.parametrize("as_videos", [False, True])
def test_rows_of_known_cameras_are_these_cameras(as_videos: bool, tmp_path: Path):
    root, out = write_llff(tmp_path / "footage", as_videos), tmp_path / "capture"
    assert prepare(root, out, "--test-camera", "cam00") == 0
    capture = load_capture(CaptureConfig(path=str(out)))
    assert [view.name for view in capture.views] == NAMES[1:] and capture.test_view is not None
    views = [capture.test_view, *capture.views]
    for index, (view, cameras) in enumerate(zip(views, square_rig(), strict=True)):
        np.testing.assert_allclose(view.cameras.intrinsics[1], cameras.intrinsics[0], atol=1e-3)
        pose = view.cameras.world_from_camera[1]
        np.testing.assert_allclose(pose, cameras.world_from_camera[0], atol=1e-4)
        for frame in range(N_FRAMES):
            image, mask = shot(index, frame)
            difference = np.abs(view.images[frame] - image.astype(float)).mean()
            assert difference < 12 if as_videos else difference == 0  # the codec's loss
            assert view.masks is not None
            np.testing.assert_array_equal(view.masks[frame], mask)
    np.testing.assert_allclose(capture.world_from_normalised[:3, 3], CENTRE, atol=0.15)


def test_rows_are_in_the_order_of_characters(tmp_path: Path):
    for name in ("cam2", "cam10"):
        write(tmp_path / "shots" / name / "0.png", np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    np.save(tmp_path / "poses_bounds.npy", np.stack([row_of(each) for each in square_rig()[:2]]))
    views = read_llff(tmp_path, "shots", "").views
    assert [view.name for view in views] == ["cam10", "cam2"]
    np.testing.assert_allclose(views[0].poses[0], square_rig()[0].world_from_camera[0])


def test_two_calibrations_that_may_differ_are_not_chosen_between(tmp_path: Path, capsys):
    root, out = write_colmap(tmp_path / "footage"), tmp_path / "capture"
    np.save(root / "poses_bounds.npy", np.stack([row_of(each) for each in square_rig()]))
    assert prepare(root, out) == 3
    assert "--footage.kind colmap" in capsys.readouterr().err
    for kind in ("colmap", "llff"):
        assert prepare(root, out, "--footage.kind", kind, "--overwrite") == 0
        assert f"footage: {kind}, 4 cameras" in capsys.readouterr().out
    (root / "intri.yml").write_text("lorem")  # a capture's own calibration comes first
    assert prepare(root, out, "--overwrite") == 3
    assert "intri.yml" in capsys.readouterr().err


DAMAGES = {
    "removed": r"4 rows for 3 cameras in .* \(cam00, cam01, cam03\); expected one each.*cam13",
    "footage": r"4 rows for 0 cameras in .*/images \(none\)",
    "file": "not a readable npy file",
    "pickle": "not a readable npy file",
    "columns": r"an array of \(4, 15\); expected one row of 17",
    "number": "expected one row of 17 finite numbers",
    "size": "row 1: height, width and focal length are 0, 160 and 204; expected pixels above 0",
    "axes": "row 2: not a rotation; expected LLFF's axes",
    "mirror": "row 2: not a rotation; expected LLFF's axes",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_bad_rows_are_named(damage: str, tmp_path: Path):
    root = write_llff(tmp_path, as_videos=damage == "removed")
    path = root / "poses_bounds.npy"
    rows = np.load(path)
    if damage == "removed":
        (root / "cam02.mp4").unlink()
    elif damage == "footage":
        (root / "images").rename(root / "elsewhere")
    elif damage == "file":
        path.write_bytes(path.read_bytes()[:-9])
    elif damage == "pickle":
        np.save(path, np.array([{}]), allow_pickle=True)
    elif damage == "columns":
        np.save(path, rows[:, :15])
    else:
        matrices = rows[:, :15].reshape(-1, 3, 5)  # a view of the rows
        if damage == "number":
            rows[1, 3] = np.nan
        elif damage == "size":
            matrices[1, 0, 4] = 0
        elif damage == "axes":
            matrices[2, :, 0] *= 1.1
        elif damage == "mirror":
            matrices[2, :, 0] *= -1
        np.save(path, rows)
    with pytest.raises(CaptureError, match=DAMAGES[damage]):
        read_llff(root, "", "")
