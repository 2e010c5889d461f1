"""What every calibration gives: views of a scene with OpenCV cameras, not read yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ...datasets.base import CaptureError
from ...datasets.images import IMAGE_SUFFIXES, list_images

VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv")


@dataclass(frozen=True)
class FootageView:
    """One camera's footage, not read yet."""

    name: str
    """The camera's name."""
    images: tuple[Path, ...]
    """One image a frame, or a single video."""
    masks: tuple[Path, ...] | None
    """One mask a frame; None without."""
    intrinsics: np.ndarray
    """(n or 1, 3, 3) pixels, for `width` x `height`."""
    poses: np.ndarray
    """(n or 1, 4, 4) `world_from_camera`."""
    width: int
    """Pixels across that the intrinsics are for; 0: the images'."""
    height: int
    """Pixels down."""
    distortion: tuple[float, ...] = ()
    """OpenCV's coefficients, as a `Lens` has them; empty without."""
    is_fisheye: bool = False
    """True where they are those of OpenCV's fisheye."""

    @property
    def is_video(self) -> bool:
        """True where one file holds all frames."""
        return len(self.images) == 1 and self.images[0].suffix.lower() in VIDEO_SUFFIXES

    def at(self, frames: Sequence[int]) -> FootageView:
        """Returns the same view at some frames only; a video keeps all of its own."""
        rows = list(frames)
        return replace(
            self,
            images=self.images if self.is_video else tuple(self.images[row] for row in rows),
            masks=None if self.masks is None else tuple(self.masks[row] for row in rows),
            intrinsics=self.intrinsics[rows] if len(self.intrinsics) > 1 else self.intrinsics,
            poses=self.poses[rows] if len(self.poses) > 1 else self.poses,
        )


@dataclass(frozen=True)
class Footage:
    """All cameras, and what the calibration says of where the subject is."""

    views: tuple[FootageView, ...]
    """In the order of the calibration."""
    place: dict[str, Any]
    """``aabb``, or ``scale`` and ``offset``, as `datasets.placement` reads them; may be empty."""
    remarks: tuple[str, ...] = ()
    """What the user should know: what was left out, or chosen among several."""


def files_of(
    root: Path, camera: str, images: str, masks: str
) -> tuple[tuple[Path, ...], tuple[Path, ...] | None]:
    """Returns the images, or the video, and the masks of a camera; empty without footage."""
    videos = [root / images / f"{camera}{suffix}" for suffix in VIDEO_SUFFIXES]
    stored = list_images(root / images / camera) or [path for path in videos if path.is_file()]
    cut_out = list_images(root / masks / camera)
    if cut_out and len(stored) > 1 and len(cut_out) != len(stored):
        raise CaptureError(
            f"{root / masks / camera}: {len(cut_out)} masks for {len(stored)} images; expected "
            "one each"
        )
    return tuple(stored), tuple(cut_out) or None


def names_in(folder: Path) -> list[str]:
    """Returns the cameras that a folder has footage of: folders of images, and videos."""
    if not folder.is_dir():
        return []
    return sorted(
        {
            path.name if path.is_dir() else path.stem
            for path in folder.iterdir()
            if (path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()) or list_images(path)
        }
    )


def folder_in_use(root: Path, *folders: str) -> str:
    """Returns the first of some folders that has footage in it, or the first of all."""
    return next((each for each in folders if names_in(root / each)), folders[0])


def count_frames(view: FootageView) -> int:
    """Returns how many frames a view has.

    Raises:
        CaptureError: It is a video that cannot be read, or that has another number of masks.
    """
    if not view.is_video:
        return len(view.images)
    n_frames = int(cv2.VideoCapture(str(view.images[0])).get(cv2.CAP_PROP_FRAME_COUNT))
    if n_frames < 1:
        raise CaptureError(f"{view.images[0]}: not a video that can be read")
    if view.masks is not None and len(view.masks) != n_frames:
        raise CaptureError(
            f"{view.images[0]}: {n_frames} frames and {len(view.masks)} masks; expected one each"
        )
    return n_frames


def checked_views(views: Sequence[FootageView], folder: Path) -> tuple[FootageView, ...]:
    if not views:
        kinds = ", ".join(IMAGE_SUFFIXES)
        raise CaptureError(f"{folder}: no footage of any camera; expected <camera>/*{kinds}")
    counts = {view.name: len(view.images) for view in views if not view.is_video}
    for name, count in counts.items():
        first, expected = next(iter(counts.items()))
        if count != expected:
            raise CaptureError(
                f"{folder / name}: {count} images where {first} has {expected}; expected one a "
                "frame in every camera"
            )
    return tuple(views)


def pose_of(turn: np.ndarray, place: np.ndarray) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = turn, place
    return pose
