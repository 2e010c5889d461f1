"""The synthetic figure as a capture in the ResFields layout: images, masks, depths, clouds."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from ..cameras import Cameras, look_at
from ..records import frame_time
from ..writing import write_whole
from .layout import CAMERA_FILE, write_cameras, write_cloud, write_depth, write_png
from .synthetic import Figure
from .synthetic_rendering import render_figure


@dataclass(frozen=True)
class SyntheticConfig:
    """A textured figure with limbs that walks and waves."""

    n_frames: int = 12
    """Frames in the sequence, 1 or more."""
    n_cameras: int = 9
    """Training cameras in a ring about the figure, 1 or more."""
    size: int = 200
    """Width and height of the images, pixels."""
    fov: float = 36.0
    """Field of view of the cameras, degrees."""
    samples: int = 2
    """Rays across and down each pixel that are averaged."""
    texture: Literal["cloth", "white"] = "cloth"
    """What the figure wears; white is unlit too: nothing but the outline tells its shape."""
    lamp: bool = True
    """Shade by a fixed lamp; otherwise colours are the texture's own."""
    test_sweep: float = 20.0
    """How far the held-out camera moves around the figure over the sequence, degrees."""
    walk: float = 0.6
    """How far the figure walks, metres."""
    strides: float = 1.0
    """Walking cycles over the sequence."""
    n_points: int = 50_000
    """Points in each frame's ground-truth cloud."""
    seed: int = 0
    """Draws the clouds' points."""

    def __post_init__(self) -> None:
        for name in ("n_frames", "n_cameras", "size", "samples", "n_points"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 1 or more")
        if not 1 <= self.fov <= 120:
            raise ValueError(f"fov is {self.fov}; expected 1 to 120 degrees")
        if self.texture not in ("cloth", "white"):
            raise ValueError(f'texture is "{self.texture}"; allowed: cloth, white')

    @property
    def figure(self) -> Figure:
        """The figure that the capture shows."""
        return Figure(self.walk, self.strides, self.texture)

    @property
    def is_lit(self) -> bool:
        """True where the lamp shades the figure."""
        return self.lamp and self.texture != "white"


def write_synthetic(
    config: SyntheticConfig, out: Path, report: Callable[[int, int], None] | None = None
) -> Path:
    """Writes the capture; the same config gives the same files.

    Args:
        config: What to write.
        out: The capture's folder; files in it are replaced.
        report: Called with the images written so far and their number.

    Returns:
        The folder.

    Raises:
        OSError: The folder is not writable or the disk is full.
    """
    world_from_normalised = normalised_space(config)
    rig = camera_rig(config, world_from_normalised)
    total, done = config.n_frames * len(rig), 0
    for name, cameras in rig.items():
        write_cameras(out / name / CAMERA_FILE, cameras, world_from_normalised)
        for frame in range(config.n_frames):
            _write_picture(config, cameras, frame, out / name)
            done += 1
            if report is not None:
                report(done, total)
    for frame in range(config.n_frames):
        _write_cloud(config, frame, world_from_normalised, out / "cloud" / f"{frame:06d}.ply")
    settings = {"units": "metres", "up": "+y", **asdict(config)}
    write_whole(out / "capture.json", (json.dumps(settings, indent=1) + "\n").encode())
    return out


def normalised_space(config: SyntheticConfig) -> np.ndarray:
    """Returns the (4, 4) ``scale_mat``: the unit sphere holds the figure at all frames."""
    times = [frame_time(frame, config.n_frames) for frame in range(config.n_frames)]
    boxes = np.stack([config.figure.bounds(time) for time in times])
    low, high = boxes[:, 0].min(axis=0), boxes[:, 1].max(axis=0)
    matrix = np.diag([*[1.03 * np.linalg.norm(high - low) / 2] * 3, 1.0])
    matrix[:3, 3] = (low + high) / 2
    return matrix


def camera_rig(config: SyntheticConfig, world_from_normalised: np.ndarray) -> dict[str, Cameras]:
    """Returns the cameras by name: a ring for training and a held-out one that moves.

    Each sees the whole unit sphere; elevations alternate between 8 and 20 degrees.
    """
    rig = {
        f"cam_train_{index}": [(360.0 * index / config.n_cameras, 8.0 if index % 2 == 0 else 20.0)]
        for index in range(config.n_cameras)
    }
    sweep = [frame_time(i, config.n_frames) - 0.5 for i in range(config.n_frames)]
    rig["cam_test"] = [(60.0 + config.test_sweep * share, 14.0) for share in sweep]
    focal = config.size / (2 * np.tan(np.radians(config.fov) / 2))
    middle = config.size / 2
    intrinsics = np.array([[focal, 0, middle], [0, focal, middle], [0, 0, 1.0]])
    cameras = {}
    for name, angles in rig.items():
        poses = np.stack([_pose(*each, config.fov, world_from_normalised) for each in angles])
        poses = np.broadcast_to(poses, (config.n_frames, 4, 4))
        repeated = np.broadcast_to(intrinsics, (config.n_frames, 3, 3))
        cameras[name] = Cameras(repeated, poses, config.size, config.size)
    return cameras


def _pose(
    azimuth: float, elevation: float, fov: float, world_from_normalised: np.ndarray
) -> np.ndarray:
    """Returns the (4, 4) `world_from_camera` that looks at the unit sphere; angles in degrees."""
    around, above = np.radians(azimuth), np.radians(elevation)
    towards = np.array(
        [np.cos(above) * np.sin(around), np.sin(above), np.cos(above) * np.cos(around)]
    )
    centre, scale = world_from_normalised[:3, 3], world_from_normalised[0, 0]
    distance = scale / np.sin(np.radians(fov) / 2)
    return look_at(centre + distance * towards, centre, np.array([0.0, 1.0, 0.0]))


def _write_picture(config: SyntheticConfig, cameras: Cameras, frame: int, folder: Path) -> None:
    time = frame_time(frame, config.n_frames)
    picture = render_figure(
        config.figure, cameras, frame, time, lit=config.is_lit, samples=config.samples
    )
    name = f"{frame:06d}.png"
    write_png(folder / "rgb" / name, picture.rgb)
    write_png(folder / "mask" / name, picture.mask.astype(np.uint8) * 255)
    write_depth(folder / "depth" / name, picture.depth)


def _write_cloud(
    config: SyntheticConfig, frame: int, world_from_normalised: np.ndarray, path: Path
) -> None:
    """Writes points of the visible surface, uniform by area, in the normalised space."""
    time = frame_time(frame, config.n_frames)
    random = np.random.default_rng((config.seed, frame))
    points, _ = config.figure.sample(config.n_points, time, random)
    normalised = (points - world_from_normalised[:3, 3]) / world_from_normalised[0, 0]
    write_cloud(path, normalised, config.figure.normals(points, time))
