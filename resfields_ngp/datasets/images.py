"""Image files to arrays: 8-bit RGB, masks and depths, every fault named with its file."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from .base import CaptureError
from .selection import frame_order

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
_PNG = b"\x89PNG\r\n\x1a\n"


def list_images(folder: Path) -> list[Path]:
    """Returns the images of a folder in `frame_order`; none if there is no such folder."""
    if not folder.is_dir():
        return []
    images = (
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    )
    return sorted(images, key=frame_order)


def read_rgba(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Reads an image.

    Returns:
        (H, W, 3) uint8 RGB, not multiplied by alpha, and (H, W) uint8 alpha or None. Grey and
        palette images become RGB, 16 bits are rounded to 8.

    Raises:
        CaptureError: It is absent, cut off, no image, or has floats for channels.
    """
    image = decode_image(path, cv2.IMREAD_UNCHANGED)
    if image.dtype == np.uint16:
        image = ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if image.dtype != np.uint8:
        raise CaptureError(
            f"{path}: channels are {image.dtype}; allowed: RGB or RGBA of 8 or 16 bits, convert it"
        )
    if image.ndim == 2:
        return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB), None
    if image.shape[2] == 4:
        return cv2.cvtColor(image, cv2.COLOR_BGRA2RGB), np.ascontiguousarray(image[..., 3])
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB), None


MOST_LABELS = 16
"""Values of a mask that tells parts of the subject apart; one with more has soft edges."""


def read_mask(path: Path) -> np.ndarray:
    """Reads a mask: (H, W) bool, True where any channel but alpha is above zero.

    Where edges are soft it takes more than half the greatest value: in JPEG, which rings about
    every outline, and where there are more than `MOST_LABELS` values.

    Raises:
        CaptureError: It is absent, cut off or no image.
    """
    image = np.atleast_3d(decode_image(path, cv2.IMREAD_UNCHANGED))[..., :3].max(axis=2)
    is_soft = path.suffix.lower() in (".jpg", ".jpeg")
    is_soft = is_soft or np.count_nonzero(np.bincount(image.ravel())) > MOST_LABELS
    threshold = image.max() // 2 if is_soft else 0
    return np.asarray(image > threshold)


def read_depth(path: Path) -> np.ndarray:
    """Reads a depth image: (H, W) uint16, 0 where unknown.

    Raises:
        CaptureError: It is absent, cut off, or not a 16-bit image of one channel.
    """
    image = decode_image(path, cv2.IMREAD_UNCHANGED)
    if image.ndim != 2 or image.dtype != np.uint16:
        raise CaptureError(
            f"{path}: {image.dtype} of shape {image.shape}; allowed: depth as 16-bit grey PNG"
        )
    return image


def read_stack(paths: Sequence[Path], read: Callable[[Path], np.ndarray]) -> np.ndarray:
    """Reads equally large images into one array, in several threads.

    Returns:
        (n, H, W, ...) of the type that `read` gives.

    Raises:
        CaptureError: As `read`, or an image has another size than the first.
    """
    first = read(paths[0])
    stack = np.empty((len(paths), *first.shape), first.dtype)
    stack[0] = first

    def place(index: int) -> None:
        image = read(paths[index])
        check_size(paths[index], image, first.shape[1], first.shape[0])
        stack[index] = image

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        list(pool.map(place, range(1, len(paths))))
    return stack


def read_rgb_stack(paths: Sequence[Path]) -> tuple[np.ndarray, np.ndarray | None]:
    """Reads the frames of a view.

    Returns:
        (n, H, W, 3) uint8 RGB, and (n, H, W) bool masks where all images have alpha (covered by
        half or more), else None.

    Raises:
        CaptureError: As `read_rgba`, or images differ in size.
    """
    first, alpha = read_rgba(paths[0])
    masks = None if alpha is None else np.empty((len(paths), *alpha.shape), bool)
    opaque: list[Path] = []

    def read(path: Path) -> np.ndarray:
        image, alpha = read_rgba(path)
        if masks is not None and alpha is None:
            opaque.append(path)
        elif masks is not None and alpha is not None and alpha.shape == masks.shape[1:]:
            masks[positions[path]] = alpha >= 128
        return image

    positions = {path: index for index, path in enumerate(paths)}
    images = read_stack(paths, read)
    if opaque:
        raise CaptureError(
            f"{min(opaque)}: RGB where {paths[0].name} is RGBA; allowed: one kind for a camera"
        )
    return images, masks


def check_size(path: Path, image: np.ndarray, width: int, height: int) -> None:
    """Checks that an image is `width` x `height` pixels.

    Raises:
        CaptureError: It is not.
    """
    if image.shape[:2] != (height, width):
        raise CaptureError(
            f"{path}: {image.shape[1]} x {image.shape[0]} pixels; "
            f"expected {width} x {height} as in its camera's other images"
        )


def decode_image(path: Path, flags: int) -> np.ndarray:
    """Returns what OpenCV makes of a file that is known to be whole, in OpenCV's order BGR.

    Args:
        path: PNG or JPEG, or what else OpenCV reads.
        flags: As of ``cv2.imdecode``.

    Raises:
        CaptureError: It is absent, cut off or no image.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise CaptureError(f"{path}: no such image") from None
    if content.startswith(_PNG):
        _check_png(path, content)
    elif content.startswith(b"\xff\xd8") and b"\xff\xd9" not in content[-64:]:
        raise CaptureError(f"{path}: cut off after {len(content)} bytes; copy it again")
    image = cv2.imdecode(np.frombuffer(content, np.uint8), flags) if content else None
    if image is None:
        raise CaptureError(f"{path}: {len(content)} bytes, not an image; allowed: PNG or JPEG")
    return image


def _check_png(path: Path, content: bytes) -> None:
    """Walks the chunks of a PNG to its end: OpenCV would give a cut-off one as half an image."""
    position = len(_PNG)
    while position + 12 <= len(content):
        end = position + 12 + int.from_bytes(content[position : position + 4], "big")
        if end > len(content):
            break
        stored = int.from_bytes(content[end - 4 : end], "big")
        if zlib.crc32(content[position + 4 : end - 4]) != stored:
            raise CaptureError(f"{path}: damaged at byte {position} (checksum); copy it again")
        if content[position + 4 : position + 8] == b"IEND":
            return
        position = end
    raise CaptureError(f"{path}: cut off after {len(content)} bytes; copy it again")
