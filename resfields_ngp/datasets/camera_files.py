"""Camera files of the ResFields and NeuS layouts: ``world_mat_<i>`` and ``scale_mat_<i>``."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..cameras import Cameras, decompose_projection
from .base import CaptureError

CAMERA_FILES = ("cameras_sphere.npz", "cameras.npz")


@dataclass(frozen=True)
class CameraFile:
    """The matrices of one camera file."""

    path: Path
    """The npz file."""
    world_mats: np.ndarray
    """(n, 3, 4) float64, world to pixels."""
    scale_mats: np.ndarray
    """(n, 4, 4) float64 similarities, normalised to world."""
    numbers: tuple[int, ...]
    """What each frame's matrices are called in the file."""

    def cameras(self, frames: Sequence[int], width: int, height: int) -> Cameras:
        """Returns the cameras of some of its frames, in world units.

        Raises:
            CaptureError: A matrix is singular or has a mirror in it.
        """
        parts = []
        for frame in frames:
            try:
                parts.append(decompose_projection(self.world_mats[frame]))
            except ValueError as error:
                key = f"world_mat_{self.numbers[frame]}"
                raise CaptureError(f"{self.path}: {key}: {error}") from error
        intrinsics, poses = (np.stack(part) for part in zip(*parts, strict=True))
        return Cameras(intrinsics, poses, width, height)


def find_camera_file(folder: Path) -> Path:
    """Returns the camera file of a folder.

    Raises:
        CaptureError: It has none.
    """
    for name in CAMERA_FILES:
        if (folder / name).is_file():
            return folder / name
    raise CaptureError(f"{folder}: no camera file; expected {' or '.join(CAMERA_FILES)}")


def read_camera_file(path: Path, n_frames: int) -> CameraFile:
    """Reads ``world_mat_<i>`` and ``scale_mat_<i>`` of `n_frames` frames.

    i counts from 0; where there are as many matrices as frames, their order counts instead, so that
    a sequence cut from a longer one may keep its numbers.

    Raises:
        CaptureError: The file is unreadable, lacks a matrix, or one is not finite, not 4x4 or, for
            ``scale_mat``, not a similarity.
    """
    try:
        with np.load(path) as stored:
            matrices = {key: stored[key].astype(np.float64) for key in stored.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise CaptureError(f"{path}: not a readable npz file ({error}); copy it again") from error
    found = sorted(int(key[10:]) for key in matrices if re.fullmatch(r"world_mat_\d+", key))
    numbers = tuple(found if len(found) == n_frames else range(n_frames))
    world_mats = np.empty((n_frames, 3, 4))
    scale_mats = np.empty((n_frames, 4, 4))
    for frame, number in enumerate(numbers):
        world_mats[frame] = _matrix(path, matrices, f"world_mat_{number}", n_frames)[:3]
        scale_mats[frame] = _matrix(path, matrices, f"scale_mat_{number}", n_frames)
        _check_similarity(scale_mats[frame], f"{path}: scale_mat_{number}")
    return CameraFile(path, world_mats, scale_mats, numbers)


def _matrix(path: Path, matrices: dict[str, np.ndarray], key: str, n_frames: int) -> np.ndarray:
    if key not in matrices:
        kind = key.rsplit("_", 1)[0]
        n_found = sum(name.startswith(f"{kind}_") and "inv" not in name for name in matrices)
        raise CaptureError(
            f"{path}: no {key}; it has {n_found} {kind} matrices for {n_frames} images, "
            "expected one each"
        )
    matrix = matrices[key]
    if matrix.shape not in ((4, 4), (3, 4)) or (key.startswith("scale") and len(matrix) < 4):
        raise CaptureError(f"{path}: {key} has shape {matrix.shape}; expected (4, 4)")
    if not np.isfinite(matrix).all():
        raise CaptureError(f"{path}: {key} has NaN or infinite entries; expected finite numbers")
    return matrix


def _check_similarity(matrix: np.ndarray, what: str) -> None:
    square = matrix[:3, :3].T @ matrix[:3, :3]
    scale = np.trace(square) / 3
    if scale <= 0 or np.linalg.det(matrix[:3, :3]) <= 0:
        raise CaptureError(f"{what} is singular or mirrored; expected a scale above 0")
    even = np.allclose(square, scale * np.eye(3), atol=1e-4 * scale)
    if not even or not np.allclose(matrix[3], [0, 0, 0, 1]):
        raise CaptureError(f"{what} is not a similarity; expected one scale for all axes")


def common_scale_mat(files: Iterable[CameraFile]) -> np.ndarray:
    """Returns the (4, 4) ``scale_mat`` that all frames of all camera files share.

    Raises:
        CaptureError: They differ, so that no one normalised space belongs to the capture.
    """
    files = list(files)
    shared = files[0].scale_mats[0]
    for file in files:
        differences = np.abs(file.scale_mats - shared).max(axis=(1, 2))
        worst = int(differences.argmax())
        if differences[worst] > 1e-4 * np.abs(shared).max():
            raise CaptureError(
                f"{file.path}: scale_mat_{file.numbers[worst]} differs from "
                f"scale_mat_{files[0].numbers[0]} of {files[0].path}; "
                "expected the same in all frames and cameras"
            )
    return shared
