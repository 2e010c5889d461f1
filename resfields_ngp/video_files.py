"""Video files: what a fit leaves of a clip, sampled at any size and speed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from .writing import whole_file


def write_mp4(path: Path, frames: Iterable[np.ndarray], fps: float) -> None:
    """Writes RGB frames (H, W, 3) uint8, padded to even sides as the codec needs.

    Raises:
        OSError: This OpenCV cannot write MPEG-4, or the disk is full.
    """
    codec = cv2.VideoWriter.fourcc(*"mp4v")
    writer = None
    with whole_file(path) as partial:
        for frame in frames:
            height, width = frame.shape[:2]
            pixels = cv2.copyMakeBorder(
                np.ascontiguousarray(frame[..., ::-1]),
                *(0, height % 2, 0, width % 2),
                cv2.BORDER_CONSTANT,
            )
            if writer is None:
                size = (pixels.shape[1], pixels.shape[0])
                writer = cv2.VideoWriter(str(partial), codec, fps, size)
                if not writer.isOpened():
                    raise OSError(0, "OpenCV has no MPEG-4 encoder or cannot write here")
            writer.write(pixels)
        if writer is not None:
            writer.release()
