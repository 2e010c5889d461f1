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
from .sheets import laid_out

N_COLUMNS = 5
WORST = 0.05
"""Error, as a part of the mean motion, that is drawn in the brightest colour."""
_CELL = (260, 170)
"""Width and height of a picture, pixels."""
_ROWS = ("input", "advected", "error")


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
    columns = []
    for frame in frames:
        there = advected(field, space, vertices[0], frame)
        errors = distances(there, vertices[frame]) / max(motion, 1e-12)
        cells = (
            shaded(Mesh(vertices[frame], faces), cameras, 0),
            shaded(Mesh(there, faces), cameras, 0),
            error_colours(Mesh(there, faces), errors, cameras),
        )
        columns.append(cells)
    rows = list(zip(*columns, strict=True))
    write_png(path, laid_out(rows, _ROWS, [str(frame) for frame in frames]))


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
