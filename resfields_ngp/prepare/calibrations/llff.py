"""LLFF's ``poses_bounds.npy``, as Neural 3D Video (DyNeRF) ships it beside its videos."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...datasets.base import CaptureError
from .base import (
    VIDEO_SUFFIXES,
    Footage,
    FootageView,
    checked_views,
    files_of,
    folder_in_use,
    names_in,
    pose_of,
)


def read_llff(root: Path, images: str, masks: str) -> Footage:
    """Reads ``poses_bounds.npy``: row i is of the i-th camera in the order of names.

    A row is a 3 x 5 matrix and two depths, which are not used. Columns of the matrix are the
    camera's down, right and backwards in world axes, its place, and height, width and focal length
    (LLFF, poses/pose_utils.py). The lens has no distortion and its centre is the image's. Names
    are in the order of their characters, as LLFF sorts them: cam10 comes before cam2.

    Args:
        root: The folder with the file.
        images: Folder of the cameras' folders or videos, beside it; empty: the folder itself where
            it has videos, else ``images`` or ``videos``.
        masks: Folder of the masks' folders; empty: ``masks`` or ``mask``.

    Raises:
        CaptureError: The file is damaged, a row is no camera, or rows and cameras differ in number.
    """
    path = root / "poses_bounds.npy"
    rows = _rows(path)
    folder, names = _cameras(root, images)
    masks = masks or folder_in_use(root, "masks", "mask")
    if len(names) != len(rows):
        raise CaptureError(
            f"{path}: {len(rows)} rows for {len(names)} cameras in {root / folder} "
            f"({', '.join(names) or 'none'}); expected one each. Where a camera was removed (of "
            "Neural 3D Video's coffee_martini often cam13, which is not synchronous), remove its "
            "row, or put its video back and name the others with --cameras"
        )
    views = []
    for index, (name, row) in enumerate(zip(names, rows, strict=True)):
        stored, cut_out = files_of(root, name, folder, masks)
        views.append(_view(name, row, f"{path}: row {index}", stored, cut_out))
    return Footage(checked_views(views, root / folder), {})


def _cameras(root: Path, images: str) -> tuple[str, list[str]]:
    """Returns the folder of the footage and the cameras in it, in the order of the rows."""
    videos = sorted(path.stem for path in root.iterdir() if path.suffix.lower() in VIDEO_SUFFIXES)
    if videos and not images:
        return ".", videos
    folder = images or folder_in_use(root, "images", "videos")
    return folder, names_in(root / folder)


def _view(
    name: str,
    row: np.ndarray,  # (17,)
    where: str,
    stored: tuple[Path, ...],
    cut_out: tuple[Path, ...] | None,
) -> FootageView:
    matrix = row[:15].reshape(3, 5)
    height, width, focal = matrix[:, 4]
    if min(height, width) < 1 or focal <= 0:
        raise CaptureError(
            f"{where}: height, width and focal length are {height:g}, {width:g} and {focal:g}; "
            "expected pixels above 0"
        )
    down, right, backwards, place = matrix[:, :4].T
    turn = np.stack([right, down, -backwards], axis=1)
    if not np.allclose(turn.T @ turn, np.eye(3), atol=1e-3) or np.linalg.det(turn) < 0:
        raise CaptureError(
            f"{where}: not a rotation; expected LLFF's axes (down, right, backwards)"
        )
    intrinsics = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    pose = pose_of(turn, place)
    return FootageView(
        name, stored, cut_out, intrinsics[None], pose[None], round(width), round(height)
    )


def _rows(path: Path) -> np.ndarray:
    """Returns the (N, 17) numbers of the file."""
    try:
        rows = np.load(path).astype(np.float64)
    except (OSError, ValueError, EOFError, TypeError, AttributeError) as error:
        raise CaptureError(f"{path}: not a readable npy file ({error}); copy it again") from None
    if rows.ndim != 2 or rows.shape[1] != 17 or not np.isfinite(rows).all():
        raise CaptureError(
            f"{path}: an array of {rows.shape}; expected one row of 17 finite numbers a camera"
        )
    return rows
