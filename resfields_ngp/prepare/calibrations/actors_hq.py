"""ActorsHQ: ``calibration.csv`` and ``aabbs.csv``, as the humanrf code reads them."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ...datasets.base import CaptureError
from .base import Footage, FootageView, checked_views, files_of, pose_of


def read_actors_hq(root: Path, images: str, masks: str) -> Footage:
    """Reads ActorsHQ: ``calibration.csv``, ``rgbs/<camera>/``, ``masks/<camera>/``, ``aabbs.csv``.

    Focal lengths and centres are in image widths and heights, rotations axis-angle from camera to
    world (humanrf, actorshq/dataset/camera_data.py).

    Args:
        root: The folder with ``calibration.csv``.
        images: Folder of the cameras' folders, beside it; empty: ``rgbs``.
        masks: The same for masks; empty: ``masks``.

    Raises:
        CaptureError: A column, a number or the footage of a camera is missing.
    """
    path = root / "calibration.csv"
    views = []
    for row in _table(path):
        try:
            view = _view(row)
        except (KeyError, ValueError) as error:
            raise CaptureError(
                f"{path}: camera {row.get('name')}: {error} is missing or no number; expected "
                "name,w,h,rx,ry,rz,tx,ty,tz,fx,fy,px,py"
            ) from None
        stored, cut_out = files_of(root, view.name, images or "rgbs", masks or "masks")
        if stored:
            views.append(replace(view, images=stored, masks=cut_out))
    return Footage(checked_views(views, root / (images or "rgbs")), _boxes(root))


def _view(row: dict[str, str]) -> FootageView:
    """Returns a camera without its footage."""
    width, height = int(row["w"]), int(row["h"])
    turn = cv2.Rodrigues(np.array([float(row[key]) for key in ("rx", "ry", "rz")]))[0]
    place = np.array([float(row[key]) for key in ("tx", "ty", "tz")])
    fx, fy, px, py = (float(row[key]) for key in ("fx", "fy", "px", "py"))
    intrinsics = np.array([[fx * width, 0, px * width], [0, fy * height, py * height], [0, 0, 1]])
    k1, k2, k3 = (float(row.get(key) or 0) for key in ("k1", "k2", "k3"))
    distortion = (k1, k2, 0.0, 0.0, k3) if any((k1, k2, k3)) else ()
    pose = pose_of(np.asarray(turn), place)[None]
    return FootageView(row["name"], (), None, intrinsics[None], pose, width, height, distortion)


def _boxes(root: Path) -> dict[str, Any]:
    """Returns the box about all boxes of ``aabbs.csv``, in the folder or the one above."""
    for path in (root / "aabbs.csv", root.parent / "aabbs.csv"):
        if not path.is_file():
            continue
        try:
            low = [[float(r[f"aabb_min_{axis}"]) for axis in "xyz"] for r in _table(path)]
            high = [[float(r[f"aabb_max_{axis}"]) for axis in "xyz"] for r in _table(path)]
        except (KeyError, ValueError) as error:
            raise CaptureError(f"{path}: {error} is missing or no number") from None
        return {"aabb": [np.min(low, axis=0).tolist(), np.max(high, axis=0).tolist()]}
    return {}


def _table(path: Path) -> list[dict[str, str]]:
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except FileNotFoundError:
        raise CaptureError(f"{path}: no such calibration") from None
