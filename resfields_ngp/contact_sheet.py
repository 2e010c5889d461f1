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
_CELL = 240  # pixels along a cell's longer side
_GAP = 6
_MARGIN = 44  # for the labels, at the left and above
_PAPER = 255
_EMPTY = 235  # a cell whose file is missing
_INK = (60, 60, 60)


def write_contact_sheet(run: Path, capture: Capture, n_rows: int = 5) -> Path | None:
    """Draws ``contact_sheet.png`` from a run's files.

    Rows are frames spread evenly over the sequence; all cells show the same window, cut to the
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
    sheet = _laid_out(rows, [str(capture.frame_numbers[frame]) for frame in frames], window)
    path = run / "contact_sheet.png"
    write_png(path, sheet)
    return path


def _laid_out(
    rows: list[dict[str, np.ndarray]], labels: list[str], window: tuple[float, ...]
) -> np.ndarray:
    """Returns the sheet, (H, W, 3) uint8: rows and columns of cells with labels."""
    scale = _CELL / max(window[2:])
    across, down = round(window[2] * scale), round(window[3] * scale)
    height = _MARGIN + len(rows) * (down + _GAP)
    width = _MARGIN + len(COLUMNS) * (across + _GAP)
    sheet = np.full((height, width, 3), _PAPER, np.uint8)
    for j, name in enumerate(COLUMNS):
        _write(sheet, name, (_MARGIN + j * (across + _GAP) + across // 2, _MARGIN // 2))
    for i, (label, row) in enumerate(zip(labels, rows, strict=True)):
        top = _MARGIN + i * (down + _GAP)
        _write(sheet, label, (_MARGIN // 2, top + down // 2))
        for j, name in enumerate(COLUMNS):
            left = _MARGIN + j * (across + _GAP)
            cell = _cut(row[name], window, (across, down)) if name in row else _EMPTY
            sheet[top : top + down, left : left + across] = cell
    return sheet


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


def _window(opacities: list[np.ndarray], view: View) -> tuple[float, ...]:
    """Returns left, top, width and height, in pixels, of a box around all that is opaque."""
    width, height = view.cameras.width, view.cameras.height
    seen = np.any([opacity > 127 for opacity in opacities], axis=0) if opacities else np.zeros(1)
    if not seen.any():
        return 0.0, 0.0, width, height
    rows, columns = np.nonzero(seen)
    border = 0.06 * max(np.ptp(rows) + 1, np.ptp(columns) + 1)
    left, top = columns.min() - border, rows.min() - border
    right, bottom = columns.max() + 1 + border, rows.max() + 1 + border
    return left, top, right - left, bottom - top


def _cut(pixels: np.ndarray, window: tuple[float, ...], size: tuple[int, int]) -> np.ndarray:
    """Returns the window of a picture at a size; black beyond the picture's edges."""
    left, top, width, height = window
    scale = np.array([size[0] / width, size[1] / height])
    # Pixel centres, not corners, are where OpenCV counts from.
    shift = 0.5 * scale - 0.5 - np.array([left, top]) * scale
    move = np.column_stack([np.diag(scale), shift])
    method = cv2.INTER_AREA if scale[0] < 1 else cv2.INTER_CUBIC
    return cv2.warpAffine(np.ascontiguousarray(pixels), move, size, flags=method)


def _write(sheet: np.ndarray, text: str, middle: tuple[int, int]) -> None:
    """Writes a label centred on a point."""
    face, size = cv2.FONT_HERSHEY_SIMPLEX, 0.5
    (width, height), _ = cv2.getTextSize(text, face, size, 1)
    corner = (middle[0] - width // 2, middle[1] + height // 2)
    cv2.putText(sheet, text, corner, face, size, _INK, 1, cv2.LINE_AA)
