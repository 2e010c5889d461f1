"""Pictures of the synthetic figure: rays meet its round cones in closed form."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..cameras import Cameras
from .synthetic import Figure
from .synthetic_cones import RoundCone, hit_cone

LAMP = np.array([0.35, 0.8, 0.5]) / np.linalg.norm([0.35, 0.8, 0.5])
"""Direction towards the lamp, world."""


@dataclass(frozen=True)
class Picture:
    """What a camera sees of the figure."""

    rgb: np.ndarray
    """(H, W, 3) uint8, on black."""
    mask: np.ndarray
    """(H, W) bool: the figure covers half of the pixel or more."""
    depth: np.ndarray
    """(H, W) float64 distance along the ray through the pixel's centre, metres; 0 for a miss."""


def render_figure(
    figure: Figure, cameras: Cameras, frame: int, time: float, lit: bool, samples: int
) -> Picture:
    """Renders the figure at a time from a frame's camera.

    Args:
        figure: What is seen.
        cameras: Where from.
        frame: Which of the cameras.
        time: When, in [0, 1].
        lit: Shades by a lamp: colour times 0.5 + 0.5 max(0, n.l).
        samples: Rays across and down each pixel that are averaged.
    """
    fine = cameras.resized(samples)
    hits, parts, directions = _cast(figure.cones(time), fine, frame)
    seen = np.isfinite(hits)
    points = fine.world_from_camera[frame][:3, 3] + hits[seen][:, None] * directions[seen]
    colours = figure.colours(points, parts[seen], time)
    if lit:
        facing = np.maximum(figure.normals(points, time) @ LAMP, 0.0)
        colours = colours * (0.5 + 0.5 * facing)[:, None]
    image = np.zeros((*seen.shape, 3))
    image[seen] = colours
    blocks = (cameras.height, samples, cameras.width, samples)
    cover = seen.reshape(blocks).mean(axis=(1, 3))
    rgb = image.reshape(*blocks, 3).mean(axis=(1, 3))
    depth = _cast(figure.cones(time), cameras, frame)[0]
    return Picture(
        rgb=np.round(255 * rgb).astype(np.uint8),
        mask=cover >= 0.5,
        depth=np.where(np.isfinite(depth), depth, 0.0),
    )


def _cast(
    cones: list[RoundCone], cameras: Cameras, frame: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns hit distances (H, W), infinite for a miss, hit parts (H, W) and directions."""
    pixels = np.stack(
        np.meshgrid(np.arange(cameras.width) + 0.5, np.arange(cameras.height) + 0.5), axis=-1
    )
    inverse = np.linalg.inv(cameras.intrinsics[frame])
    pose = cameras.world_from_camera[frame]
    directions = (pixels @ inverse[:, :2].T + inverse[:, 2]) @ pose[:3, :3].T
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    hits = np.full(pixels.shape[:2], np.inf)
    parts = np.full(pixels.shape[:2], -1)
    for index, cone in enumerate(cones):
        window = _window(cone, cameras, frame)
        rays = directions[window]
        found = hit_cone(cone, pose[:3, 3], rays.reshape(-1, 3)).reshape(rays.shape[:2])
        nearer = found < hits[window]
        hits[window] = np.where(nearer, found, hits[window])
        parts[window] = np.where(nearer, index, parts[window])
    return hits, parts, directions


def _window(cone: RoundCone, cameras: Cameras, frame: int) -> tuple[slice, slice]:
    """Returns rows and columns of the image that hold all of a cone, and a little more."""
    pixels, depths = cameras.project(np.stack([cone.start, cone.end]), frame)
    radii = np.array([cone.start_radius, cone.end_radius])
    if (depths <= 2 * radii).any():
        return slice(None), slice(None)
    # Off the optical axis a ball's picture is longer than f r / z; the image's corners bound it.
    intrinsics = cameras.intrinsics[frame]
    corner = np.hypot(cameras.width / intrinsics[0, 0], cameras.height / intrinsics[1, 1])
    reach = intrinsics[0, 0] * radii / (depths - radii) * np.hypot(1.0, corner) + 2
    low = np.floor((pixels - reach[:, None]).min(axis=0)).astype(int).clip(0)
    high = np.ceil((pixels + reach[:, None]).max(axis=0)).astype(int).clip(0)
    return slice(low[1], high[1]), slice(low[0], high[0])
