"""One camera's footage into a capture: lens straightened, scaled, masks given or made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ..cameras import Cameras
from ..datasets.base import CaptureError
from ..datasets.images import read_mask, read_rgba
from ..datasets.lenses import Lens
from .calibrations import FootageView
from .folder import CaptureFolder
from .matting import MattingConfig, mask_from_plate, read_plate


@dataclass(frozen=True)
class ViewJob:
    """One camera's footage to write."""

    view: FootageView
    """Its frames: those chosen, or a video of all."""
    name: str
    """What it is called in the capture."""
    frames: tuple[int, ...]
    """Positions of the chosen frames, for videos."""
    size: tuple[int, int]
    """Width and height to write."""
    matting: MattingConfig
    """Where masks come from."""
    out: Path
    """The capture."""


def write_view(job: ViewJob) -> float | None:
    """Writes a camera's images and masks, but for those that are there.

    Returns:
        The mean share of the image that masks cover; None without masks.

    Raises:
        CaptureError: An image, a mask or a plate cannot be read, or differs in size.
        OSError: The folder is not writable or the disk is full.
    """
    folder = CaptureFolder(job.out)
    source = _source(job)
    channels = ("rgb",) if source == "none" else ("rgb", "mask")
    missing = {i for i in range(len(job.frames)) if not folder.has(job.name, i, channels)}
    plate = None
    if source == "plates" and missing:
        plate = read_plate(Path(job.matting.plates), job.view.name)
    for index, image, alpha in _images(job.view, job.frames, missing):
        lens = _lens(job.view, index, (image.shape[1], image.shape[0]))
        mask = _mask(job, index, source, image, alpha, plate)
        image = _resized(lens.undistort(image), job.size)
        if mask is not None:
            straight = lens.undistort(mask.astype(np.uint8), smooth=False)
            mask = _resized(straight * 255, job.size) >= 128
        folder.write(job.name, index, image, mask)
    if source == "none":
        return None
    masks = (read_mask(folder.file(job.name, "mask", i)) for i in range(len(job.frames)))
    return float(np.mean([mask.mean() for mask in masks]))


def _first_size(view: FootageView) -> tuple[int, int]:
    """Returns the width and height of the view's own images."""
    if view.is_video:
        video = cv2.VideoCapture(str(view.images[0]))
        return int(video.get(cv2.CAP_PROP_FRAME_WIDTH)), int(video.get(cv2.CAP_PROP_FRAME_HEIGHT))
    image, _ = read_rgba(view.images[0])
    return image.shape[1], image.shape[0]


def view_job(
    view: FootageView,
    name: str,
    frames: list[int],
    longest: int,
    matting: MattingConfig,
    out: Path,
) -> ViewJob:
    """Returns the job of writing a view.

    Args:
        view: Its frames: those chosen, or a video of all.
        name: What it is called in the capture.
        frames: Positions of the chosen frames.
        longest: Longer side to scale down to, pixels; 0 keeps the images' size.
        matting: Where masks come from.
        out: The capture.
    """
    width, height = _first_size(view)
    share = min(1.0, (longest or max(width, height)) / max(width, height))
    size = (max(1, round(width * share)), max(1, round(height * share)))
    return ViewJob(view, name, tuple(frames), size, matting, out)


def cameras_of(job: ViewJob, n_frames: int) -> Cameras:
    """Returns the cameras of the images as they are written."""
    lenses = [_lens(job.view, index, job.size).intrinsics for index in range(n_frames)]
    poses = np.broadcast_to(job.view.poses, (n_frames, 4, 4))
    return Cameras(np.stack(lenses), poses, *job.size)


def unseen_of(job: ViewJob, n_frames: int) -> np.ndarray | None:
    """Returns where an image as it is written shows nothing of the lens, at whichever frame.

    Returns:
        (H, W) bool; None where all images are whole.
    """
    if not job.view.distortion:
        return None
    size, n_lenses = _first_size(job.view), min(len(job.view.intrinsics), n_frames)
    lenses = [_lens(job.view, index, size) for index in range(n_lenses)]
    found = [each for lens in lenses if (each := lens.unseen(*size)) is not None]
    if not found:
        return None
    # A pixel of a smaller image mixes those of the original: none of them may be unseen.
    return _resized(np.logical_or.reduce(found).astype(np.float32), job.size) > 0


def _lens(view: FootageView, index: int, size: tuple[int, int]) -> Lens:
    """Returns a frame's lens for images of a size."""
    intrinsics = view.intrinsics[index if len(view.intrinsics) > 1 else 0]
    width, height = view.width or size[0], view.height or size[1]
    if not (view.width and view.height):
        width, height = _first_size(view)
    # Half a pixel either way is rounding of a scaled size.
    if abs(size[0] / width - size[1] / height) > max(1 / width, 1 / height):
        raise CaptureError(
            f"{view.images[0]}: images of {size[0]} x {size[1]}, calibrated for "
            f"{width} x {height}; expected the same shape"
        )
    stretch = np.diag([size[0] / width, size[1] / height, 1.0])
    return Lens(stretch @ intrinsics, view.distortion, view.is_fisheye)


def _source(job: ViewJob) -> str:
    """Returns where a view's masks come from."""
    if job.matting.source != "auto":
        return job.matting.source
    if job.matting.plates:
        return "plates"
    if job.view.masks is not None:
        return "files"
    has_alpha = not job.view.is_video and read_rgba(job.view.images[0])[1] is not None
    return "alpha" if has_alpha else "none"


def _images(
    view: FootageView, frames: tuple[int, ...], missing: set[int]
) -> Iterator[tuple[int, np.ndarray, np.ndarray | None]]:
    """Yields the index, image and alpha of the frames that are missing."""
    if not view.is_video:
        for index in sorted(missing):
            yield index, *read_rgba(view.images[index])
        return
    video = cv2.VideoCapture(str(view.images[0]))
    wanted = {frame: index for index, frame in enumerate(frames) if index in missing}
    for frame in range(max(wanted, default=-1) + 1):
        grabbed, image = video.read() if frame in wanted else (video.grab(), None)
        if not grabbed:
            raise CaptureError(f"{view.images[0]}: ends after {frame} frames; copy it again")
        if image is not None:
            yield wanted[frame], cv2.cvtColor(image, cv2.COLOR_BGR2RGB), None


def _mask(
    job: ViewJob,
    index: int,
    source: str,
    image: np.ndarray,
    alpha: np.ndarray | None,
    plate: np.ndarray | None,
) -> np.ndarray | None:
    """Returns a frame's (H, W) mask as the image is, before its lens is straightened."""
    where = job.view.images[0 if job.view.is_video else index]
    if source == "none":
        return None
    if source == "alpha":
        if alpha is None:
            raise CaptureError(f"{where}: no alpha; --matting.source files|plates|none")
        return alpha >= 128
    if source == "plates":
        assert plate is not None
        if plate.shape != image.shape:
            raise CaptureError(
                f"{where}: {image.shape[1]} x {image.shape[0]} pixels; its plate has "
                f"{plate.shape[1]} x {plate.shape[0]}"
            )
        return mask_from_plate(image, plate, job.matting)
    if job.view.masks is None:
        raise CaptureError(f"{where}: {job.view.name} has no masks; --matting.source plates|none")
    path = job.view.masks[index]
    given = read_mask(path)
    if given.shape != image.shape[:2]:
        raise CaptureError(
            f"{path}: {given.shape[1]} x {given.shape[0]} pixels; its image has "
            f"{image.shape[1]} x {image.shape[0]}"
        )
    return given


def _resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if (image.shape[1], image.shape[0]) == size:
        return image
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
