from __future__ import annotations

import shutil
import struct
import zlib
from pathlib import Path

import cv2
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
    tiny_images,
    tiny_scale_mat,
    write_cameras,
    write_image,
)


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
