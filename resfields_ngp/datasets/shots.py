"""The images of a transforms.json: where they are taken from, and one camera's as a view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..cameras import Cameras
from .base import CaptureConfig, CaptureError, View
from .images import check_size, read_depth, read_mask, read_rgba
from .lenses import Lens, read_lens

_WORLD_FROM_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])


@dataclass(frozen=True)
class Shot:
    """One image of a transforms.json."""

    where: str
    """What errors name: the file and the number of the frame."""
    image: Path
    """Its image."""
    time: float
    """When, in the file's own unit."""
    fields: dict[str, Any]
    """The frame's keys over the file's."""
    folder: Path
    """What paths are relative to."""

    @property
    def pose(self) -> np.ndarray:
        """The (4, 4) rigid `world_from_camera`, OpenCV axes.

        Raises:
            CaptureError: ``transform_matrix`` is not a rigid, finite matrix.
        """
        try:
            matrix = np.asarray(self.fields.get("transform_matrix"), np.float64)
        except (TypeError, ValueError):
            matrix = np.zeros(0)
        if matrix.shape not in ((4, 4), (3, 4)):
            raise CaptureError(f"{self.where}: transform_matrix is not 4x4")
        if not np.isfinite(matrix).all():
            raise CaptureError(f"{self.where}: transform_matrix has NaN or infinite entries")
        left, scales, right = np.linalg.svd(matrix[:3, :3])
        if np.abs(scales - 1).max() > 1e-2 or np.linalg.det(left @ right) < 0:
            raise CaptureError(
                f"{self.where}: transform_matrix does not turn and move only; expected a rotation "
                "without scale or mirror"
            )
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = left @ right, matrix[:3, 3]
        return pose @ _WORLD_FROM_OPENGL


def load_shots(name: str, shots: Sequence[Shot], config: CaptureConfig) -> View:
    """Returns a camera's footage, without lens distortion; image by image, since lenses differ.

    Args:
        name: Of the view.
        shots: Its images, one a frame.
        config: Whether masks and depths are wanted.

    Raises:
        CaptureError: A file is missing, damaged or of another size.
    """
    first, alpha = read_rgba(shots[0].image)
    height, width = first.shape[:2]
    images = np.empty((len(shots), height, width, 3), np.uint8)
    is_masked = config.use_masks and (alpha is not None or "mask_path" in shots[0].fields)
    masks = np.empty(images.shape[:3], bool) if is_masked else None
    depths = np.empty(images.shape[:3], np.uint16) if config.use_depth else None
    intrinsics = np.empty((len(shots), 3, 3))
    unseen: list[np.ndarray | None] = []
    for index, shot in enumerate(shots):
        image, alpha = read_rgba(shot.image)
        check_size(shot.image, image, width, height)
        lens = read_lens(shot.fields, width, height, shot.where)
        intrinsics[index] = lens.intrinsics
        images[index] = lens.undistort(image)
        unseen.append(lens.unseen(width, height))
        if masks is not None:
            masks[index] = _read_shot_mask(shot, alpha, lens, width, height)
        if depths is not None:
            depths[index] = _read_shot_depth(shot, lens, width, height)
    poses = np.stack([shot.pose for shot in shots])
    cameras = Cameras(intrinsics, poses, width, height)
    return View(name, cameras, images, masks, depths, unseen=_stacked(unseen, height, width))


def _read_shot_mask(
    shot: Shot, alpha: np.ndarray | None, lens: Lens, width: int, height: int
) -> np.ndarray:
    """Returns (H, W) bool from ``mask_path``, else from alpha: covered by half or more."""
    if "mask_path" in shot.fields:
        path = shot.folder / shot.fields["mask_path"]
        mask = read_mask(path)
        check_size(path, mask, width, height)
    elif alpha is not None:
        mask = alpha >= 128
    else:
        raise CaptureError(f"{shot.image}: no alpha and no mask_path; its view's others have masks")
    return lens.undistort(mask.astype(np.uint8), smooth=False) > 0


def _read_shot_depth(shot: Shot, lens: Lens, width: int, height: int) -> np.ndarray:
    """Returns (H, W) uint16 distances along the ray; the file's are along the optical axis.

    What is then beyond 16 bits is unknown.
    """
    name = shot.fields.get("depth_file_path", shot.fields.get("depth_path"))
    if name is None:
        raise CaptureError(f"{shot.where}: no depth_file_path; use_depth needs one in each frame")
    path = shot.folder / name
    depth = read_depth(path)
    check_size(path, depth, width, height)
    columns, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    inverse = np.linalg.inv(lens.intrinsics)
    lengths = np.hypot(
        1.0, np.hypot(inverse[0, 0] * columns + inverse[0, 2], inverse[1, 1] * rows + inverse[1, 2])
    )
    along_rays = np.round(lens.undistort(depth, smooth=False) * lengths)
    return np.where(along_rays > np.iinfo(np.uint16).max, 0, along_rays).astype(np.uint16)


def _stacked(maps: Sequence[np.ndarray | None], height: int, width: int) -> np.ndarray | None:
    """Returns maps (H, W) bool of all frames, (n_frames, H, W); the same one takes no memory."""
    if all(each is None for each in maps):
        return None
    filled = [np.zeros((height, width), bool) if each is None else each for each in maps]
    if all(each is filled[0] for each in filled):
        return np.broadcast_to(filled[0], (len(filled), height, width))
    return np.stack(filled)
