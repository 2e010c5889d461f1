"""The ``.anime`` format of DeformingThings4D: one mesh whose vertices move.

Little-endian: int32 frames, vertices, triangles; float32 vertices of frame 0; int32 triangles;
float32 offsets of the other frames from frame 0. The published reader leaves frame 0 out.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..records import check_shape
from ..writing import write_whole

_HEADER = 12
_FIX = "copy it again, or export the animation anew"


def read_anime(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads every frame, the first one too.

    Returns:
        (n_frames, V, 3) float32 vertices and (F, 3) int64 triangles.

    Raises:
        OSError: It cannot be read.
        ValueError: It is cut off, or its header disagrees with its size or its triangles.
    """
    content = path.read_bytes()
    if len(content) < _HEADER:
        raise ValueError(f"{path}: cut off, {len(content)} bytes where 12 are the header; {_FIX}")
    n_frames, n_vertices, n_faces = (int(n) for n in np.frombuffer(content, "<i4", 3))
    counts = f"{n_frames} frames, {n_vertices} vertices, {n_faces} triangles"
    if min(n_frames, n_vertices, n_faces) < 1:
        raise ValueError(f"{path}: the header says {counts}; each must be 1 or more; {_FIX}")
    expected = _HEADER + 12 * (n_frames * n_vertices + n_faces)
    if len(content) != expected:
        verdict = "cut off" if len(content) < expected else "too long"
        raise ValueError(
            f"{path}: {verdict}, {len(content)} bytes where the header ({counts}) means"
            f" {expected}; {_FIX}"
        )
    split = _HEADER + 12 * n_vertices
    first = np.frombuffer(content, "<f4", 3 * n_vertices, _HEADER).reshape(1, n_vertices, 3)
    faces = np.frombuffer(content, "<i4", 3 * n_faces, split).reshape(n_faces, 3).astype(np.int64)
    offsets = np.frombuffer(content, "<f4", offset=split + 12 * n_faces)
    if faces.min() < 0 or faces.max() >= n_vertices:
        raise ValueError(
            f"{path}: a triangle names vertex {faces.max()}; allowed: 0 to {n_vertices - 1}; {_FIX}"
        )
    return np.concatenate([first, first + offsets.reshape(-1, n_vertices, 3)]), faces


def write_anime(
    path: Path,
    vertices: np.ndarray,  # (n_frames, V, 3)
    faces: np.ndarray,  # (F, 3)
) -> None:
    """Writes a sequence; read back it is the same to the rounding of float32 offsets.

    Raises:
        OSError: The disk is full or the folder is not writable.
    """
    sizes = check_shape("vertices", vertices, "T V 3") | check_shape("faces", faces, "F 3")
    first = vertices[0].astype("<f4")
    offsets = (vertices[1:] - first).astype("<f4")
    header = np.array([sizes["T"], sizes["V"], sizes["F"]], "<i4")
    parts = (header, first, faces.astype("<i4"), offsets)
    write_whole(path, b"".join(part.tobytes() for part in parts))
