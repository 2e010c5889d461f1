"""What every dataset gives: a `Capture`, views with uint8 images and a camera a frame, in world."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..cameras import Cameras

MILLI = 0.001
"""World units per step of depth images whose capture does not say."""


class CaptureError(ValueError):
    """The capture on disk is not usable: one line with file, what was found, what is allowed."""


@dataclass(frozen=True)
class CaptureConfig:
    """Which capture, and which part of it."""

    path: str = ""
    """Folder (ResFields layout) or transforms.json of the capture."""
    kind: str = "auto"
    """Layout: auto, owlii (ResFields folders), transforms (json with times) or neus (one frame)."""
    cameras: tuple[str, ...] = ()
    """Training cameras by name, e.g. cam_train_1,cam_train_3; empty: all but the test camera."""
    test_camera: str = "cam_test"
    """Held-out camera, never trained on; empty for none. Only the default one may be absent."""
    frames: str = "::"
    """Frames to use, as start:stop:stride over the files in the order of their names' numbers."""
    use_masks: bool = True
    """Use the masks where the capture has them; where it has none but a plain backdrop, what
    differs from that is the subject."""
    use_depth: bool = False
    """Use the depth images where the capture has them (RGB-D)."""
    depth_scale: float = 0.0
    """World units per step of the stored depths: 0.001 for millimetres where the world is in
    metres, 1 where both have one unit. 0 takes the file's own (integer_depth_scale), else 0.001."""

    def __post_init__(self) -> None:
        if not 0 <= self.depth_scale < math.inf:
            raise ValueError(f"capture.depth_scale is {self.depth_scale}; allowed: 0 or more")


@dataclass(frozen=True)
class View:
    """One camera's footage."""

    name: str
    """Folder or camera name."""
    cameras: Cameras
    """Where the camera is at each frame; world units."""
    images: np.ndarray
    """(n_frames, H, W, 3) uint8 RGB."""
    masks: np.ndarray | None
    """(n_frames, H, W) bool, True on the subject; None without masks."""
    depths: np.ndarray | None = None
    """(n_frames, H, W) uint16 distance along the ray in steps of `Capture.depth_scale`; 0 where
    unknown."""
    doubts: np.ndarray | None = None
    """(n_frames, H, W) bool, True off the mask where it may be wrong: neither subject nor
    background; None where every mask is trusted."""
    unseen: np.ndarray | None = None
    """(n_frames, H, W) bool, True where a straightened image shows nothing that its lens saw: as
    little is known there as outside the picture; None where all is seen. Masks are False there."""

    @property
    def untrusted(self) -> np.ndarray | None:
        """(n_frames, H, W) bool, what neither images nor masks tell of; None where all is told."""
        if self.doubts is None or self.unseen is None:
            return self.unseen if self.doubts is None else self.doubts
        return self.doubts | self.unseen

    def unseen_at(self, frame: int) -> np.ndarray | None:
        """Returns (H, W) bool where a frame's image shows nothing; None where all is seen."""
        return None if self.unseen is None else self.unseen[frame]

    def seen_at(self, frame: int) -> np.ndarray | None:
        """Returns (H, W) bool where a frame's image shows anything; None where all is seen."""
        return None if self.unseen is None else ~self.unseen[frame]

    def blanked(self, picture: np.ndarray, frame: int) -> np.ndarray:
        """Returns a picture (H, W, ...), with 0 where the frame's image shows nothing."""
        unseen = self.unseen_at(frame)
        if unseen is None:
            return picture
        blanked = picture.copy()
        blanked[unseen] = 0
        return blanked


@dataclass(frozen=True)
class Capture:
    """A multi-view sequence of something that moves."""

    name: str
    """The folder's name."""
    views: tuple[View, ...]
    """Training cameras."""
    test_view: View | None
    """The held-out camera."""
    frame_numbers: tuple[int, ...]
    """The capture's own index of each frame used (position among the files in order)."""
    world_from_normalised: np.ndarray
    """(4, 4) float64 similarity from the unit sphere's space to the world (``scale_mat``)."""
    bounds: np.ndarray | None = None
    """(2, 3) normalised corners of the subject's box (``aabb.txt``); None takes [-1, 1]^3."""
    clouds: tuple[Path, ...] = ()
    """Ground-truth points of each frame used, normalised space; empty without."""
    depth_scale: float = MILLI
    """World units per step of the depth images."""
    warnings: tuple[str, ...] = field(default=())
    """What was repaired on loading, one sentence each."""

    @property
    def n_frames(self) -> int:
        """The number of frames."""
        return len(self.frame_numbers)

    @property
    def all_views(self) -> tuple[View, ...]:
        """The training cameras, then the held-out one if there is one."""
        return self.views if self.test_view is None else (*self.views, self.test_view)

    @property
    def has_masks(self) -> bool:
        """True where every training view has masks."""
        return all(view.masks is not None for view in self.views)


def check_masks(
    views: Sequence[View], test: View | None, frames: Sequence[int], where: str
) -> list[str]:
    """Checks that every frame's subject is seen; returns a warning for each view that lacks it.

    Args:
        views: Training cameras.
        test: The held-out camera.
        frames: The frames' numbers.
        where: What an error names: the capture.

    Raises:
        CaptureError: A frame's mask is empty in all views, or only some cameras have masks.
    """
    masked = [view for view in views if view.masks is not None]
    if not masked:
        return []
    if len(masked) < len(views):
        bare = next(view.name for view in views if view.masks is None)
        raise CaptureError(
            f"{where}: camera {bare} has no masks but {masked[0].name} has; "
            "expected all or none (capture.use_masks = false ignores them)"
        )
    seen = np.stack([view.masks.any(axis=(1, 2)) for view in masked if view.masks is not None])
    if not seen.any(axis=0).all():
        frame = list(frames)[int(np.argmin(seen.any(axis=0)))]
        raise CaptureError(
            f"{where}: the masks of frame {frame} are empty in all {len(views)} training cameras; "
            "mend them or leave the frame out with frames"
        )
    notes = [
        f"{view.name}: the mask of frame {frame} is empty"
        for view, sees in zip(masked, seen, strict=True)
        for frame, is_seen in zip(frames, sees, strict=True)
        if not is_seen
    ]
    if test is not None and test.masks is None:
        notes.append(
            f"{test.name}: held out without masks: scored with its background, which is not fitted"
        )
    return notes
