"""What every calibration gives: views of a scene with OpenCV cameras, not read yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

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
    """OpenCV's k1, k2, p1, p2, k3; empty without."""

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
