"""Laws of COLMAP's calibrations: rays meet the pixels that COLMAP's cameras say."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from colmap_model import LENSES, Taken, pinholes, poses, write_colmap, write_footage, write_model
from footage_scene import HEIGHT, N_CAMERAS, N_FRAMES, WIDTH, prepare, shot, stage, write

from resfields_ngp.datasets import CaptureConfig, CaptureError, load_capture
from resfields_ngp.datasets.lenses import Lens
from resfields_ngp.prepare.calibrations.base import FootageView
from resfields_ngp.prepare.calibrations.colmap import STILL, read_colmap

NAMES = [f"cam{index}" for index in range(N_CAMERAS)]


@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize("lens", LENSES)
def test_a_straightened_pixel_shows_what_colmap_projects_there(
    lens: str, as_text: bool, tmp_path: Path
):
    """World points on the rays through straightened pixels lie in the image where COLMAP says."""
    write_footage(tmp_path)
    taken = [Taken(f"{name}.png", pose, 0) for name, pose in zip(NAMES, poses(), strict=True)]
    model = write_model(tmp_path / "sparse" / "0", [(lens, LENSES[lens])], taken, as_text)
    view = read_colmap(tmp_path, "", "").views[1]
    depths = np.random.default_rng(0).uniform(1, 6, (HEIGHT, WIDTH, 1))
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    rays = np.stack([columns, rows, np.ones_like(rows)], axis=-1)
    rays = depths * (rays @ np.linalg.inv(view.intrinsics[0]).T)
    points = (rays @ view.poses[0, :3, :3].T + view.poses[0, :3, 3]).reshape(-1, 3)
    image = model.find_image_with_name("cam1.png")
    expected = model.cameras[1].img_from_cam(image.cam_from_world() * points)
    found = np.stack([columns, rows], axis=-1).reshape(-1, 2)
    if view.distortion:
        straight = Lens(view.intrinsics[0], view.distortion, view.is_fisheye)
        columns, rows, _ = straight._straightened(WIDTH, HEIGHT)
        found = np.stack([columns, rows], axis=-1).reshape(-1, 2) + 0.5
        assert np.abs(expected - (np.mgrid[:WIDTH, :HEIGHT].T + 0.5).reshape(-1, 2)).max() > 0.2
    assert len(view.poses) == 1 and (view.width, view.height) == (WIDTH, HEIGHT)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("model", ["sparse/0", "sparse", "colmap/sparse/0"])
@pytest.mark.parametrize("name", ["cam{}.png", "cam{}/000000.png", "take/cam{}/000001.jpg"])
def test_every_naming_gives_the_same_cameras(model: str, name: str, tmp_path: Path):
    views = read_colmap(write_colmap(tmp_path, model, name), "", "").views
    assert [view.name for view in views] == NAMES
    for view, pose in zip(views, poses(), strict=True):
        assert len(view.images) == len(view.masks or ()) == N_FRAMES and not view.distortion
        np.testing.assert_allclose(view.poses, pose[None], atol=1e-12)


def test_distorted_and_fisheye_footage_is_straightened(tmp_path: Path):
    write_footage(tmp_path)
    lenses = [("OPENCV", LENSES["OPENCV"]), ("RADIAL_FISHEYE", LENSES["RADIAL_FISHEYE"])]
    taken = [Taken(f"cam{row}.png", pose, row % 2) for row, pose in enumerate(poses())]
    write_model(tmp_path / "sparse", lenses, taken)
    assert prepare(tmp_path, tmp_path / "out") == 0
    capture = load_capture(CaptureConfig(path=str(tmp_path / "out")))
    _, p = lenses[0]
    bent = Lens(np.array([[p[0], 0, p[2]], [0, p[1], p[3]], [0, 0, 1]]), tuple(p[4:]), False)
    f, cx, cy, k1, k2 = lenses[1][1]
    round_ = Lens(np.array([[f, 0, cx], [0, f, cy], [0, 0, 1]]), (k1, k2, 0.0, 0.0), True)
    for index, (view, lens) in enumerate(zip(capture.views, [bent, round_] * 2, strict=True)):
        np.testing.assert_array_equal(view.images[1], lens.undistort(shot(index, 1)[0]))
        np.testing.assert_allclose(view.cameras.intrinsics[0], lens.intrinsics, atol=1e-3)


def _several(per_camera: int, shift: float, turn: float = 0) -> list[Taken]:
    """Returns images of every camera, each moved by a share of the rig's size and turned."""
    size = np.linalg.norm(np.ptp([pose[:3, 3] for pose in poses()], axis=0))
    taken = []
    for camera, pose in enumerate(poses()):
        for frame in range(per_camera):
            moved = pose.copy()
            moved[0, 3] += frame * shift * size
            moved[:3, :3] = cv2.Rodrigues(frame * turn * np.array([0.6, 0, 0.8]))[0] @ moved[:3, :3]
            taken.append(Taken(f"cam{camera}/{frame:06d}.png", moved, camera))
    return taken[::-1]


