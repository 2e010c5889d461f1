"""Files of the ResFields layout, written whole: cameras, pictures, clouds (see `owlii`)."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np

from ..cameras import Cameras
from ..records import check_shape
from ..writing import write_whole

CAMERA_FILE = "cameras_sphere.npz"
SEEN_FILE = "seen.png"
"""Of a camera whose images were straightened: 0 where they show nothing that its lens saw."""


def write_cameras(path: Path, cameras: Cameras, world_from_normalised: np.ndarray) -> None:
    """Writes ``world_mat_<i>`` and ``scale_mat_<i>`` of each frame, float32.

    Raises:
        OSError: The folder is not writable or the disk is full.
    """
    matrices = {}
    for frame in range(cameras.n_frames):
        matrices[f"world_mat_{frame}"] = np.vstack([cameras.projection(frame), [0, 0, 0, 1]])
        matrices[f"scale_mat_{frame}"] = world_from_normalised
    content = io.BytesIO()
    single = {key: matrix.astype(np.float32) for key, matrix in matrices.items()}
    np.savez(content, allow_pickle=False, **single)
    write_whole(path, content.getvalue())


def write_png(path: Path, image: np.ndarray) -> None:
    """Writes an image as PNG: (H, W) uint8 or uint16, (H, W, 3) RGB or (H, W, 4) RGBA.

    Raises:
        OSError: The folder is not writable or the disk is full.
    """
    if image.ndim == 3:
        order = cv2.COLOR_RGB2BGR if image.shape[2] == 3 else cv2.COLOR_RGBA2BGRA
        image = cv2.cvtColor(image, order)
    write_whole(path, cv2.imencode(".png", image)[1].tobytes())


def write_depth(path: Path, depths: np.ndarray) -> None:
    """Writes (H, W) distances along the ray, world units, as uint16 thousandths; 0 is unknown.

    Raises:
        ValueError: One is beyond 65.535 units.
        OSError: The folder is not writable or the disk is full.
    """
    thousandths = np.round(1000 * depths)
    if thousandths.max(initial=0) > np.iinfo(np.uint16).max:
        raise ValueError(
            f"{path}: a distance of {depths.max():g}, where depth images reach 65.535; the unit "
            "should be metres"
        )
    write_png(path, thousandths.astype(np.uint16))


def write_cloud(
    path: Path,
    points: np.ndarray,  # (N, 3) normalised
    normals: np.ndarray,  # (N, 3) unit
) -> None:
    """Writes points as binary PLY: float positions, normals as signed bytes, 127 times.

    Raises:
        OSError: The folder is not writable or the disk is full.
    """
    check_shape("points", points, "N 3")
    check_shape("normals", normals, f"{len(points)} 3")
    fields = [(axis, "<f4") for axis in "xyz"] + [(f"n{axis}", "i1") for axis in "xyz"]
    rows = np.empty(len(points), np.dtype(fields))
    bytes_of_normals = np.round(127 * normals).astype(np.int8)
    for index, axis in enumerate("xyz"):
        rows[axis], rows[f"n{axis}"] = points[:, index], bytes_of_normals[:, index]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(rows)}"]
    header += [f"property float {axis}" for axis in "xyz"]
    header += [f"property char n{axis}" for axis in "xyz"] + ["end_header", ""]
    write_whole(path, "\n".join(header).encode() + rows.tobytes())
