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
from .sheets import laid_out

COLUMNS = ("photograph", "rendering", "normals", "depth", "mesh")
_CELL = 240  # pixels along a cell's longer side


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
    scale = _CELL / max(window[2:])
    size = round(window[2] * scale), round(window[3] * scale)
    cells = [
        [_cut(row[name], window, size) if name in row else None for name in COLUMNS] for row in rows
    ]
    names = [str(capture.frame_numbers[frame]) for frame in frames]
    path = run / "contact_sheet.png"
    write_png(path, laid_out(cells, names, COLUMNS))
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
