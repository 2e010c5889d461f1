"""Textures as 8-bit RGB, whatever the file holds; each conversion is told."""

from __future__ import annotations

from pathlib import Path, PureWindowsPath

import cv2
import numpy as np

from ..datasets.base import CaptureError
from ..datasets.images import decode_image
from .base import SequenceError


def read_texture(path: Path) -> tuple[np.ndarray, list[str]]:
    """Reads a texture.

    Returns:
        (H, W, 3) uint8 sRGB, and a sentence for each conversion: grey, transparent and 16-bit
        images become 8-bit RGB.

    Raises:
        SequenceError: It is absent, cut off, no image, or of floats.
    """
    try:
        return as_rgb8(decode_image(path, cv2.IMREAD_UNCHANGED), path.name)
    except CaptureError as error:
        raise SequenceError(str(error)) from None


def as_rgb8(image: np.ndarray, name: str) -> tuple[np.ndarray, list[str]]:
    """Converts what OpenCV decoded, (H, W), (H, W, 3) BGR or (H, W, 4) BGRA, to 8-bit RGB.

    Returns:
        (H, W, 3) uint8 sRGB, and a sentence for each conversion.

    Raises:
        SequenceError: Its numbers are neither 8 nor 16 bits.
    """
    notes = []
    if image.dtype == np.uint16:
        notes.append(f"{name}: 16 bits a channel taken as 8")
        image = np.round(image / 257.0).astype(np.uint8)
    if image.dtype != np.uint8:
        raise SequenceError(f"{name}: a texture of {image.dtype}; allowed: 8 or 16 bits a channel")
    if image.ndim == 2 or image.shape[2] == 1:
        notes.append(f"{name}: a grey texture taken as RGB")
        return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB), notes
    if image.shape[2] == 4:
        notes.append(f"{name}: the texture's transparency is left out")
        return cv2.cvtColor(image, cv2.COLOR_BGRA2RGB), notes
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB), notes


def find_texture(written: str, folder: Path, where: str) -> tuple[Path, list[str]]:
    """Finds a texture by the path that a file gives for it.

    A path that leads nowhere, from another machine or from Windows, is looked for by its last
    part beside the file.

    Args:
        written: The path as it stands.
        folder: What it is relative to.
        where: What an error names: the file that holds the path.

    Returns:
        The path, and a sentence where it is not the one written.

    Raises:
        SequenceError: There is no such texture.
    """
    plain = written.replace("\\", "/")
    # On Linux C:/x would be a relative path.
    if not PureWindowsPath(written).drive and (folder / plain).is_file():
        return folder / plain, []
    beside = folder / plain.rsplit("/", 1)[-1]
    if beside.is_file():
        return beside, [f"{where}: {written} taken from beside the file"]
    raise SequenceError(f"{where}: no texture {written}; put {beside.name} beside it")
