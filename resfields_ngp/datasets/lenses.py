"""The lens of a transforms.json image: intrinsics in any spelling, and distortion taken out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np

from .base import CaptureError

_FISHEYE = ("OPENCV_FISHEYE", "FISHEYE")
_PINHOLE = ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "PERSPECTIVE")


_Straightened = tuple[np.ndarray, np.ndarray, np.ndarray | None]


@dataclass(frozen=True)
class Lens:
    """How a camera's rays meet its image."""

    intrinsics: np.ndarray
    """(3, 3) float64, pixels, of the image without distortion."""
    distortion: tuple[float, ...]
    """OpenCV's k1, k2, p1, p2, k3 and perhaps k4, k5, k6, or the fisheye's k1..k4; empty without
    distortion."""
    is_fisheye: bool
    """True for OpenCV's fisheye model."""

    def undistort(self, image: np.ndarray, smooth: bool = True) -> np.ndarray:
        """Returns an image as a pinhole sees it; black where the lens saw nothing (`unseen`).

        Args:
            image: (H, W) or (H, W, 3).
            smooth: Interpolates; otherwise takes the nearest pixel, as masks and depths need.
        """
        if not self.distortion:
            return image
        columns, rows, unseen = self._straightened(image.shape[1], image.shape[0])
        kind = cv2.INTER_LINEAR if smooth else cv2.INTER_NEAREST
        # Replicated, so that what is seen of the outermost pixels is not mixed with black.
        straight = cv2.remap(image, columns, rows, kind, borderMode=cv2.BORDER_REPLICATE)
        if unseen is not None:
            straight[unseen] = 0
        return straight

    def unseen(self, width: int, height: int) -> np.ndarray | None:
        """Returns where straightened images of a size show nothing that the lens saw.

        A pinhole looks past the corners of a lens with pincushion distortion; and where a strong
        polynomial folds back, it would show a part of the image again.

        Returns:
            (H, W) bool, read-only; None where all is seen. Lenses that are alike share one array.
        """
        return self._straightened(width, height)[2] if self.distortion else None

    def _straightened(self, width: int, height: int) -> _Straightened:
        return _straightened(
            self.intrinsics.tobytes(), self.distortion, self.is_fisheye, width, height
        )


@lru_cache(maxsize=1)  # images come camera by camera
def _straightened(
    intrinsics: bytes, distortion: tuple[float, ...], is_fisheye: bool, width: int, height: int
) -> _Straightened:
    """Returns the image's column and row of each straightened pixel, and what `unseen` says."""
    centred = np.frombuffer(intrinsics).reshape(3, 3).copy()
    centred[:2, 2] -= 0.5  # OpenCV's distortion counts pixel centres from 0
    make = cv2.fisheye.initUndistortRectifyMap if is_fisheye else cv2.initUndistortRectifyMap
    size, coefficients = (width, height), np.array(distortion)
    columns, rows = make(centred, coefficients, np.eye(3), centred, size, cv2.CV_32FC1)
    seen = (np.abs(columns - (width - 1) / 2) <= width / 2) & (
        np.abs(rows - (height - 1) / 2) <= height / 2
    )
    if min(width, height) > 1:
        (dx_down, dx_across), (dy_down, dy_across) = np.gradient(columns), np.gradient(rows)
        seen &= (dx_across * dy_down > dx_down * dy_across) & (dx_across + dy_down > 0)
    unseen = ~seen
    unseen.flags.writeable = False
    return columns, rows, unseen if unseen.any() else None


