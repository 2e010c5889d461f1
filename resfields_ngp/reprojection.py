"""A picture to judge a capture by: the hull's outline, the masks' and the box on the images."""

from __future__ import annotations

from itertools import combinations, product
from pathlib import Path

import cv2
import mcubes
import numpy as np

from .datasets.base import Capture, View
from .hull import Hull
from .mesh import Mesh
from .rasterising import silhouette
from .writing import write_whole

_CELL = 384  # longest side of one image in the picture, pixels
_MASK, _HULL, _BOX = (60, 220, 60), (255, 60, 60), (150, 150, 160)
_AXES = ((255, 80, 80), (80, 220, 80), (90, 140, 255))


def hull_mesh(hull: Hull, frame: int) -> Mesh:
    """Returns the surface of a frame's hull, world units, closed at the faces of the box."""
    padded = np.pad(hull.distances[frame], 1, constant_values=1.0)
    vertices, faces = mcubes.marching_cubes(padded, 0.0)
    positions = (vertices - 0.5) / hull.resolution
    return Mesh(hull.space.to_world(positions, frame), faces.astype(np.int64))


def write_reprojection_picture(capture: Capture, hull: Hull, path: Path, n_frames: int = 3) -> None:
    """Writes a PNG of a few frames (down) and training views (across).

    Green: the outline of the mask. Red: that of the hull, seen by this camera. Grey: the box of
    model space. The three short lines at the origin of normalised space are its axes, x red, y
    green, z blue.

    Args:
        capture: The capture.
        hull: Its hull.
        path: The file to write.
        n_frames: How many frames, spread over the sequence.

    Raises:
        OSError: The file cannot be written.
    """
    chosen = np.linspace(0, capture.n_frames - 1, min(n_frames, capture.n_frames)).round()
    rows = []
    for frame in chosen.astype(int):
        mesh = hull_mesh(hull, frame) if capture.has_masks else None
        cells = [_cell(capture, view, hull, mesh, frame) for view in capture.views[:8]]
        rows.append(_joined(cells))
    encoded = cv2.imencode(".png", cv2.cvtColor(np.concatenate(rows), cv2.COLOR_RGB2BGR))[1]
    write_whole(path, encoded.tobytes())


def _joined(cells: list[np.ndarray]) -> np.ndarray:
    """Returns images side by side in squares of the picture's cell size."""
    squares = []
    for cell in cells:
        square = np.zeros((_CELL, _CELL, 3), np.uint8)
        square[: cell.shape[0], : cell.shape[1]] = cell
        squares.append(square)
    return np.concatenate(squares, axis=1)


def _cell(capture: Capture, view: View, hull: Hull, mesh: Mesh | None, frame: int) -> np.ndarray:
    """Returns one view's image at a frame, enlarged or reduced, with all lines on it."""
    scale = _CELL / max(view.cameras.width, view.cameras.height)
    cameras = view.cameras.resized(scale)
    size = (cameras.width, cameras.height)
    image = cv2.resize(view.images[frame], size, interpolation=cv2.INTER_AREA)
    if view.masks is not None:
        mask = view.masks[frame].astype(np.uint8)
        _outline(image, cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST), _MASK)
    if mesh is not None and mesh.n_faces:
        _outline(image, silhouette(mesh, cameras, frame).astype(np.uint8), _HULL)
    corners = np.array(list(product((0.0, 1.0), repeat=3)))
    pixels, depths = cameras.project(hull.space.to_world(corners, frame), frame)
    for i, j in combinations(range(8), 2):
        if np.abs(corners[i] - corners[j]).sum() == 1:
            _line(image, pixels[[i, j]], depths[[i, j]], _BOX)
    matrix = capture.world_from_normalised
    ends = np.concatenate([np.zeros((1, 3)), 0.25 * np.eye(3)]) @ matrix[:3, :3].T + matrix[:3, 3]
    pixels, depths = cameras.project(ends, frame)
    for axis, colour in enumerate(_AXES, start=1):
        _line(image, pixels[[0, axis]], depths[[0, axis]], colour)
    label = f"{view.name}, frame {capture.frame_numbers[frame]}"
    cv2.putText(image, label, (6, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1)
    return image


def _outline(image: np.ndarray, mask: np.ndarray, colour: tuple[int, int, int]) -> None:
    contours = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)[0]
    cv2.drawContours(image, contours, -1, colour, 1)


def _line(
    image: np.ndarray, pixels: np.ndarray, depths: np.ndarray, colour: tuple[int, int, int]
) -> None:
    """Draws a line between two pixels unless it reaches behind the camera."""
    if (depths > 1e-6).all() and np.abs(pixels).max() < 20000:
        start, end = np.round(pixels).astype(int)
        cv2.line(image, start.tolist(), end.tolist(), colour, 1, cv2.LINE_AA)
