"""A capture of random noise in the ResFields layout, small enough to break in every test."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from resfields_ngp.cameras import Cameras, look_at
from resfields_ngp.datasets import CaptureConfig, CaptureError, load_capture

N_FRAMES, WIDTH, HEIGHT = 4, 24, 18
NAMES = ("cam_test", "cam_train_0", "cam_train_1", "cam_train_2")


def tiny_scale_mat() -> np.ndarray:
    """Returns the capture's (4, 4) `world_from_normalised`."""
    matrix = np.diag([2.5, 2.5, 2.5, 1.0])
    matrix[:3, 3] = (3.0, -1.0, 2.0)
    return matrix


def tiny_cameras(index: int) -> Cameras:
    """Returns a camera that looks at the middle; 0 moves, and its focal length changes."""
    centre = tiny_scale_mat()[:3, 3]
    angles = 1.5 * index + 0.05 * np.arange(N_FRAMES) * (index == 0)
    poses, intrinsics = [], []
    for frame, angle in enumerate(angles):
        eye = centre + 8 * np.array([np.cos(angle), 0.2 * index, np.sin(angle)])
        poses.append(look_at(eye, centre, np.array([0.0, 1.0, 0.0])))
        focal = 30.0 + frame * (index == 0)
        intrinsics.append([[focal, 0, 12.5], [0, focal + 1, 8.5], [0, 0, 1]])
    return Cameras(np.array(intrinsics), np.stack(poses), WIDTH, HEIGHT)


def tiny_images(index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns a camera's (n, H, W, 3) RGB, (n, H, W) masks and (n, H, W) depths."""
    random = np.random.default_rng(index)
    shape = (N_FRAMES, HEIGHT, WIDTH)
    images = random.integers(0, 256, (*shape, 3), dtype=np.uint8)
    masks = np.zeros(shape, bool)
    masks[:, 4:12, 6:15] = True
    return images, masks, random.integers(0, 9000, shape, dtype=np.uint16)


def write_image(path: Path, image: np.ndarray) -> None:
    """Writes a PNG of RGB, RGBA or grey pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    codes = {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}
    if image.ndim == 3:
        image = cv2.cvtColor(image, codes[image.shape[2]])
    assert cv2.imwrite(str(path), image)


def write_cameras(path: Path, cameras: Cameras, scale_mat: np.ndarray, **changed) -> None:
    """Writes a camera file; `changed` replaces matrices by key, None leaves them out."""
    matrices: dict[str, np.ndarray] = {}
    for frame in range(cameras.n_frames):
        world_mat = np.vstack([cameras.projection(frame), [0, 0, 0, 1]])
        matrices |= {f"world_mat_{frame}": world_mat, f"scale_mat_{frame}": scale_mat}
    matrices |= changed
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **{key: value for key, value in matrices.items() if value is not None})


def write_tiny(root: Path) -> Path:
    """Writes the capture with masks, depths, clouds and a box."""
    for index, name in enumerate(NAMES):
        write_cameras(root / name / "cameras_sphere.npz", tiny_cameras(index), tiny_scale_mat())
        for frame, (image, mask, depth) in enumerate(zip(*tiny_images(index), strict=True)):
            write_image(root / name / "rgb" / f"{frame:06d}.png", image)
            write_image(root / name / "mask" / f"{frame:06d}.png", mask.astype(np.uint8))
            write_image(root / name / "depth" / f"{frame:06d}.png", depth)
    (root / "cloud").mkdir()
    for frame in range(N_FRAMES):
        (root / "cloud" / f"{frame:06d}.ply").write_bytes(b"ply\n")
    (root / "aabb.txt").write_text("[-0.5 -0.6 -0.7\n 0.5 0.6 0.7]\n")
    return root


def load(root: Path, **changed):
    return load_capture(replace(CaptureConfig(path=str(root)), **changed))


def refusal(root: Path, **changed) -> str:
    """Returns the one line with which the capture is refused."""
    with pytest.raises(CaptureError) as caught:
        load(root, **changed)
    assert "\n" not in str(caught.value)
    return str(caught.value)
