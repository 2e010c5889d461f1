"""A flow in one picture: frames across; the input, the first frame's mesh led there, the error."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from .cameras import Cameras, look_at
from .flow import FlowField, advected
from .flow_scores import distances
from .mesh import Mesh
from .model_space import ModelSpace
from .pictures import write_png
from .rasterising import rasterise, shaded

N_COLUMNS = 5
WORST = 0.05
"""Error, as a part of the mean motion, that is drawn in the brightest colour."""
_CELL = (260, 170)
"""Width and height of a picture, pixels."""
_ROWS = ("input", "advected", "error")
_MARGIN = 84


def write_flow_picture(
    field: FlowField, space: ModelSpace, vertices: np.ndarray, faces: np.ndarray, path: Path
) -> None:
    """Draws frames spread over the sequence, seen from one side.

    Args:
        field: The flow.
        space: Its model space.
        vertices: (n_frames, V, 3) truth, world units.
        faces: (F, 3) triangles of every frame.
        path: The PNG to write.

    Raises:
        OSError: It could not be written.
    """
    count = min(N_COLUMNS, len(vertices))
    frames = np.linspace(0, len(vertices) - 1, count).round().astype(int).tolist()
    cameras = side_camera(vertices)
    motion = np.mean([distances(frame, vertices[0]).mean() for frame in vertices[1:]])
    width, height = _CELL
    sheet = np.full((_MARGIN // 2 + 3 * height, _MARGIN + count * width, 3), 255, np.uint8)
    for j, frame in enumerate(frames):
        there = advected(field, space, vertices[0], frame)
        errors = distances(there, vertices[frame]) / max(motion, 1e-12)
        cells = [
            shaded(Mesh(vertices[frame], faces), cameras, 0),
            shaded(Mesh(there, faces), cameras, 0),
            error_colours(Mesh(there, faces), errors, cameras),
        ]
        left = _MARGIN + j * width
        for i, cell in enumerate(cells):
            top = _MARGIN // 2 + i * height
            sheet[top : top + height, left : left + width] = cell
        _write(sheet, str(frame), (left + width // 2, _MARGIN // 4))
    for i, name in enumerate(_ROWS):
        _write(sheet, name, (_MARGIN // 2, _MARGIN // 2 + i * height + height // 2))
    write_png(path, sheet)


def error_colours(
    mesh: Mesh,
    errors: np.ndarray,  # (V,) parts of the mean motion
    cameras: Cameras,
) -> np.ndarray:
    """Returns (H, W, 3) uint8: a mesh coloured by its vertices' errors, dark blue for none."""
    triangles, _ = rasterise(mesh, cameras, 0)
    levels = np.clip(errors / WORST, 0.0, 1.0)[mesh.faces].mean(1) * 255
    palette = cv2.applyColorMap(levels.round().astype(np.uint8)[:, None], cv2.COLORMAP_VIRIDIS)
    colours = np.concatenate([palette[:, 0, ::-1], np.zeros((1, 3), np.uint8)])
    return colours[triangles]


def side_camera(vertices: np.ndarray) -> Cameras:
    """Returns a camera that sees all frames, from the side of the longest horizontal extent.

    The y axis is taken for up, as glTF and .anime have it.
    """
    points = vertices.reshape(-1, 3).astype(np.float64)
    low, high = points.min(0), points.max(0)
    middle, size = 0.5 * (low + high), float(np.linalg.norm(high - low))
    extent = high - low
    away = np.array([1.0, 0.35, 0.45]) if extent[2] >= extent[0] else np.array([0.45, 0.35, 1.0])
    eye = middle + 2.0 * size * away / np.linalg.norm(away)
    pose = look_at(eye, middle, np.array([0.0, 1.0, 0.0]))
    width, height = _CELL
    focal = 2.2 * width
    intrinsics = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])
    return Cameras(intrinsics[None], pose[None], width, height)


def _write(sheet: np.ndarray, text: str, middle: tuple[int, int]) -> None:
    face, ink = cv2.FONT_HERSHEY_SIMPLEX, (60, 60, 60)
    (width, height), _ = cv2.getTextSize(text, face, 0.5, 1)
    corner = (middle[0] - width // 2, middle[1] + height // 2)
    cv2.putText(sheet, text, corner, face, 0.5, ink, 1, cv2.LINE_AA)
