"""A picture of fitted surfaces beside the meshes that they were fitted to."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .cameras import Cameras, look_at
from .datasets.meshes import MeshSequence
from .evaluation import mesh_file
from .mesh import Mesh
from .mesh_files import read_mesh
from .pictures import write_png
from .rasterising import shaded
from .sheets import laid_out

SIZE = 320
"""Width and height of each view, pixels."""


def write_surface_comparison(sequence: MeshSequence, run: Path) -> Path | None:
    """Writes ``comparison.png``: inputs above, the run's meshes below, a few frames beside.

    Returns:
        The file; None where the run has no meshes.

    Raises:
        OSError: It could not be written.
    """
    numbers = sequence.frame_numbers
    chosen = sorted({i * sequence.n_frames // 4 for i in range(4)})
    columns, names = [], []
    for frame in chosen:
        path = mesh_file(run, numbers[frame])
        if path is not None:
            camera = _camera_on(sequence.meshes[frame])
            pair = (sequence.meshes[frame], read_mesh(path))
            columns.append([shaded(mesh, camera, 0) for mesh in pair])
            names.append(str(numbers[frame]))
    if not columns:
        return None
    busy = np.flatnonzero(np.any(columns, axis=(0, 1, 3, 4)))
    window = slice(max(0, busy.min() - 8), busy.max() + 9) if len(busy) else slice(None)
    rows = [[cell[window] for cell in row] for row in zip(*columns, strict=True)]
    write_png(run / "comparison.png", laid_out(rows, ("input", "fitted"), names))
    return run / "comparison.png"


def _camera_on(mesh: Mesh) -> Cameras:
    """Returns a camera that sees a mesh from the side and somewhat above, +y up."""
    low, high = mesh.vertices.min(0), mesh.vertices.max(0)
    middle, radius = (low + high) / 2.0, float(np.linalg.norm(high - low)) / 2.0
    direction = np.array([0.85, 0.35, 0.6])
    eye = middle + direction / np.linalg.norm(direction) * 4.0 * radius
    intrinsics = np.array([[2.1 * SIZE, 0, SIZE / 2], [0, 2.1 * SIZE, SIZE / 2], [0, 0, 1]])
    pose = look_at(eye, middle, np.array([0.0, 1.0, 0.0]))
    return Cameras(intrinsics[None], pose[None], SIZE, SIZE)
