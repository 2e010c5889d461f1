"""NeuS2: a ``transform_<frame>.json`` a frame."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from ...datasets.base import CaptureError
from .base import Footage, FootageView

_WORLD_FROM_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])


def read_neus2(root: Path, images: str, masks: str) -> Footage:
    """Reads NeuS2: a ``transform_<frame>.json`` a frame, in the folder or in its ``train``.

    With ``from_na`` poses have OpenCV axes, otherwise OpenGL's (NeuS2, DATA_CONVENTION.md). A
    camera is an image's position in the list; alpha is the mask.

    Args:
        root: The folder of the files, or the one above ``train``.
        images: What image paths are relative to; empty: the folder above ``train``.
        masks: Not used.

    Raises:
        CaptureError: A file is damaged, or frames differ in their number of cameras.
    """
    del masks
    folder = root / "train" if (root / "train").is_dir() else root
    paths = sorted(folder.glob("transform_*.json"), key=_number_in)
    if not paths:
        raise CaptureError(f"{folder}: no transform_<frame>.json; expected one a frame")
    tables = [_json(path) for path in paths]
    counts = [len(table["frames"]) for table in tables]
    if min(counts) != max(counts):
        odd = int(np.argmin(counts))
        raise CaptureError(f"{paths[odd]}: {counts[odd]} cameras; {max(counts)} in other frames")
    base = root / images if images else root
    views = []
    for camera in range(counts[0]):
        entries = [
            (table, table["frames"][camera], path)
            for table, path in zip(tables, paths, strict=True)
        ]
        parts = [_neus2_shot(*entry) for entry in entries]
        files = tuple(_existing(base, folder, entry, path) for _, entry, path in entries)
        intrinsics, poses = (np.stack(part) for part in zip(*parts, strict=True))
        size = [int(tables[0].get(side, 0)) for side in "wh"]
        views.append(
            FootageView(f"c{camera:03d}", files, None, intrinsics, poses, size[0], size[1])
        )
    place = {key: tables[0][key] for key in ("scale", "offset", "aabb_scale") if key in tables[0]}
    return Footage(tuple(views), place)


def _neus2_shot(
    table: dict[str, Any], entry: dict[str, Any], path: Path
) -> tuple[np.ndarray, np.ndarray]:
    try:
        pose = np.asarray(entry["transform_matrix"], np.float64).reshape(4, 4)
        intrinsics = np.asarray(entry["intrinsic_matrix"], np.float64)[:3, :3]
    except (KeyError, TypeError, ValueError):
        raise CaptureError(
            f"{path}: a camera without transform_matrix (4x4) or intrinsic_matrix (3x3 or 4x4)"
        ) from None
    return intrinsics, pose if table.get("from_na") else pose @ _WORLD_FROM_OPENGL


def _existing(base: Path, folder: Path, entry: dict[str, Any], path: Path) -> Path:
    written = str(entry.get("file_path", ""))
    for start in (base, folder):
        if (start / written).is_file():
            return start / written
    raise CaptureError(f"{path}: no image {written}; expected it below {base}")


def _json(path: Path) -> dict[str, Any]:
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        assert isinstance(table["frames"], list) and table["frames"]
    except (OSError, ValueError, KeyError, TypeError, AssertionError):
        raise CaptureError(f"{path}: not a NeuS2 file; expected JSON with frames") from None
    return table


def _number_in(path: Path) -> tuple[int, str]:
    found = re.findall(r"\d+", path.stem)
    return int(found[-1]) if found else -1, path.name
