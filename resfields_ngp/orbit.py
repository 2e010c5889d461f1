"""A ride around the subject while time runs, as high and far as the capture's cameras are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .cameras import Cameras, look_at
from .model_space import ModelSpace


def orbit(
    cameras: Sequence[Cameras],
    space: ModelSpace,
    n_pictures: int,
    size: int,
) -> list[tuple[Cameras, int]]:
    """Plans a full turn around the subject; time runs through the sequence and back once.

    The camera follows the subject's box. Its height, distance and field of view are the means of
    the capture's cameras, its up the mean of theirs.

    Args:
        cameras: The capture's cameras, world units.
        space: Where model space lies; the box's middle is looked at.
        n_pictures: Pictures along the turn.
        size: Longer side of the pictures, pixels.

    Returns:
        For each picture the camera, valid at every frame, and the frame.
    """
    n_frames = len(space.offsets)
    middle = np.array([[0.5, 0.5, 0.5]])
    centres = np.concatenate([space.to_world(middle, frame) for frame in range(n_frames)])
    eyes = np.stack([c.world_from_camera[:, :3, 3].mean(0) for c in cameras])
    arms = eyes - centres.mean(0)
    up = mean_up(cameras)
    heights = arms @ up
    radius = np.linalg.norm(arms - heights[:, None] * up, axis=1).mean()
    # The turn begins at the first camera, so that its first picture resembles a photograph.
    ahead = arms[0] - heights[0] * up
    if np.linalg.norm(ahead) < 1e-6 * radius or radius == 0:
        ahead = np.cross(up, np.eye(3)[np.argmin(np.abs(up))])
    ahead = ahead / np.linalg.norm(ahead)
    right = np.cross(up, ahead)
    shape = (n_frames, 1, 1)
    ride = []
    for picture in range(n_pictures):
        angle = 2 * np.pi * picture / n_pictures
        frame = there_and_back(picture, n_pictures, n_frames)
        arm = radius * (np.cos(angle) * ahead + np.sin(angle) * right) + heights.mean() * up
        pose = look_at(centres[frame] + arm, centres[frame], up)
        ride.append((_posed(cameras, pose, size, shape), frame))
    return ride


def mean_up(cameras: Sequence[Cameras]) -> np.ndarray:
    """Returns the (3,) unit world direction that is up in most cameras."""
    ups = -np.concatenate([c.world_from_camera[:, :3, 1] for c in cameras]).mean(0)
    length = np.linalg.norm(ups)
    return ups / length if length > 1e-6 else np.array([0.0, 1.0, 0.0])


def there_and_back(picture: int, n_pictures: int, n_frames: int) -> int:
    """Returns the frame of a picture: up to the last frame by half time, then back.

    >>> [there_and_back(i, 8, 5) for i in range(8)]
    [0, 1, 2, 3, 4, 3, 2, 1]
    """
    part = 2 * picture / n_pictures
    return round((n_frames - 1) * (part if part <= 1 else 2 - part))


def _posed(cameras: Sequence[Cameras], pose: np.ndarray, size: int, shape: tuple) -> Cameras:
    """Returns a camera at a pose with the mean field of view and the first camera's proportions."""
    first = cameras[0]
    scale = size / max(first.width, first.height)
    width, height = max(2, round(first.width * scale)), max(2, round(first.height * scale))
    # The focal length in heights does not depend on the resolution of each camera.
    focal = np.mean([c.intrinsics[:, 1, 1].mean() / c.height for c in cameras]) * height
    intrinsics = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])
    return Cameras(np.tile(intrinsics, shape), np.tile(pose, shape), width, height)
