"""One picture of a whole run: frames down; photograph, rendering, normals, depth, mesh across."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from .datasets.base import Capture, View
from .evaluation import mesh_file, scored_view
from .mesh_files import read_mesh
from .pictures import read_png, write_png
from .rasterising import shaded

COLUMNS = ("photograph", "rendering", "normals", "depth", "mesh")
_CELL = 240  # pixels along a cell
_GAP = 6
_MARGIN = 44  # for the labels, at the left and above
_PAPER = 255
_INK = (60, 60, 60)


def write_contact_sheet(run: Path, capture: Capture, n_rows: int = 5) -> Path | None:
    """Draws ``contact_sheet.png`` from a run's files.

    Rows are frames spread evenly over the sequence; all cells show the same square, cut to the
    subject. A cell whose file is missing stays empty.

    Args:
        run: The run folder, with renders and meshes.
        capture: The photographs.
        n_rows: Rows at most, 1 or more.

    Returns:
        The file; None where the run has no pictures of any camera of the capture.

    Raises:
        ValueError: A file of the run is damaged.
        OSError: The picture could not be written.
    """
    view = scored_view(run, capture)
    if view is None or not (run / "renders" / view.name / "rgb").is_dir():
        return None
    n_rows = min(n_rows, capture.n_frames)
    frames = np.linspace(0, capture.n_frames - 1, n_rows).round().astype(int).tolist()
    rows = [_row(run, view, frame, capture.frame_numbers[frame]) for frame in frames]
    window = _window([row["opacity"] for row in rows if "opacity" in row], view)
    height = _MARGIN + n_rows * (_CELL + _GAP)
    width = _MARGIN + len(COLUMNS) * (_CELL + _GAP)
    sheet = np.full((height, width, 3), _PAPER, np.uint8)
    for j, name in enumerate(COLUMNS):
        middle = _MARGIN + j * (_CELL + _GAP) + _CELL // 2
        _write(sheet, name, (middle, _MARGIN // 2))
    for i, (frame, row) in enumerate(zip(frames, rows, strict=True)):
        top = _MARGIN + i * (_CELL + _GAP)
        _write(sheet, str(capture.frame_numbers[frame]), (_MARGIN // 2, top + _CELL // 2))
        for j, name in enumerate(COLUMNS):
            left = _MARGIN + j * (_CELL + _GAP)
            cell = _cut(row[name], window) if name in row else np.full((_CELL, _CELL, 3), 235)
            sheet[top : top + _CELL, left : left + _CELL] = cell
    path = run / "contact_sheet.png"
    write_png(path, sheet)
    return path


def _row(run: Path, view: View, frame: int, number: int) -> dict[str, np.ndarray]:
    """Returns a frame's pictures, (H, W, 3) uint8, of the columns that are there."""
    folder, name = run / "renders" / view.name, f"{number:06d}.png"
    photograph = view.images[frame]
    if view.masks is not None:
        photograph = photograph * view.masks[frame][..., None]
    row = {"photograph": photograph}
    for column, channel in (("rendering", "rgb"), ("normals", "normal"), ("opacity", "mask")):
        if (folder / channel / name).is_file():
            row[column] = read_png(folder / channel / name)
    if (folder / "depth" / name).is_file():
        row["depth"] = depth_colours(read_png(folder / "depth" / name))
    mesh_path = mesh_file(run, number)
    if mesh_path is not None:
        row["mesh"] = shaded(read_mesh(mesh_path), view.cameras, frame)
    return row


def depth_colours(depths: np.ndarray) -> np.ndarray:
    """Returns (H, W) depths as (H, W, 3) uint8 colours, near bright, far dark, none black."""
    there = depths > 0
    if not there.any():
        return np.zeros((*depths.shape, 3), np.uint8)
    near, far = np.percentile(depths[there], [1, 99])
    part = np.clip((far - depths.astype(np.float64)) / max(far - near, 1e-9), 0, 1)
    levels = np.round(30 + 225 * part).astype(np.uint8)
    colours = cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)[..., ::-1]
    return colours * there[..., None]


def _window(opacities: list[np.ndarray], view: View) -> tuple[float, float, float]:
    """Returns the left, top and side, in pixels, of a square around all that is opaque."""
    width, height = view.cameras.width, view.cameras.height
    seen = np.any([opacity > 127 for opacity in opacities], axis=0) if opacities else np.zeros(1)
    if not seen.any():
        side = max(width, height)
        return (width - side) / 2, (height - side) / 2, side
    rows, columns = np.nonzero(seen)
    side = 1.12 * max(np.ptp(rows) + 1, np.ptp(columns) + 1)
    middle_x, middle_y = (columns.min() + columns.max() + 1) / 2, (rows.min() + rows.max() + 1) / 2
    return middle_x - side / 2, middle_y - side / 2, side


def _cut(pixels: np.ndarray, window: tuple[float, float, float]) -> np.ndarray:
    """Returns the window of a picture, scaled to a cell; black beyond the picture's edges."""
    left, top, side = window
    scale = _CELL / side
    move = np.array([[scale, 0, -left * scale], [0, scale, -top * scale]])
    move[:, 2] += 0.5 * scale - 0.5  # pixel centres, not corners, are where OpenCV counts from
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return cv2.warpAffine(np.ascontiguousarray(pixels), move, (_CELL, _CELL), flags=method)


def _write(sheet: np.ndarray, text: str, middle: tuple[int, int]) -> None:
    """Writes a label centred on a point."""
    face, size = cv2.FONT_HERSHEY_SIMPLEX, 0.5
    (width, height), _ = cv2.getTextSize(text, face, size, 1)
    corner = (middle[0] - width // 2, middle[1] + height // 2)
    cv2.putText(sheet, text, corner, face, size, _INK, 1, cv2.LINE_AA)
