from __future__ import annotations

import shutil
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny_capture import (
    HEIGHT,
    N_FRAMES,
    NAMES,
    WIDTH,
    tiny_cameras,
    tiny_images,
    tiny_scale_mat,
    write_cameras,
    write_image,
    write_tiny,
)

from resfields_ngp.datasets import CaptureConfig, CaptureError, load_capture


@pytest.fixture
def root(tmp_path) -> Path:
    """Returns a whole small capture."""
    return write_tiny(tmp_path / "tiny")


def load(root: Path, **changed):
    return load_capture(replace(CaptureConfig(path=str(root)), **changed))


def refusal(root: Path, **changed) -> str:
    """Returns the one line with which the capture is refused."""
    with pytest.raises(CaptureError) as caught:
        load(root, **changed)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def write_palette_png(path: Path, indices: np.ndarray, palette: np.ndarray) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    height, width = indices.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in indices.astype(np.uint8))
    chunks = chunk(b"IHDR", header) + chunk(b"PLTE", palette.astype(np.uint8).tobytes())
    chunks += chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)


def test_what_was_written_comes_back(root):
    capture = load(root, use_depth=True)
    assert capture.name == "tiny"
    assert [view.name for view in capture.views] == list(NAMES[1:])
    assert capture.test_view is not None and capture.test_view.name == "cam_test"
    assert capture.frame_numbers == (0, 1, 2, 3)
    assert capture.has_masks and capture.warnings == ()
    for index, view in enumerate((capture.test_view, *capture.views)):
        images, masks, depths = tiny_images(index)
        assert view.images.dtype == np.uint8 and np.array_equal(view.images, images)
        assert view.masks.dtype == bool and np.array_equal(view.masks, masks)
        assert view.depths.dtype == np.uint16 and np.array_equal(view.depths, depths)


def test_cameras_come_back_in_world_units(root):
    capture = load(root)
    assert np.allclose(capture.world_from_normalised, tiny_scale_mat())
    for index, view in enumerate((capture.test_view, *capture.views)):
        expected = tiny_cameras(index)
        assert np.allclose(view.cameras.intrinsics, expected.intrinsics, atol=1e-6)
        assert np.allclose(view.cameras.world_from_camera, expected.world_from_camera, atol=1e-8)


@pytest.mark.parametrize("part", ["rgb", "mask"])
def test_a_folder_that_lacks_another_frame_than_the_rest_is_a_warning(root, part):
    for folder in (root / name / each for name in NAMES for each in ("rgb", "mask", "depth")):
        for number, path in zip((3, 4, 6, 7), sorted(folder.iterdir()), strict=True):
            path.rename(path.with_name(f"a_{number:06d}.png"))
    assert load(root).warnings == ()
    odd = root / "cam_train_1" / part
    (odd / "a_000006.png").rename(odd / "a_000005.png")
    (warning,) = load(root).warnings
    assert warning.startswith(f"{odd}: the numbers in its names are not those of")


def test_matrices_may_keep_the_numbers_of_a_longer_sequence(root):
    expected = load(root)
    for name in NAMES:
        path = root / name / "cameras_sphere.npz"
        with np.load(path) as stored:
            kinds = {key: key.rsplit("_", 1) for key in stored.files}
            moved = {f"{kind}_{int(i) + 98}": stored[key] for key, (kind, i) in kinds.items()}
        np.savez(path, **moved)
    for view, same in zip(load(root).views, expected.views, strict=True):
        assert np.array_equal(view.cameras.world_from_camera, same.cameras.world_from_camera)
        assert np.array_equal(view.cameras.intrinsics, same.cameras.intrinsics)


def test_normalised_points_project_as_the_official_product_says(root):
    capture = load(root)
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (20, 3))
    world = points @ tiny_scale_mat()[:3, :3].T + tiny_scale_mat()[:3, 3]
    stored = np.load(root / "cam_test" / "cameras_sphere.npz")
    for frame in range(N_FRAMES):
        product = stored[f"world_mat_{frame}"] @ stored[f"scale_mat_{frame}"]
        expected = points @ product[:3, :3].T + product[:3, 3]
        pixels, _ = capture.test_view.cameras.project(world, frame)
        assert np.allclose(pixels, expected[:, :2] / expected[:, 2:], atol=1e-6)


def test_a_slice_takes_images_cameras_and_clouds_of_the_same_frames(root):
    capture = load(root, frames="1::2")
    assert capture.frame_numbers == (1, 3)
    assert [path.stem for path in capture.clouds] == ["000001", "000003"]
    assert np.array_equal(capture.test_view.images, tiny_images(0)[0][[1, 3]])
    expected = tiny_cameras(0).frame_subset([1, 3])
    assert np.allclose(capture.test_view.cameras.intrinsics, expected.intrinsics, atol=1e-6)


def test_frames_follow_the_numbers_in_names_however_many_digits(root):
    expected = load(root, use_depth=True)
    for folder in (root / name / part for name in NAMES for part in ("rgb", "mask", "depth")):
        for number, path in enumerate(sorted(folder.iterdir()), start=8):
            path.rename(path.with_name(f"frame{number}.png"))
    for number, path in enumerate(sorted((root / "cloud").iterdir()), start=8):
        path.rename(path.with_name(f"{number}.ply"))
    capture = load(root, use_depth=True)
    for view, same in zip(capture.views, expected.views, strict=True):
        assert np.array_equal(view.images, same.images)
        assert np.array_equal(view.masks, same.masks)
        assert np.array_equal(view.depths, same.depths)
    assert [path.stem for path in capture.clouds] == ["8", "9", "10", "11"]


