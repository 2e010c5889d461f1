"""Where the subject is, for captures that do not say: the ball that all cameras look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..cameras import Cameras
from .base import CaptureError


def place_unit_sphere(
    fields: Mapping[str, Any], cameras: Sequence[Cameras], where: str
) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns the (4, 4) `world_from_normalised` and the (2, 3) normalised box, or None.

    The first of these that applies:

    1. ``aabb``: [[x, y, z], [x, y, z]] in world units. The sphere has the box's centre and half
       its longest edge as radius, and the box is kept.
    2. ``scale`` and ``offset`` (instant-ngp): its unit cube, ``scale * x + offset`` in [0, 1]^3,
       grown about its centre by ``aabb_scale``, becomes [-1, 1]^3.
    3. The point nearest to all optical axes (least squares) is the centre; the radius is the
       largest that a camera sees whole: distance times the sine of half the wider field of view,
       the median over all cameras and frames. Cameras that follow a subject look at another point
       at each frame: the sphere then holds those of all frames.

    Raises:
        CaptureError: A key does not hold what it should, or the cameras do not look at one place.
    """
    if "aabb" in fields:
        box = _numbers(fields["aabb"], (2, 3), f"{where}: aabb")
        if not (box[0] < box[1]).all():
            raise CaptureError(f"{where}: aabb {box.tolist()} is empty; expected low, then high")
        centre, radius = box.mean(axis=0), float((box[1] - box[0]).max() / 2)
        return _similarity(centre, radius), (box - centre) / radius
    if "scale" in fields and "offset" in fields:
        scale = float(_numbers(fields["scale"], (), f"{where}: scale"))
        offset = _numbers(fields["offset"], (3,), f"{where}: offset")
        grown = float(_numbers(fields.get("aabb_scale", 1), (), f"{where}: aabb_scale"))
        if scale <= 0 or grown <= 0:
            raise CaptureError(f"{where}: scale is {scale}; expected a number above 0")
        return _similarity((0.5 - offset) / scale, 0.5 * grown / scale), None
    return _similarity(*_seen_sphere(cameras, where)), None


def _seen_sphere(cameras: Sequence[Cameras], where: str) -> tuple[np.ndarray, float]:
    """Returns the centre and radius of what the cameras look at, whenever that is."""
    poses = np.stack([each.world_from_camera for each in cameras], axis=1)
    sines = np.stack([_widest_sine(each) for each in cameras], axis=1)
    if not _tell_depth(poses.reshape(-1, 4, 4)):
        raise CaptureError(f"{where}: the cameras look the same way, so where is unknown; add aabb")
    centre, radius, is_ahead = _common_target(poses.reshape(-1, 4, 4), sines.ravel())
    if not is_ahead:
        raise CaptureError(
            f"{where}: the cameras look away from each other; add aabb, or check the matrices "
            "(camera to world, OpenGL axes: x right, y up, z backward)"
        )
    if not all(_tell_depth(frame) for frame in poses):
        return centre, radius
    centres, radii, _ = zip(*map(_common_target, poses, sines), strict=True)
    middle = (np.min(centres, axis=0) + np.max(centres, axis=0)) / 2
    return middle, float((np.linalg.norm(centres - middle, axis=1) + radii).max())


def _tell_depth(poses: np.ndarray) -> bool:
    """Returns whether cameras (N, 4, 4) look in different enough directions to meet somewhere."""
    return bool(np.linalg.eigvalsh(_across(poses).sum(axis=0))[0] >= 1e-3 * len(poses))


def _across(poses: np.ndarray) -> np.ndarray:
    """Returns the (N, 3, 3) projections along the optical axes of cameras (N, 4, 4)."""
    axes = poses[:, :3, 2]
    return np.eye(3) - axes[:, :, None] * axes[:, None, :]


def _common_target(
    poses: np.ndarray,  # (N, 4, 4) world_from_camera
    sines: np.ndarray,  # (N,) of half the fields of view
) -> tuple[np.ndarray, float, bool]:
    """Returns what the cameras look at: the centre, the radius, and whether it is before them."""
    eyes, across = poses[:, :3, 3], _across(poses)
    centre = np.linalg.solve(across.sum(axis=0), (across @ eyes[:, :, None]).sum(axis=0)[:, 0])
    ahead = np.einsum("ni,ni->n", centre - eyes, poses[:, :3, 2])
    distances = np.linalg.norm(centre - eyes, axis=1)
    return centre, float(np.median(distances * sines)), bool(np.median(ahead) > 0)


def _widest_sine(cameras: Cameras) -> np.ndarray:
    """Returns the sine of half the wider field of view at each frame."""
    focal_x, focal_y = cameras.intrinsics[:, 0, 0], cameras.intrinsics[:, 1, 1]
    tangents = np.maximum(cameras.width / (2 * focal_x), cameras.height / (2 * focal_y))
    return np.sin(np.arctan(tangents))


def _similarity(centre: np.ndarray, radius: float) -> np.ndarray:
    matrix = np.diag([radius, radius, radius, 1.0])
    matrix[:3, 3] = centre
    return matrix


def _numbers(value: Any, shape: tuple[int, ...], what: str) -> np.ndarray:
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        array = np.array(np.nan)
    if array.shape != shape or not np.isfinite(array).all():
        raise CaptureError(f"{what} is {value!r}; expected finite numbers of shape {shape}")
    return array
