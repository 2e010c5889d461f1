"""Pictures as files: colour, depth, normals and cover of one camera, and a video of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from .cameras import Cameras
from .model_space import ModelSpace
from .video_files import write_mp4
from .writing import write_whole

CHANNELS = ("rgb", "depth", "normal", "mask")


@dataclass(frozen=True)
class Picture:
    """What a camera sees, in world units and axes."""

    rgbs: np.ndarray
    """(H, W, 3) floats in [0, 1], on the background."""
    opacities: np.ndarray
    """(H, W) floats in [0, 1]."""
    depths: np.ndarray
    """(H, W) distances along the ray, world units; 0 where the subject is not shown."""
    normals: np.ndarray
    """(H, W, 3) unit vectors, world axes; 0 where the depths are."""


@dataclass(frozen=True)
class PictureFolder:
    """One camera's pictures, ``{rgb,depth,normal,mask}/<stem>.png``.

    rgb is 8-bit on the background; depth 16-bit, the distance along the ray times `depth_scale`,
    0 where nothing is; normal 8-bit, (n + 1) / 2 x 255 in world axes, black where nothing is; mask
    8-bit, opacity x 255. ``render.json`` says the scale and which weights made the pictures.
    """

    path: Path
    """The folder."""
    depth_scale: float
    """Depth images' units per world unit."""

    @staticmethod
    def open(
        path: Path, cameras: Cameras, space: ModelSpace, made: Mapping[str, str | int]
    ) -> PictureFolder:
        """Opens a camera's folder; pictures made otherwise, or of other size or scale, are removed.

        Args:
            path: The folder, made if missing.
            cameras: The camera.
            space: Where model space lies, for the range of depths.
            made: What names the weights, and the settings that the pictures depend on.

        Raises:
            OSError: The folder is not writable.
        """
        scale = depth_scale(cameras, space)
        size = [cameras.width, cameras.height]
        record = {**made, "size": size, "depth_scale": scale, "axes": "world"}
        if read_record(path) != record:
            for channel in CHANNELS:
                shutil.rmtree(path / channel, ignore_errors=True)
            write_whole(path / "render.json", json.dumps(record, indent=1).encode())
        return PictureFolder(path, scale)

    def file(self, channel: str, stem: str) -> Path:
        """Returns where a picture's channel is kept."""
        return self.path / channel / f"{stem}.png"

    def has(self, stem: str) -> bool:
        """Returns whether all channels of a picture are there."""
        return all(self.file(channel, stem).is_file() for channel in CHANNELS)

    def write(self, stem: str, picture: Picture) -> None:
        """Writes a picture's channels, each file whole.

        Raises:
            OSError: The disk is full or the folder is not writable.
        """
        there = (picture.normals != 0).any(-1, keepdims=True)
        depths = np.clip(np.round(picture.depths * self.depth_scale), 0, 65535)
        channels = {
            "rgb": _eight_bits(picture.rgbs),
            "depth": depths.astype(np.uint16),
            "normal": _eight_bits((picture.normals + 1) / 2 * there),
            "mask": _eight_bits(picture.opacities),
        }
        for channel, pixels in channels.items():
            write_png(self.file(channel, stem), pixels)

    def write_video(self, stems: Sequence[str], frames_per_second: float) -> None:
        """Writes ``rgb.mp4`` of some pictures, padded to even sides as its codec needs.

        Raises:
            OSError: The disk is full or the folder is not writable.
        """
        write_mp4(
            self.path / "rgb.mp4",
            (read_png(self.file("rgb", stem)) for stem in stems),
            frames_per_second,
        )


def depth_scale(cameras: Cameras, space: ModelSpace) -> float:
    """Returns depth units per world unit: 1000, or less by powers of ten where 16 bits are few."""
    corners = np.stack(np.meshgrid(*[[0.0, 1.0]] * 3), -1).reshape(-1, 3)
    n_frames = min(cameras.n_frames, len(space.offsets))
    farthest = max(
        np.linalg.norm(
            space.to_world(corners, frame) - cameras.world_from_camera[frame, :3, 3], axis=1
        ).max()
        for frame in range(n_frames)
    )
    scale = 1000.0
    while farthest * scale > 65535:
        scale /= 10
    return scale


def write_png(path: Path, pixels: np.ndarray) -> None:
    """Writes (H, W) or RGB (H, W, 3) pixels, uint8 or uint16, as one whole file.

    Raises:
        OSError: The disk is full or the folder is not writable.
    """
    ordered = pixels[..., ::-1] if pixels.ndim == 3 else pixels
    done, content = cv2.imencode(".png", np.ascontiguousarray(ordered))
    assert done, path
    write_whole(path, content.tobytes())


def read_png(path: Path) -> np.ndarray:
    """Reads a PNG as it is stored: (H, W) or RGB (H, W, 3), uint8 or uint16.

    Raises:
        ValueError: It is missing or cut off.
    """
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ValueError(f"{path}: missing or not a whole PNG; delete it and render again")
    return pixels[..., ::-1] if pixels.ndim == 3 else pixels


def _eight_bits(values: np.ndarray) -> np.ndarray:
    return np.round(np.clip(values, 0, 1) * 255).astype(np.uint8)


def read_record(folder: Path) -> dict[str, Any]:
    """Returns what ``render.json`` of a camera's folder says; nothing where there is none."""
    try:
        return json.loads((folder / "render.json").read_text())
    except (OSError, ValueError):
        return {}
