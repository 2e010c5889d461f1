"""Masks of footage: given ones, alpha, or the difference from a plate of the empty stage."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from ..datasets.base import CaptureError
from ..datasets.images import IMAGE_SUFFIXES, read_rgba


@dataclass(frozen=True)
class MattingConfig:
    """Where masks come from, and how those from plates are cleaned."""

    source: Literal["auto", "files", "alpha", "plates", "none"] = "auto"
    """files: the masks beside the images; alpha: the images' own; plates: the difference from
    pictures of the empty stage. auto: plates where a folder of them is named, else files where
    there are any, else alpha where images have it, else none."""
    plates: str = ""
    """Folder with <camera>.png or .jpg, or <camera>/ with one image or more, of the empty stage."""
    tolerance: float = 0.06
    """How far a colour may lie from the plate's, in its hue and saturation, 0 to 1."""
    shadow: float = 0.5
    """A pixel of the plate's hue is still the stage when it is this much darker, 0 to 1."""
    glow: float = 0.3
    """Or this much brighter, 0 to 1."""
    clean: int = 2
    """Specks and gaps up to this radius are removed, pixels; 0 leaves them."""
    least: float = 0.05
    """Parts smaller than this share of the largest one are dropped, 0 to 1."""

    def __post_init__(self) -> None:
        if self.source not in ("auto", "files", "alpha", "plates", "none"):
            raise ValueError(
                f'source is "{self.source}"; allowed: auto, files, alpha, plates, none'
            )
        for name in ("tolerance", "shadow", "glow", "least"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; allowed: 0 to 1")
        if self.clean < 0:
            raise ValueError(f"clean is {self.clean}; allowed: 0 or more")


def mask_from_plate(image: np.ndarray, plate: np.ndarray, config: MattingConfig) -> np.ndarray:
    """Returns (H, W) bool: where an image is not the empty stage.

    A pixel is split into how bright it is against the plate and how far its colour is from that
    line; shadows change the brightness only (Horprasert et al., 1999).

    Args:
        image: (H, W, 3) uint8 RGB.
        plate: (H, W, 3) uint8 RGB of the empty stage, the same camera.
        config: Tolerances and cleaning.
    """
    # Not blurred: noise in single pixels is what cleaning is for, and a blur would widen outlines.
    seen, empty = (each.astype(np.float32) / 255 for each in (image, plate))
    length = np.maximum((empty * empty).sum(axis=2), 1e-4)
    brightness = (seen * empty).sum(axis=2) / length
    distance = np.linalg.norm(seen - brightness[..., None] * empty, axis=2)
    # Where the plate is black its hue says nothing, and any light is the subject.
    change = np.abs(brightness - 1) * np.sqrt(length)
    outside = (brightness < 1 - config.shadow) | (brightness > 1 + config.glow)
    mask = (distance > config.tolerance) | (outside & (change > config.tolerance))
    return cleaned(mask, config.clean, config.least)


def cleaned(mask: np.ndarray, radius: int, least: float) -> np.ndarray:
    """Returns a mask without specks, gaps and small parts.

    Args:
        mask: (H, W) bool.
        radius: Of the specks and gaps to remove, pixels.
        least: Parts below this share of the largest one's area are dropped.
    """
    solid = mask.astype(np.uint8)
    if radius:
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
        solid = cv2.morphologyEx(solid, cv2.MORPH_OPEN, disc)
        solid = cv2.morphologyEx(solid, cv2.MORPH_CLOSE, disc)
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(solid, connectivity=8)
    areas = np.asarray(statistics)[:, cv2.CC_STAT_AREA].astype(float)
    areas[0] = 0
    keep = (areas > 0) & (areas >= least * areas.max())
    return keep[np.asarray(labels, np.int64)]


def read_plate(folder: Path, camera: str) -> np.ndarray:
    """Returns a camera's (H, W, 3) uint8 picture of the empty stage, the median of several.

    Raises:
        CaptureError: There is none, or several differ in size.
    """
    for suffix in IMAGE_SUFFIXES:
        if (folder / f"{camera}{suffix}").is_file():
            return read_rgba(folder / f"{camera}{suffix}")[0]
    within = folder / camera
    paths = sorted(p for p in within.glob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    if not paths:
        raise CaptureError(
            f"{folder}: no plate of {camera}; expected {camera}.png or {camera}/*.png"
        )
    plates = [read_rgba(path)[0] for path in paths]
    if len({plate.shape for plate in plates}) > 1:
        raise CaptureError(f"{within}: plates of several sizes; expected one size")
    return np.median(np.stack(plates), axis=0).round().astype(np.uint8)
