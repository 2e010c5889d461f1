"""Laws of footage: one scene written in three calibrations is one capture; masks are the figure."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from colmap_model import write_colmap
from footage_scene import (
    CENTRE,
    HEIGHT,
    N_CAMERAS,
    N_FRAMES,
    WIDTH,
    prepare,
    rig,
    shot,
    stage,
    write,
)

from resfields_ngp.datasets import CaptureConfig, CaptureError, load_capture
from resfields_ngp.datasets.lenses import Lens
from resfields_ngp.prepare.calibrations import FootageView
from resfields_ngp.prepare.footage_views import unseen_of, view_job, write_view
from resfields_ngp.prepare.matting import MattingConfig


def write_actors_hq(root: Path) -> Path:
    rows = []
    for index, cameras in enumerate(rig()):
        name, pose, lens = f"Cam{index:03d}", cameras.world_from_camera[0], cameras.intrinsics[0]
        turn = cv2.Rodrigues(pose[:3, :3])[0].ravel()
        row = dict(zip(("rx", "ry", "rz", "tx", "ty", "tz"), [*turn, *pose[:3, 3]], strict=True))
        row |= {"fx": lens[0, 0] / WIDTH, "fy": lens[1, 1] / HEIGHT}
        row |= {"px": lens[0, 2] / WIDTH, "py": lens[1, 2] / HEIGHT}
        rows.append({"name": name, "w": WIDTH, "h": HEIGHT} | row)
        for frame in range(N_FRAMES):
            image, mask = shot(index, frame)
            write(root / "rgbs" / name / f"{name}_rgb{frame:06d}.png", image)
            write(root / "masks" / name / f"{name}_mask{frame:06d}.png", 255 * mask.astype("u1"))
    with open(root / "calibration.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return root


def write_easy_volcap(root: Path) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    intri = cv2.FileStorage(str(root / "intri.yml"), cv2.FILE_STORAGE_WRITE)
    extri = cv2.FileStorage(str(root / "extri.yml"), cv2.FILE_STORAGE_WRITE)
    for storage in (intri, extri):
        storage.startWriteStruct("names", cv2.FileNode_SEQ)
        for index in range(N_CAMERAS):
            storage.write("", f"{index:02d}")
        storage.endWriteStruct()
    for index, cameras in enumerate(rig()):
        name = f"{index:02d}"
        camera_from_world = np.linalg.inv(cameras.world_from_camera[0])
        intri.write(f"K_{name}", cameras.intrinsics[0])
        intri.write(f"dist_{name}", np.zeros((1, 5)))
        extri.write(f"R_{name}", cv2.Rodrigues(camera_from_world[:3, :3])[0])
        extri.write(f"T_{name}", camera_from_world[:3, 3:])
        for frame in range(N_FRAMES):
            image, mask = shot(index, frame)
            write(root / "images" / name / f"{frame:06d}.png", image)
            write(root / "masks" / name / f"{frame:06d}.png", 255 * mask.astype("u1"))
    intri.release()
    extri.release()
    return root


def write_neus2(root: Path, from_na: bool = True) -> Path:
    axes = np.eye(4) if from_na else np.diag([1.0, -1, -1, 1])
    for frame in range(N_FRAMES):
        entries = []
        for index, cameras in enumerate(rig()):
            image, mask = shot(index, frame)
            file = f"images/{frame:06d}/image_c_{index:03d}_f_{frame:06d}.png"
            write(root / file, np.dstack([image, 255 * mask.astype("u1")]))
            lens = np.eye(4)
            lens[:3, :3] = cameras.intrinsics[0]
            pose = cameras.world_from_camera[0] @ axes
            entry = {"transform_matrix": pose.tolist(), "intrinsic_matrix": lens.tolist()}
            entries.append({"file_path": file} | entry)
        table = {"from_na": from_na, "w": WIDTH, "h": HEIGHT, "frames": entries}
        path = root / "train" / f"transform_{frame:06d}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(table))
    return root


WRITERS = {
    "actorshq": (write_actors_hq, [f"Cam{i:03d}" for i in range(N_CAMERAS)]),
    "easyvolcap": (write_easy_volcap, [f"{i:02d}" for i in range(N_CAMERAS)]),
    "neus2": (write_neus2, [f"c{i:03d}" for i in range(N_CAMERAS)]),
    "neus2 in OpenGL": (lambda root: write_neus2(root, False), [f"c{i:03d}" for i in range(4)]),
    "colmap": (write_colmap, [f"cam{i}" for i in range(N_CAMERAS)]),
    "colmap as text": (
        lambda root: write_colmap(root, "colmap/sparse/0", "cam{}/000001.png", True),
        [f"cam{i}" for i in range(N_CAMERAS)],
    ),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_every_calibration_gives_the_same_capture(kind: str, tmp_path: Path):
    write, names = WRITERS[kind]
    out = tmp_path / "capture"
    assert prepare(write(tmp_path / "footage"), out, "--test-camera", names[2]) == 0
    capture = load_capture(CaptureConfig(path=str(out)))
    assert [view.name for view in capture.views] == [names[0], names[1], names[3]]
    assert capture.test_view is not None and capture.n_frames == N_FRAMES
    order = [capture.views[0], capture.views[1], capture.test_view, capture.views[2]]
    for index, (view, cameras) in enumerate(zip(order, rig(), strict=True)):
        np.testing.assert_allclose(view.cameras.intrinsics[1], cameras.intrinsics[0], atol=1e-3)
        poses = view.cameras.world_from_camera[1]
        np.testing.assert_allclose(poses, cameras.world_from_camera[0], atol=1e-4)
        for frame in range(N_FRAMES):
            image, mask = shot(index, frame)
            np.testing.assert_array_equal(view.images[frame], image)
            assert view.masks is not None
            np.testing.assert_array_equal(view.masks[frame], mask)
    np.testing.assert_allclose(capture.world_from_normalised[:3, 3], CENTRE, atol=0.15)


def test_plates_cut_the_figure_out(tmp_path: Path):
    root = write_easy_volcap(tmp_path / "footage")
    for index in range(N_CAMERAS):
        write(tmp_path / "plates" / f"{index:02d}.png", stage(index).round().astype("u1"))
    out = tmp_path / "capture"
    assert prepare(root, out, "--plates", str(tmp_path / "plates")) == 0
    capture = load_capture(CaptureConfig(path=str(out)))
    for index, view in enumerate(capture.views):
        assert view.masks is not None
        for frame in range(N_FRAMES):
            found, mask = view.masks[frame], shot(index, frame)[1]
            assert (found & mask).sum() / (found | mask).sum() > 0.9


def test_images_and_cameras_shrink_together(tmp_path: Path):
    root, out = write_actors_hq(tmp_path / "footage"), tmp_path / "capture"
    assert prepare(root, out, "--longest", "20", "--frames", "1:") == 0
    capture = load_capture(CaptureConfig(path=str(out)))
    view = capture.views[0]
    assert view.images.shape == (2, 15, 20, 3)
    np.testing.assert_allclose(view.cameras.intrinsics[0][0], [25, 0, 10.25], atol=1e-3)


def test_distorted_footage_is_straightened(tmp_path: Path):
    root = write_easy_volcap(tmp_path / "footage")
    path = root / "intri.yml"
    bent = cv2.FileStorage(str(path), cv2.FILE_STORAGE_APPEND)
    bent.write("D_00", np.array([[0.3, 0, 0, 0, 0.0]]))
    bent.release()
    path.write_text(path.read_text().replace("dist_00", "unused_00"))
    assert prepare(root, tmp_path / "capture") == 0
    capture = load_capture(CaptureConfig(path=str(tmp_path / "capture")))
    np.testing.assert_array_equal(capture.views[1].images[0], shot(1, 0)[0])
    assert (capture.views[0].images[0] != shot(0, 0)[0]).any()
    assert not (tmp_path / "capture" / "01" / "seen.png").exists()
    assert capture.views[1].unseen is None
    unseen = capture.views[0].unseen
    expected = Lens(rig()[0].intrinsics[0], (0.3, 0, 0, 0, 0.0), False).unseen(WIDTH, HEIGHT)
    assert unseen is not None and unseen.shape == (N_FRAMES, HEIGHT, WIDTH)
    np.testing.assert_array_equal(unseen[1], expected)


def test_scaled_footage_marks_every_pixel_that_mixes_in_what_its_lens_did_not_see(tmp_path: Path):
    cameras = rig()[0]
    parts = cameras.intrinsics, cameras.world_from_camera, 0, 0, (0.5, 0, 0, 0, 0.0)
    view = FootageView("one", (tmp_path / "0.png",), None, *parts)
    write(tmp_path / "0.png", np.full((HEIGHT, WIDTH, 3), 255, np.uint8))
    job = view_job(view, "one", [0], 20, MattingConfig(source="none"), tmp_path / "out")
    write_view(job)
    image = cv2.imread(str(tmp_path / "out" / "one" / "rgb" / "000000.png"))
    unseen = unseen_of(job, 1)
    assert unseen is not None and unseen.shape == (15, 20) and unseen.mean() < 0.6
    assert (image[~unseen] == 255).all()


def test_a_map_of_another_size_is_refused(tmp_path: Path):
    out = tmp_path / "capture"
    assert prepare(write_easy_volcap(tmp_path / "footage"), out) == 0
    write(out / "00" / "seen.png", np.zeros((5, 6), np.uint8))
    with pytest.raises(CaptureError, match="seen.png: 6 x 5 pixels; expected 40 x 30"):
        load_capture(CaptureConfig(path=str(out)))


def test_boxes_of_actors_hq_place_the_subject(tmp_path: Path):
    root = write_actors_hq(tmp_path / "take" / "4x")
    header = "frame_number,aabb_min_x,aabb_min_y,aabb_min_z,aabb_max_x,aabb_max_y,aabb_max_z\n"
    (tmp_path / "take" / "aabbs.csv").write_text(header + "0,-1,0,-1,1,2,1\n1,0,0,-1,1.5,2,1\n")
    assert prepare(root, tmp_path / "capture") == 0
    capture = load_capture(CaptureConfig(path=str(tmp_path / "capture")))
    matrix = capture.world_from_normalised
    assert capture.bounds is not None
    box = capture.bounds * matrix[0, 0] + matrix[:3, 3]
    np.testing.assert_allclose(box, [[-1, 0, -1], [1.5, 2, 1]], atol=1e-5)


def test_videos_are_read_frame_by_frame(tmp_path: Path):
    root = write_easy_volcap(tmp_path / "footage")
    (root / "videos").mkdir()
    for index in range(N_CAMERAS):
        name = str(root / "videos" / f"{index:02d}.avi")
        code = cv2.VideoWriter.fourcc(*"MJPG")
        video = cv2.VideoWriter(name, code, 25, (WIDTH, HEIGHT))
        for frame in range(N_FRAMES):
            video.write(np.ascontiguousarray(shot(index, frame)[0][..., ::-1]))
        video.release()
    out = tmp_path / "capture"
    assert prepare(root, out, "--footage.images", "videos", "--frames", "::2") == 0
    capture = load_capture(CaptureConfig(path=str(out)))
    for index, view in enumerate(capture.views):
        assert view.masks is not None
        for row, frame in enumerate((0, 2)):
            image, mask = shot(index, frame)
            assert np.abs(view.images[row] - image.astype(float)).mean() < 6  # JPEG's loss
            np.testing.assert_array_equal(view.masks[row], mask)


def test_an_interrupted_run_goes_on(tmp_path: Path):
    root, out = write_neus2(tmp_path / "footage"), tmp_path / "capture"
    assert prepare(root, out) == 0
    kept, lost = (out / "c001" / "rgb" / f"00000{i}.png" for i in range(2))
    before = lost.read_bytes()
    kept.write_bytes(kept.read_bytes() + b"kept")
    lost.unlink()
    assert prepare(root, out) == 0
    assert kept.read_bytes().endswith(b"kept") and lost.read_bytes() == before


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("no calibration", "no calibration in it"),
        ("column", "'fy' is missing"),
        ("number", "no number"),
        ("missing image", "2 images where"),
        ("missing mask", "2 masks for 3 images"),
        ("size", "calibrated for"),
        ("camera", 'no camera "Cam9"'),
        ("plate", "no plate of Cam000"),
        ("source", "has no masks"),
    ],
)
def test_bad_footage_is_one_line(damage: str, said: str, tmp_path: Path, capsys):
    root, more = write_actors_hq(tmp_path / "footage"), []
    path = root / "calibration.csv"
    text = path.read_text()
    if damage == "no calibration":
        path.unlink()
    elif damage == "column":
        path.write_text(text.replace("fy", "focal"))
    elif damage == "number":
        path.write_text(text.replace("Cam000,40,30", "Cam000,wide,30"))
    elif damage == "missing image":
        (root / "rgbs/Cam001/Cam001_rgb000001.png").unlink()
        (root / "masks/Cam001/Cam001_mask000001.png").unlink()
    elif damage == "missing mask":
        (root / "masks/Cam001/Cam001_mask000001.png").unlink()
    elif damage == "size":
        path.write_text(text.replace("Cam000,40,30", "Cam000,40,40"))
    elif damage == "camera":
        more = ["--cameras", "Cam9"]
    elif damage == "plate":
        more = ["--plates", str(tmp_path)]
    elif damage == "source":
        for name in (root / "masks").iterdir():
            name.rename(name.with_suffix(".old"))
        more = ["--matting.source", "files"]
    capsys.readouterr()
    assert prepare(root, tmp_path / "capture", *more) == 3
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and said in lines[0]


def test_damaged_yaml_is_one_line(tmp_path: Path, capsys):
    for damage in ("text", "matrix"):
        root = write_easy_volcap(tmp_path / damage)
        path = root / "intri.yml"
        path.write_text("lorem" if damage == "text" else path.read_text().replace("K_01", "K_99"))
        assert prepare(root, tmp_path / "capture") == 3
        lines = [line for line in capsys.readouterr().err.splitlines() if "resfields" in line]
        assert len(lines) == 1 and "intri.yml" in lines[0]
