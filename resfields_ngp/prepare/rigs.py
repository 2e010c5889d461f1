"""Where a capture's cameras stand: rings about the figure, or those of a file or a capture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..cameras import Cameras, look_at
from ..datasets.base import CaptureError
from ..datasets.camera_files import CameraFile, find_camera_file, read_camera_file
from ..datasets.images import list_images, read_rgba
from ..datasets.owlii import camera_folders

TEST_CAMERA = "cam_test"


@dataclass(frozen=True)
class RigConfig:
    """Where the cameras stand."""

    path: str = ""
    """A rig.json, or the folder of a capture whose cameras are taken; empty: a ring."""
    views: int = 10
    """Training cameras in a ring about the figure; the papers use 4, 8 and 10."""
    size: int = 512
    """Width and height of the images, pixels."""
    fov: float = 36.0
    """Field of view, degrees, 5 to 120; cameras stand so far off that it holds the figure."""
    low: float = 8.0
    """Elevation of cameras 0, 2, 4, ..., degrees."""
    high: float = 20.0
    """Elevation of cameras 1, 3, 5, ..., degrees."""
    test_sweep: float = 360.0
    """How far the held-out camera moves round the figure over the sequence, degrees: frame i is
    seen from its i-th place; 0 leaves it standing."""
    test_start: float = 60.0
    """Where it begins, degrees about the upward axis."""
    test_elevation: float = 14.0
    """Its elevation, degrees."""

    def __post_init__(self) -> None:
        for name in ("views", "size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; allowed: 1 or more")
        if not 5 <= self.fov <= 120:
            raise ValueError(f"fov is {self.fov}; allowed: 5 to 120 degrees")
        for name in ("low", "high", "test_elevation"):
            if not -80 <= getattr(self, name) <= 80:
                raise ValueError(f"{name} is {getattr(self, name)}; allowed: -80 to 80 degrees")


@dataclass(frozen=True)
class Rig:
    """The cameras of a capture, one pose each frame."""

    cameras: dict[str, Cameras]
    """By name; `TEST_CAMERA` is held out."""
    world_from_normalised: np.ndarray
    """(4, 4) similarity: the unit sphere about the figure."""


def ring(config: RigConfig, n_frames: int, world_from_normalised: np.ndarray, up: str = "y") -> Rig:
    """Returns cameras in a ring, and the held-out one that moves round.

    Each sees the whole unit sphere; elevations alternate.

    Args:
        config: How many, how large, where.
        n_frames: Frames of the sequence.
        world_from_normalised: (4, 4) where the unit sphere lies.
        up: The upward axis, y or z.
    """
    angles = {
        f"cam_train_{index}": [(360 * index / config.views, (config.low, config.high)[index % 2])]
        for index in range(config.views)
    }
    # A whole turn ends where it began: the last frame stands one step before.
    n_steps = n_frames if abs(config.test_sweep) >= 360 else n_frames - 1
    angles[TEST_CAMERA] = [
        (config.test_start + config.test_sweep * index / max(n_steps, 1), config.test_elevation)
        for index in range(n_frames)
    ]
    focal = config.size / (2 * np.tan(np.radians(config.fov) / 2))
    middle = config.size / 2
    intrinsics = np.array([[focal, 0, middle], [0, focal, middle], [0, 0, 1.0]])
    cameras = {}
    for name, places in angles.items():
        poses = np.stack([_pose(place, config.fov, world_from_normalised, up) for place in places])
        cameras[name] = Cameras(
            np.broadcast_to(intrinsics, (n_frames, 3, 3)),
            np.broadcast_to(poses, (n_frames, 4, 4)),
            config.size,
            config.size,
        )
    return Rig(cameras, world_from_normalised)


def _pose(
    place: tuple[float, float], fov: float, world_from_normalised: np.ndarray, up: str
) -> np.ndarray:
    """Returns the (4, 4) pose at azimuth and elevation, degrees, that looks at the sphere."""
    around, above = np.radians(place)
    level = np.cos(above)
    towards = np.array([level * np.sin(around), np.sin(above), level * np.cos(around)])
    axis = np.array([0.0, 1.0, 0.0])
    if up == "z":
        towards, axis = towards[[2, 0, 1]], axis[[2, 0, 1]]
    centre, scale = world_from_normalised[:3, 3], world_from_normalised[0, 0]
    return look_at(centre + scale / np.sin(np.radians(fov) / 2) * towards, centre, axis)


def unit_sphere(boxes: np.ndarray) -> np.ndarray:
    """Returns the (4, 4) ``scale_mat`` whose unit sphere holds all boxes (n, 2, 3), and some."""
    low, high = boxes[:, 0].min(axis=0), boxes[:, 1].max(axis=0)
    matrix = np.diag([*[1.03 * np.linalg.norm(high - low) / 2] * 3, 1.0])
    matrix[:3, 3] = (low + high) / 2
    return matrix


def read_rig(
    path: Path, frames: Sequence[int], n_all: int, world_from_normalised: np.ndarray
) -> Rig:
    """Reads cameras from a rig.json or from a capture in the ResFields layout.

    A camera has one pose, one for each of `frames`, or one for each of all frames of the sequence,
    of which those of `frames` are taken.

    Args:
        path: The file, or the capture's folder.
        frames: Positions of the frames to be rendered.
        n_all: How many frames the sequence has.
        world_from_normalised: (4, 4) unit sphere where a rig.json says nothing of it.

    Raises:
        CaptureError: The rig is missing or damaged, or has poses for another number of frames.
    """
    if path.is_dir():
        return _of_capture(path, frames, n_all)
    return _of_json(path, frames, n_all, world_from_normalised)


def to_json(rig: Rig) -> bytes:
    """Returns a rig as the JSON that `read_rig` reads; a camera that stands has one pose."""
    cameras = {}
    for name, each in rig.cameras.items():
        stands = np.ptp(each.world_from_camera, axis=0).max() == 0
        zooms = np.ptp(each.intrinsics, axis=0).max() > 0
        cameras[name] = {
            "width": each.width,
            "height": each.height,
            "intrinsics": (each.intrinsics if zooms else each.intrinsics[0]).tolist(),
            "world_from_camera": (
                each.world_from_camera[0] if stands else each.world_from_camera
            ).tolist(),
        }
    table = {"world_from_normalised": rig.world_from_normalised.tolist(), "cameras": cameras}
    return (json.dumps(table, indent=1) + "\n").encode()


def _of_json(path: Path, frames: Sequence[int], n_all: int, sphere: np.ndarray) -> Rig:
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        entries: Mapping[str, Any] = table["cameras"]
        if "world_from_normalised" in table:
            sphere = np.asarray(table["world_from_normalised"], np.float64).reshape(4, 4)
        cameras = {name: _camera(entry) for name, entry in entries.items()}
    except FileNotFoundError:
        raise CaptureError(f"{path}: no such rig; pass a rig.json or a capture's folder") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CaptureError(
            f'{path}: not a rig ({error}); expected {{"cameras": {{NAME: {{width, height, '
            "intrinsics (3x3), world_from_camera (4x4, or one a frame)}}}"
        ) from None
    if not cameras:
        raise CaptureError(f"{path}: no cameras in it")
    chosen = {
        name: _at_frames(each, frames, n_all, f"{path}: {name}") for name, each in cameras.items()
    }
    return Rig(chosen, sphere)


def _camera(entry: Mapping[str, Any]) -> Cameras:
    poses = np.asarray(entry["world_from_camera"], np.float64).reshape(-1, 4, 4)
    intrinsics = np.asarray(entry["intrinsics"], np.float64).reshape(-1, 3, 3)
    n_frames = max(len(poses), len(intrinsics))
    turned = poses[:, :3, :3] @ poses[:, :3, :3].transpose(0, 2, 1)
    if not np.allclose(turned, np.eye(3), atol=1e-4) or (np.linalg.det(poses) < 0).any():
        raise ValueError("world_from_camera is not a rotation and a translation")
    return Cameras(
        np.broadcast_to(intrinsics, (n_frames, 3, 3)),
        np.broadcast_to(poses, (n_frames, 4, 4)),
        int(entry["width"]),
        int(entry["height"]),
    )


def _of_capture(root: Path, frames: Sequence[int], n_all: int) -> Rig:
    cameras = {}
    file: CameraFile | None = None
    for folder in camera_folders(root):
        images = list_images(folder / "rgb")
        if not images:
            raise CaptureError(f"{folder / 'rgb'}: no images; their size is the cameras' size")
        height, width = read_rgba(images[0])[0].shape[:2]
        file = read_camera_file(find_camera_file(folder), len(images))
        found = file.cameras(range(len(images)), width, height)
        cameras[folder.name] = _at_frames(found, frames, n_all, str(folder))
    assert file is not None
    return Rig(cameras, file.scale_mats[0])


def _at_frames(cameras: Cameras, frames: Sequence[int], n_all: int, where: str) -> Cameras:
    n_poses = cameras.n_frames
    if n_poses == n_all:
        return cameras.frame_subset(list(frames))
    if n_poses == len(frames):
        return cameras
    if n_poses == 1:
        return cameras.frame_subset([0] * len(frames))
    raise CaptureError(
        f"{where}: {n_poses} poses for {len(frames)} frames of {n_all}; expected 1, "
        f"{len(frames)} or {n_all}"
    )
