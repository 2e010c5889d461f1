"""Clips: a video file, a folder of images or an array, with the pixels that are held out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from .selection import frame_order, select_frames

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
_SEED = 42  # of the official split


class ClipError(ValueError):
    """The clip on disk is not usable: one line with file, what was found, what is allowed."""


@dataclass(frozen=True)
class ClipConfig:
    """Which clip, which part of it, and what is held out."""

    path: str = ""
    """Video file that OpenCV reads, folder of images, or .npy (frames, height, width, 3)."""
    frames: str = "::"
    """Frames to use, as start:stop:stride."""
    held_out: Literal["random", "unseen_time", "none"] = "random"
    """random: pixels of every frame, as the paper's code draws them (seed 42); unseen_time: whole
    frames, to be interpolated; none."""
    held_out_fraction: float = 0.1
    """Part of the pixels, or of the frames, that is held out; 0 to 0.9."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.held_out_fraction <= 0.9:
            raise ValueError(
                f"input.held_out_fraction is {self.held_out_fraction}; allowed: 0 to 0.9"
            )


@dataclass(frozen=True)
class Clip:
    """A clip in memory."""

    name: str
    """The file's or folder's name."""
    frames: np.ndarray
    """(n_frames, H, W, 3) uint8 RGB."""
    fps: float
    """Frames per second; 25 where the input does not say."""

    @property
    def n_frames(self) -> int:
        """The number of frames."""
        return self.frames.shape[0]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, pixels."""
        return self.frames.shape[1], self.frames.shape[2]


def load_clip(config: ClipConfig) -> Clip:
    """Reads a clip.

    Raises:
        ClipError: It cannot be opened, has no frames, or frames of several sizes.
        FileNotFoundError: It is not there.
    """
    path = Path(config.path)
    if not path.exists():
        raise FileNotFoundError(
            f"{path}: no such clip; a video file, a folder of images or a .npy file is needed"
        )
    if path.is_dir():
        frames, fps = _read_folder(path), 25.0
    elif path.suffix == ".npy":
        frames, fps = _read_array(path), 25.0
    else:
        frames, fps = _read_video(path)
    try:
        chosen = select_frames(config.frames, len(frames), str(path))
    except ValueError as error:
        raise ClipError(str(error)) from None
    return Clip(path.stem, np.stack([frames[i] for i in chosen]), fps)


def held_out_pixels(n_frames: int, n_pixels: int, config: ClipConfig) -> np.ndarray:
    """Returns (n_frames, n_pixels) bool, True where a pixel is held out of training.

    The very pixels that the code of ResFields draws: numpy's legacy generator, seed 42, a choice
    without replacement for each frame (or of frames).
    """
    mask = np.zeros((n_frames, n_pixels), bool)
    if config.held_out == "none" or config.held_out_fraction == 0.0:
        return mask
    # The official indices come from the legacy stream, which only this class still gives.
    random = np.random.RandomState(_SEED)  # noqa: NPY002
    if config.held_out == "unseen_time":
        count = int(config.held_out_fraction * n_frames)
        mask[random.choice(n_frames, size=count, replace=False)] = True
        return mask
    count = int(config.held_out_fraction * n_pixels)
    for frame in range(n_frames):
        mask[frame, random.choice(n_pixels, size=count, replace=False)] = True
    return mask


def _read_video(path: Path) -> tuple[list[np.ndarray], float]:
    """Returns RGB frames and frames per second of a file that OpenCV opens."""
    allowed = "allowed: mp4, mov or avi that OpenCV reads, a folder of images, .npy"
    stream = cv2.VideoCapture(str(path))
    try:
        if not stream.isOpened():
            raise ClipError(f"{path}: OpenCV cannot open it as a video; {allowed}")
        frames = []
        while True:
            found, pixels = stream.read()
            if not found:
                break
            frames.append(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))
        fps = stream.get(cv2.CAP_PROP_FPS)
    finally:
        stream.release()
    if not frames:
        raise ClipError(f"{path}: the video has no frames; {allowed}")
    _check_sizes(path, frames, [f"frame {i}" for i in range(len(frames))])
    return frames, fps if 0.0 < fps < 1000.0 else 25.0


def _read_folder(path: Path) -> list[np.ndarray]:
    files = sorted(
        (file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES), key=frame_order
    )
    if not files:
        raise ClipError(f"{path}: no images there; allowed: {', '.join(IMAGE_SUFFIXES)}")
    frames = []
    for file in files:
        pixels = cv2.imread(str(file), cv2.IMREAD_COLOR)
        if pixels is None:
            raise ClipError(f"{file}: not a readable image; convert it to PNG, or remove it")
        frames.append(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))
    _check_sizes(path, frames, [file.name for file in files])
    return frames


def _read_array(path: Path) -> list[np.ndarray]:
    wanted = "(frames, height, width, 3), uint8 or floats in [0, 1]"
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ClipError(f"{path}: not a readable .npy file ({error}); save {wanted}") from None
    if array.ndim != 4 or array.shape[3] != 3 or 0 in array.shape:
        raise ClipError(f"{path}: an array of shape {array.shape}; needed: {wanted}")
    if array.dtype == np.uint8:
        return list(array)
    in_range = np.issubdtype(array.dtype, np.floating) and array.min() >= 0 and array.max() <= 1
    if not in_range:
        raise ClipError(f"{path}: {array.dtype} from {array.min()} to {array.max()}; {wanted}")
    return list((array * 255.0).round().astype(np.uint8))


def _check_sizes(path: Path, frames: list[np.ndarray], names: list[str]) -> None:
    height, width = frames[0].shape[:2]
    for frame, name in zip(frames, names, strict=True):
        if frame.shape[:2] != (height, width):
            found = f"{frame.shape[1]} x {frame.shape[0]}"
            raise ClipError(
                f"{path}: {name} is {found}, the first frame {width} x {height};"
                " all frames need one size: scale or crop them"
            )
