"""COLMAP models of known cameras, as pycolmap writes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from footage_scene import HEIGHT, N_FRAMES, WIDTH, rig, shot, write

LENSES = {
    "SIMPLE_PINHOLE": [45, 20.5, 14],
    "PINHOLE": [45, 47, 20.5, 14],
    "SIMPLE_RADIAL": [45, 20.5, 14, -0.12],
    "RADIAL": [45, 20.5, 14, -0.12, 0.03],
    "OPENCV": [45, 47, 20.5, 14, -0.12, 0.03, 0.004, -0.003],
    "FULL_OPENCV": [45, 47, 20.5, 14, -0.12, 0.03, 0.004, -0.003, 0.02, 0.05, -0.01, 0.003],
    "OPENCV_FISHEYE": [45, 47, 20.5, 14, 0.05, -0.02, 0.01, -0.004],
    "SIMPLE_RADIAL_FISHEYE": [45, 20.5, 14, 0.05],
    "RADIAL_FISHEYE": [45, 20.5, 14, 0.05, -0.02],
    "SIMPLE_FISHEYE": [45, 20.5, 14],
    "FISHEYE": [45, 47, 20.5, 14],
}
"""Model of a lens to parameters; those with distortion bend the image by 0.7 to 1.8 pixels."""


@dataclass(frozen=True)
class Taken:
    """One image of a model."""

    name: str
    """Its name there."""
    pose: np.ndarray
    """(4, 4) `world_from_camera`."""
    lens: int
    """Position of its lens."""


def write_model(
    folder: Path,
    lenses: Sequence[tuple[str, Sequence[float]]],
    taken: Sequence[Taken],
    as_text: bool = False,
) -> Any:
    """Writes a model of lenses (name and parameters) and images, and returns pycolmap's."""
    pycolmap: Any = pytest.importorskip("pycolmap", reason="pycolmap is an extra")
    model = pycolmap.Reconstruction()
    for row, (name, parameters) in enumerate(lenses):
        camera = pycolmap.Camera.create_from_model_name(row + 1, name, 1.0, WIDTH, HEIGHT)
        camera.params = np.array(parameters, np.float64)
        model.add_camera_with_trivial_rig(camera)
    for row, image in enumerate(taken):
        camera_from_world = pycolmap.Rigid3d(np.linalg.inv(image.pose)[:3])
        stored = pycolmap.Image(name=image.name, camera_id=image.lens + 1, image_id=row + 1)
        model.add_image_with_trivial_frame(stored, camera_from_world)
    folder.mkdir(parents=True, exist_ok=True)
    (model.write_text if as_text else model.write_binary)(str(folder))
    return model


def pinholes() -> list[tuple[str, list[float]]]:
    """Returns the lenses of the scene's cameras."""
    found = []
    for cameras in rig():
        (fx, _, cx), (_, fy, cy) = cameras.intrinsics[0][:2]
        found.append(("PINHOLE", [fx, fy, cx, cy]))
    return found


def poses() -> list[np.ndarray]:
    """Returns the (4, 4) poses of the scene's cameras."""
    return [cameras.world_from_camera[0] for cameras in rig()]


def write_footage(root: Path) -> None:
    """Writes the scene's images and masks, a folder a camera."""
    for camera in range(len(rig())):
        for frame in range(N_FRAMES):
            image, mask = shot(camera, frame)
            write(root / "images" / f"cam{camera}" / f"{frame:06d}.png", image)
            write(root / "masks" / f"cam{camera}" / f"{frame:06d}.png", 255 * mask.astype("u1"))


def write_colmap(
    root: Path, model: str = "sparse/0", name: str = "cam{}.png", as_text: bool = False
) -> Path:
    """Writes the scene with a COLMAP model of one image a camera."""
    write_footage(root)
    taken = [Taken(name.format(row), pose, row) for row, pose in enumerate(poses())]
    write_model(root / model, pinholes(), taken, as_text)
    return root
