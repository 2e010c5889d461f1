"""EasyVolcap, EasyMocap and ZJU: ``intri.yml`` and ``extri.yml``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from ...datasets.base import CaptureError
from .base import Footage, FootageView, checked_views, files_of, folder_in_use, pose_of


def read_easy_volcap(root: Path, images: str, masks: str) -> Footage:
    """Reads EasyVolcap, EasyMocap and ZJU: ``intri.yml``, ``extri.yml``, ``images/<camera>/``.

    ``R_<c>`` (axis-angle) or ``Rot_<c>``, and ``T_<c>``, go from world to camera.

    Args:
        root: The folder with both files.
        images: Folder of the cameras' folders or videos, beside them; empty: ``images``, or
            ``videos`` where that is missing.
        masks: The same for masks; empty: ``masks`` or ``mask``.

    Raises:
        CaptureError: A file, a matrix or the footage of a camera is missing.
    """
    intri, extri = (_yaml(root / name) for name in ("intri.yml", "extri.yml"))
    listed = intri.getNode("names")
    names = [listed.at(i).string() for i in range(listed.size())]
    folder = images or folder_in_use(root, "images", "videos")
    masks = masks or folder_in_use(root, "masks", "mask")
    views = []
    for name in names:
        stored, cut_out = files_of(root, name, folder, masks)
        if stored:
            views.append(replace(_view(name, intri, extri, root), images=stored, masks=cut_out))
    return Footage(checked_views(views, root / folder), {})


def _view(name: str, intri: cv2.FileStorage, extri: cv2.FileStorage, root: Path) -> FootageView:
    """Returns a camera without its footage."""
    intrinsics = _matrix(intri, f"K_{name}", (3, 3), root / "intri.yml")
    turn = extri.getNode(f"Rot_{name}").mat()
    if turn is None:
        turn = cv2.Rodrigues(_matrix(extri, f"R_{name}", (3,), root / "extri.yml"))[0]
    turn = np.asarray(turn, np.float64).reshape(3, 3)
    shift = _matrix(extri, f"T_{name}", (3,), root / "extri.yml")
    lens = intri.getNode(f"dist_{name}").mat()
    lens = intri.getNode(f"D_{name}").mat() if lens is None else lens
    distortion = () if lens is None or not np.any(lens) else tuple(np.ravel(lens).tolist()[:5])
    width, height = (int(intri.getNode(f"{side}_{name}").real() or 0) for side in "WH")
    pose = pose_of(turn.T, -turn.T @ shift)[None]
    return FootageView(name, (), None, intrinsics[None], pose, width, height, distortion)


def _yaml(path: Path) -> cv2.FileStorage:
    if not path.is_file():
        raise CaptureError(f"{path}: no such calibration; expected intri.yml and extri.yml")
    storage = None
    try:
        storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_READ)
    except (cv2.error, SystemError):
        pass
    if storage is None or not storage.isOpened():
        raise CaptureError(f"{path}: not a calibration as OpenCV writes them (%YAML:1.0)")
    return storage


def _matrix(storage: cv2.FileStorage, key: str, shape: tuple[int, ...], path: Path) -> np.ndarray:
    matrix = storage.getNode(key).mat()
    if matrix is None or matrix.size != np.prod(shape) or not np.isfinite(matrix).all():
        raise CaptureError(f"{path}: {key} is missing or not of {shape} finite numbers")
    return matrix.astype(np.float64).reshape(shape)