def test_cameras_are_taken_in_the_order_named(root):
    capture = load(root, cameras=("cam_train_2", "cam_train_0"))
    assert [view.name for view in capture.views] == ["cam_train_2", "cam_train_0"]


@pytest.mark.parametrize("test_camera", ["cam_train_1", ""])
def test_the_held_out_camera_is_not_trained_on(root, test_camera):
    capture = load(root, test_camera=test_camera)
    assert test_camera not in [view.name for view in capture.views]
    assert (capture.test_view is None) == (test_camera == "")
    assert len(capture.views) == (4 if test_camera == "" else 3)


def test_the_default_test_camera_may_be_absent(root):
    shutil.rmtree(root / "cam_test")
    assert load(root).test_view is None


def test_the_box_is_read_with_any_separators(root):
    expected = [[-0.5, -0.6, -0.7], [0.5, 0.6, 0.7]]
    assert np.allclose(load(root).bounds, expected)
    (root / "aabb.txt").unlink()
    assert load(root).bounds is None


@pytest.mark.parametrize("use_masks", [True, False])
def test_masks_are_used_or_not(root, use_masks):
    capture = load(root, use_masks=use_masks)
    assert capture.has_masks == use_masks
    # Colours outside the mask stay as they are on disk.
    assert np.array_equal(capture.views[0].images, tiny_images(1)[0])


@pytest.mark.parametrize("use_depth", [True, False])
def test_depths_are_read_or_not(root, use_depth):
    assert (load(root, use_depth=use_depth).views[0].depths is not None) == use_depth


def test_without_mask_folders_there_are_no_masks(root):
    for name in NAMES:
        shutil.rmtree(root / name / "mask")
    assert not load(root).has_masks


def test_a_held_out_camera_without_masks_is_a_warning(root):
    shutil.rmtree(root / "cam_test" / "mask")
    assert "cam_test: held out without masks" in load(root).warnings[0]


def test_masks_as_jpeg_lose_the_rings_about_their_outline(root):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[5:13, 7:15] = 255
    for path in (root / "cam_train_1" / "mask").iterdir():
        path.unlink()
        cv2.imwrite(str(path.with_suffix(".jpg")), mask, [cv2.IMWRITE_JPEG_QUALITY, 60])
    rings = cv2.imread(str(root / "cam_train_1" / "mask" / "000000.jpg"), cv2.IMREAD_GRAYSCALE)
    assert ((rings > 0) & (mask == 0)).any()
    view = load(root, cameras=("cam_train_1",)).views[0]
    assert np.array_equal(view.masks[0], mask > 0)


def test_alpha_is_the_mask_where_there_is_none(root):
    for index, name in enumerate(NAMES):
        shutil.rmtree(root / name / "mask")
        images, masks, _ = tiny_images(index)
        for frame in range(N_FRAMES):
            alpha = np.where(masks[frame], 200, 100).astype(np.uint8)
            rgba = np.dstack([images[frame], alpha])
            write_image(root / name / "rgb" / f"{frame:06d}.png", rgba)
    view = load(root).views[0]
    assert np.array_equal(view.masks, tiny_images(1)[1])
    assert np.array_equal(view.images, tiny_images(1)[0])


def test_rgb_among_rgba_is_refused(root):
    rgba = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    write_image(root / "cam_train_0" / "rgb" / "000000.png", rgba)
    assert "cam_train_0/rgb/000001.png: RGB where 000000.png is RGBA" in refusal(root)


def test_palette_and_grey_images_become_rgb(root):
    folder = root / "cam_train_0" / "rgb"
    random = np.random.default_rng(0)
    palette, indices = random.integers(0, 256, (7, 3)), random.integers(0, 7, (HEIGHT, WIDTH))
    write_palette_png(folder / "000000.png", indices, palette)
    grey = random.integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)
    write_image(folder / "000001.png", grey)
    images = load(root).views[0].images
    assert np.array_equal(images[0], palette[indices])
    assert np.array_equal(images[1], np.repeat(grey[..., None], 3, axis=2))


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


def test_sixteen_bits_are_refused(root):
    deep = np.zeros((HEIGHT, WIDTH, 3), np.uint16)
    write_image(root / "cam_train_0" / "rgb" / "000001.png", deep)
    assert "000001.png: 16 bits a channel; allowed: 8-bit RGB or RGBA" in refusal(root)


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


def test_the_neus_layout_is_one_frame_with_a_camera_an_image(tmp_path):
    cameras, (images, masks, _) = tiny_cameras(0), tiny_images(0)
    write_cameras(tmp_path / "cameras_sphere.npz", cameras, tiny_scale_mat())
    for index in range(N_FRAMES):
        write_image(tmp_path / "image" / f"{index:03d}.png", images[index])
        write_image(tmp_path / "mask" / f"{index:03d}.png", masks[index].astype(np.uint8))
    capture = load(tmp_path, test_camera="002")
    assert [view.name for view in capture.views] == ["000", "001", "003"]
    assert capture.n_frames == 1
    assert capture.test_view is not None
    assert np.array_equal(capture.test_view.images, images[[2]])
    pose = capture.views[2].cameras.world_from_camera[0]
    assert np.allclose(pose, cameras.world_from_camera[3], atol=1e-8)
    assert 'no test camera "9"' in refusal(tmp_path, test_camera="9")
    (tmp_path / "mask" / "001.png").unlink()
    assert "3 masks for 4 images" in refusal(tmp_path)