def read_lens(fields: Mapping[str, Any], width: int, height: int, where: str) -> Lens:
    """Returns the lens of an image from the keys of its frame and its file.

    Focal lengths are ``fl_x``, ``fl_y`` in pixels or ``camera_angle_x``, ``camera_angle_y`` in
    radians; the centre is the image's unless ``cx``, ``cy`` say otherwise. Intrinsics given for
    ``w`` x ``h`` are scaled to an image that is smaller or larger by the same factor both ways.

    Args:
        fields: The frame's keys over the file's.
        width: Of the image, pixels.
        height: Of the image, pixels.
        where: What an error names.

    Raises:
        CaptureError: A number is missing, not finite or out of range, the image has another shape
            than said, or the camera model is unknown.
    """
    w, h = _side(fields, "w", width, where), _side(fields, "h", height, where)
    if abs(width / w - height / h) > 0.5 * max(1 / w, 1 / h):
        raise CaptureError(
            f"{where}: the image is {width} x {height}, w and h say {w:g} x {h:g}; "
            "expected the same shape"
        )
    focal_x, focal_y = _focal_lengths(fields, w, h, where)
    scale_x, scale_y = width / w, height / h
    intrinsics = np.eye(3)
    intrinsics[0] = focal_x * scale_x, 0, read_number(fields, "cx", w / 2, where) * scale_x
    intrinsics[1] = 0, focal_y * scale_y, read_number(fields, "cy", h / 2, where) * scale_y
    return Lens(intrinsics, *_distortion(fields, where))


def _side(fields: Mapping[str, Any], key: str, default: int, where: str) -> float:
    """Returns the width or height, pixels, that intrinsics are given for."""
    side = read_number(fields, key, default, where)
    if side < 1:
        raise CaptureError(f"{where}: {key} is {side:g}; expected 1 or more")
    return side


def _focal_lengths(
    fields: Mapping[str, Any], width: float, height: float, where: str
) -> tuple[float, float]:
    """Returns both focal lengths in pixels; one stands for the other."""
    focals: list[float | None] = []
    for axis, size in (("x", width), ("y", height)):
        focal = None
        if f"fl_{axis}" in fields:
            focal = read_number(fields, f"fl_{axis}", 0.0, where)
        elif f"camera_angle_{axis}" in fields:
            angle = read_number(fields, f"camera_angle_{axis}", 0.0, where)
            if not 0 < angle < math.pi:
                raise CaptureError(f"{where}: camera_angle_{axis} is {angle}; expected 0 to pi")
            focal = 0.5 * size / math.tan(0.5 * angle)
        if focal is not None and focal <= 0:
            raise CaptureError(f"{where}: fl_{axis} is {focal}; expected pixels above 0")
        focals.append(focal)
    one, two = focals
    if one is None and two is None:
        raise CaptureError(f"{where}: no focal length; expected fl_x or camera_angle_x")
    return float(one or two or 0.0), float(two or one or 0.0)


def _distortion(fields: Mapping[str, Any], where: str) -> tuple[tuple[float, ...], bool]:
    """Returns OpenCV's coefficients and whether they are the fisheye's."""
    model = str(fields.get("camera_model", "OPENCV")).upper()
    is_fisheye = model in _FISHEYE or bool(fields.get("is_fisheye", False))
    if model not in (*_FISHEYE, *_PINHOLE):
        allowed = ", ".join((*_PINHOLE, *_FISHEYE))
        raise CaptureError(f'{where}: camera_model "{model}" is not known; allowed: {allowed}')
    keys = ("k1", "k2", "k3", "k4") if is_fisheye else ("k1", "k2", "p1", "p2", "k3")
    values = tuple(read_number(fields, key, 0.0, where) for key in keys)
    if not is_fisheye and read_number(fields, "k4", 0.0, where) != 0:
        raise CaptureError(f"{where}: k4 without fisheye; allowed: k1, k2, k3, p1, p2")
    return (values if is_fisheye or any(values) else ()), is_fisheye


def read_number(
    fields: Mapping[str, Any], key: str, default: float, where: str, above: float = -math.inf
) -> float:
    """Returns a number among the keys of a frame or a file.

    Args:
        fields: The keys.
        key: Its key.
        default: What it is where the key is absent.
        where: What an error names.
        above: What it must exceed.

    Raises:
        CaptureError: It is no number, not finite or too small.
    """
    value = fields.get(key, default)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not above < value < math.inf:
        expected = "a finite number" if above == -math.inf else f"a number above {above:g}"
        raise CaptureError(f"{where}: {key} is {value!r}; expected {expected}")
    return float(value)
