"""What is refused of a capture, in one line, and what is left out with a warning."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from tiny_capture import (
    HEIGHT,
    N_FRAMES,
    NAMES,
    WIDTH,
    load,
    refusal,
    tiny_cameras,
    tiny_scale_mat,
    write_cameras,
    write_image,
)


def test_a_missing_capture_is_refused(tmp_path):
    assert "nowhere: no such capture" in refusal(tmp_path / "nowhere")
    assert "no capture in it; expected <camera>/rgb" in refusal(tmp_path)
    assert "no such folder" in refusal(tmp_path / "nowhere", kind="owlii")
    assert 'no layout "video"; allowed: auto, owlii' in refusal(tmp_path, kind="video")


def test_no_frames_are_refused(root):
    for path in (root / "cam_train_1" / "rgb").iterdir():
        path.unlink()
    assert "cam_train_1/rgb: no images" in refusal(root)
    shutil.rmtree(root / "cam_train_1" / "rgb")
    assert "cam_train_1/rgb: no images" in refusal(root)


def test_unequal_counts_are_refused(root):
    (root / "cam_train_2" / "rgb" / "000003.png").unlink()
    assert "cam_train_2/rgb: 3 images where cam_train_0 has 4" in refusal(root)


def test_missing_masks_are_refused(root):
    (root / "cam_train_2" / "mask" / "000003.png").unlink()
    assert "cam_train_2/mask: 3 files for 4 images" in refusal(root)
    shutil.rmtree(root / "cam_train_2" / "mask")
    assert "camera cam_train_2 has no masks but cam_train_0 has" in refusal(root)


def test_missing_depths_are_refused_where_asked_for(root):
    shutil.rmtree(root / "cam_train_1" / "depth")
    assert "cam_train_1/depth: 0 files for 4 images" in refusal(root, use_depth=True)
    assert load(root).views[1].depths is None


@pytest.mark.parametrize("part", [0.0, 0.02, 0.5, 0.99])
def test_a_truncated_image_is_refused(root, part):
    path = root / "cam_train_0" / "rgb" / "000002.png"
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    message = refusal(root)
    assert str(path) in message
    assert "cut off" in message or "not an image" in message


def test_a_damaged_image_is_refused(root):
    path = root / "cam_train_0" / "mask" / "000002.png"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    assert f"{path}: damaged" in refusal(root)


def test_an_image_of_another_size_is_refused(root):
    small = np.zeros((10, 12, 3), np.uint8)
    write_image(root / "cam_train_0" / "rgb" / "000002.png", small)
    assert "000002.png: 12 x 10 pixels; expected 24 x 18" in refusal(root)


def test_masks_of_another_size_are_refused(root):
    for frame in range(N_FRAMES):
        path = root / "cam_train_0" / "mask" / f"{frame:06d}.png"
        write_image(path, np.ones((10, 12), np.uint8))
    assert "000000.png: 12 x 10 pixels; its camera's images are 24 x 18" in refusal(root)


def test_eight_bit_depth_is_refused(root):
    path = root / "cam_train_0" / "depth" / "000001.png"
    write_image(path, np.zeros((HEIGHT, WIDTH), np.uint8))
    assert "allowed: depth as 16-bit grey PNG" in refusal(root, use_depth=True)


def test_an_empty_mask_is_a_warning_and_in_all_views_an_error(root):
    empty = np.zeros((HEIGHT, WIDTH), np.uint8)
    write_image(root / "cam_train_1" / "mask" / "000002.png", empty)
    assert load(root).warnings == ("cam_train_1: the mask of frame 2 is empty",)
    for name in NAMES[1:]:
        write_image(root / name / "mask" / "000002.png", empty)
    assert "masks of frame 2 are empty in all 3 training cameras" in refusal(root)
    assert load(root, frames=":2").n_frames == 2


@pytest.mark.parametrize(
    ("key", "matrix", "message"),
    [
        ("world_mat_2", np.full((4, 4), np.nan), "world_mat_2 has NaN or infinite entries"),
        ("world_mat_1", np.ones((4, 4)), "world_mat_1: the projection matrix is singular"),
        ("world_mat_1", np.eye(2), r"world_mat_1 has shape (2, 2); expected (4, 4)"),
        ("world_mat_3", None, "no world_mat_3; it has 3 world_mat matrices for 4 images"),
        ("scale_mat_0", None, "no scale_mat_0; it has 3 scale_mat matrices for 4 images"),
        ("scale_mat_0", np.zeros((4, 4)), "scale_mat_0 is singular"),
        ("scale_mat_0", np.diag([1.0, 2, 3, 1]), "scale_mat_0 is not a similarity"),
        ("scale_mat_2", np.eye(4), "scale_mat_2 differs from scale_mat_0"),
    ],
)
def test_broken_matrices_are_refused_by_name(root, key, matrix, message):
    path = root / "cam_train_0" / "cameras_sphere.npz"
    write_cameras(path, tiny_cameras(1), tiny_scale_mat(), **{key: matrix})
    found = refusal(root)
    assert message in found
    assert str(path) in found


def test_a_missing_or_broken_camera_file_is_refused(root):
    path = root / "cam_train_0" / "cameras_sphere.npz"
    path.write_bytes(path.read_bytes()[:200])
    assert f"{path}: not a readable npz file" in refusal(root)
    path.unlink()
    assert "cam_train_0: no camera file; expected cameras_sphere.npz" in refusal(root)


@pytest.mark.parametrize("frames", ["4:", "0:5", "-5:", "::0", "3:1", "9", "a:b", "1:2:3:4", ""])
def test_frames_outside_are_refused(root, frames):
    message = refusal(root, frames=frames)
    assert f'frames "{frames}"' in message
    assert "allowed: start:stop:stride within 0:4" in message


def test_missing_cameras_are_refused_with_those_there_are(root):
    available = "available: cam_test, cam_train_0, cam_train_1, cam_train_2"
    message = refusal(root, test_camera="cam_5")
    assert 'no test camera "cam_5"' in message and available in message
    message = refusal(root, cameras=("cam_train_0", "cam_9"))
    assert 'no camera "cam_9" to train on' in message and available in message
    assert "both trained on and held out" in refusal(root, cameras=("cam_test",))


@pytest.mark.parametrize("text", ["1 2 3", "0 0 0 1 1 nan", "1 1 1 0 0 0"])
def test_a_broken_box_is_refused(root, text):
    (root / "aabb.txt").write_text(text)
    assert str(root / "aabb.txt") in refusal(root)


def test_clouds_that_do_not_fit_are_left_out_with_a_warning(root):
    (root / "cloud" / "000000.ply").unlink()
    capture = load(root)
    assert capture.clouds == ()
    assert "3 clouds for 4 frames" in capture.warnings[0]