def test_a_rig_that_stands_still_has_the_pose_of_its_first_images(tmp_path: Path):
    write_footage(tmp_path)
    write_model(tmp_path / "sparse", pinholes(), _several(2, 0.9 * STILL, 0.9 * STILL))
    for view, pose in zip(read_colmap(tmp_path, "", "").views, poses(), strict=True):
        np.testing.assert_allclose(view.poses, pose[None], atol=1e-12)


@pytest.mark.parametrize("with_videos", [False, True])
def test_a_rig_that_moves_has_a_pose_a_frame(with_videos: bool, tmp_path: Path):
    write_footage(tmp_path)
    taken = _several(N_FRAMES, 0.01)
    write_model(tmp_path / "sparse", pinholes(), taken)
    if with_videos:
        shutil.rmtree(tmp_path / "images")
        for camera, name in enumerate(NAMES):
            write_video(tmp_path / "videos" / f"{name}.avi", camera)
    assert prepare(tmp_path, tmp_path / "out", "--frames", "1:") == 0
    expected = {image.name: image.pose for image in taken}
    for view in load_capture(CaptureConfig(path=str(tmp_path / "out"))).views:
        for row, frame in enumerate((1, 2)):
            pose = expected[f"{view.name}/{frame:06d}.png"]
            np.testing.assert_allclose(view.cameras.world_from_camera[row], pose, atol=1e-5)


