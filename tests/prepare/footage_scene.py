"""A bright box before a wall, seen by four cameras for three frames, for tests of footage."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from resfields_ngp.cameras import Cameras, look_at
from resfields_ngp.cli import main

WIDTH, HEIGHT, N_FRAMES, N_CAMERAS = 40, 30, 3, 4
CENTRE = np.array([0.3, 1.0, -0.2])


def rig() -> list[Cameras]:
    """Returns cameras about the centre, each with lens and centre of its own."""
    cameras = []
    for index in range(N_CAMERAS):
        eye = CENTRE + 4 * np.array([np.cos(1.5 * index), 0.2 * index, np.sin(1.5 * index)])
        pose = look_at(eye, CENTRE, np.array([0.0, 1.0, 0.0]))
        intrinsics = np.array([[50.0 + index, 0, 20.5], [0, 49, 14.0], [0, 0, 1]])
        cameras.append(Cameras(intrinsics[None], pose[None], WIDTH, HEIGHT))
    return cameras


def shot(camera: int, frame: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns a (H, W, 3) RGB image of a bright box before a wall, and its (H, W) mask."""
    random = np.random.default_rng((camera, frame))
    image = (stage(camera) + random.normal(0, 2, (HEIGHT, WIDTH, 3))).clip(0, 255)
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[8:22, 10 + camera + frame : 22 + camera + frame] = True
    image[mask] = (220, 60, 40)
    return image.round().astype(np.uint8), mask


def stage(camera: int) -> np.ndarray:
    """Returns the (H, W, 3) empty stage: a wall that grows lighter to the right."""
    ramp = np.linspace(60, 140, WIDTH)[None, :, None] * [0.8, 1.0, 0.9]
    return np.repeat(ramp, HEIGHT, axis=0) + 3 * camera


def write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if image.ndim == 3:
        image = image[..., [2, 1, 0, 3] if image.shape[2] == 4 else [2, 1, 0]]
    assert cv2.imwrite(str(path), image)


def prepare(root: Path, out: Path, *more: str) -> int:
    return main(["prepare", "video", str(root), "--out", str(out), "--workers", "1", *more])