def write_video(path: Path, camera: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    code = cv2.VideoWriter.fourcc(*"MJPG")
    video = cv2.VideoWriter(str(path), code, 25, (WIDTH, HEIGHT))
    for frame in range(N_FRAMES):
        video.write(np.ascontiguousarray(shot(camera, frame)[0][..., ::-1]))
    video.release()


def test_videos_serve_where_images_are_those_that_colmap_saw(tmp_path: Path):
    root = write_colmap(tmp_path)
    shutil.rmtree(root / "images")
    for camera, name in enumerate(NAMES):
        write(root / "images" / f"{name}.png", stage(camera).astype("u1"))
        write_video(root / "videos" / f"{name}.avi", camera)
    views = read_colmap(root, "", "").views
    assert [view.images[0].name for view in views] == [f"{name}.avi" for name in NAMES]
    shutil.move(root / "videos", root / "recordings")
    assert read_colmap(root, "recordings", "").views[0].is_video


def test_what_is_left_out_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    root = write_colmap(tmp_path)
    shutil.move(root / "images" / "cam0", root / "images" / "cam9")
    shutil.copytree(root / "sparse" / "0", root / "sparse" / "1")
    assert prepare(root, tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert "sparse: 2 models; 0 is read" in said
    assert "no pose of cam9; left out" in said and "no footage of cam0; left out" in said


def test_both_spellings_of_a_model_without_points_are_read(tmp_path: Path):
    """Models of older versions have neither rigs nor frames."""
    for as_text in (False, True):
        root = write_colmap(tmp_path / str(as_text), as_text=as_text)
        for name in ("rigs", "frames", "points3D"):
            (root / f"sparse/0/{name}.{'txt' if as_text else 'bin'}").unlink()
        points = root / "sparse/0" / ("points3D.txt" if as_text else "points3D.bin")
        points.write_bytes(b"" if as_text else bytes(8))
        assert len(read_colmap(root, "", "").views) == N_CAMERAS


DAMAGES = {
    "folder": "no COLMAP model; expected cameras.bin or cameras.txt in one of sparse/0, sparse",
    "images": "no images.bin beside cameras.bin",
    "points": "no points3D.bin beside cameras.bin; .*eight zero bytes",
    "cut": "not a COLMAP model .*copy it again",
    "text": "not a COLMAP model .*copy it again",
    "footage": r"no footage of the cameras in .* \(cam0, cam1, cam2, cam3\); expected a folder",
    "masks": "2 masks for 3 images",
    "lens": "cam0: its lens is FOV; allowed: SIMPLE_PINHOLE, .*; .* image_undistorter",
    "focal": "cam0: .* is no lens",
    "several": "images of cam0 have lenses that differ .*--ImageReader.single_camera_per_folder 1",
    "moves": "cam0 has 2 poses for 3 frames, .* by 4.8 % of the rig's size and 0.0 degrees",
    "turns": "differ by 0.0 % of the rig's size and 1.1 degrees; expected one pose",
    "empty": "no image with a pose",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_bad_models_are_named(damage: str, tmp_path: Path):
    root = write_colmap(tmp_path)
    model, taken = root / "sparse" / "0", _several(1, 0)
    if damage == "folder":
        shutil.rmtree(model)
    elif damage in ("images", "points"):
        (model / {"images": "images.bin", "points": "points3D.bin"}[damage]).unlink()
    elif damage in ("cut", "text"):
        data = (model / "images.bin").read_bytes()
        (model / "images.bin").write_bytes(b"lorem ipsum" if damage == "text" else data[:-40])
    elif damage == "footage":
        shutil.rmtree(root / "images")
    elif damage == "masks":
        (root / "masks/cam1/000001.png").unlink()
    elif damage == "lens":
        write_model(model, [("FOV", [45, 47, 20, 15, 0.3])] * N_CAMERAS, taken)
    elif damage == "focal":
        write_model(model, [("PINHOLE", [0, 47, 20, 15])] * N_CAMERAS, taken)
    elif damage == "several":
        taken = [Taken(each.name, each.pose, row) for row, each in enumerate(_several(2, 0))]
        lenses = [("PINHOLE", [45 + row, 45, 20, 15]) for row in range(len(taken))]
        write_model(model, lenses, taken)
    elif damage == "moves":
        write_model(model, pinholes(), _several(2, 0.05))
    elif damage == "turns":
        write_model(model, pinholes(), _several(2, 0, 0.02))
    elif damage == "empty":
        write_model(model, pinholes(), [])
    with pytest.raises(CaptureError, match=DAMAGES[damage]) as raised:
        read_colmap(root, "", "")
    assert "\n" not in str(raised.value)


def test_without_pycolmap_the_install_line_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    root = write_colmap(tmp_path)
    monkeypatch.setitem(sys.modules, "pycolmap", None)
    line = re.escape("pip install 'resfields-ngp[colmap]'")
    with pytest.raises(ImportError, match=line):
        read_colmap(root, "", "")
    assert prepare(root, tmp_path / "out") != 0
    assert re.search(line, capsys.readouterr().err)


def test_views_follow_the_frames_that_are_chosen():
    moving = np.stack([np.eye(4) * scale for scale in (1.0, 2.0, 3.0)])
    files = tuple(Path(f"{frame}.png") for frame in range(3))
    view = FootageView("cam", files, None, np.eye(3)[None], moving, 0, 0, (0.1,), True).at([2, 0])
    assert view.is_fisheye and [file.stem for file in view.images] == ["2", "0"]
    assert view.poses[:, 0, 0].tolist() == [3, 1]
