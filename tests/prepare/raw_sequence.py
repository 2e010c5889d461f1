"""Small raw sequences on disk: a textured shape of two colours, a file a frame."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import trimesh

UPPER, LOWER = (200, 60, 20), (30, 90, 220)
"""RGB of the ball's halves."""


def write_texture(path: Path, size: int = 32) -> None:
    """Writes a texture whose upper half is `UPPER` and whose lower half is `LOWER`."""
    image = np.empty((size, size, 3), np.uint8)
    image[: size // 2], image[size // 2 :] = UPPER[::-1], LOWER[::-1]
    cv2.imwrite(str(path), image)


def ball(radius: float, centre: tuple[float, float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the vertices and faces of a ball."""
    mesh = trimesh.creation.icosphere(subdivisions=3)
    return mesh.vertices * radius + centre, np.asarray(mesh.faces)


def obj_text(vertices: np.ndarray, faces: np.ndarray, mtl: str, middle: float) -> str:
    """Returns an OBJ whose faces lie in one half of the texture, by their height."""
    lines = [f"mtllib {mtl}", "usemtl skin"]
    lines += [f"v {x:.9f} {y:.9f} {z:.9f}" for x, y, z in vertices.tolist()]
    lines += ["vt 0.5 0.75", "vt 0.5 0.25"]
    heights = vertices[faces].mean(axis=1)[:, 1]
    for (a, b, c), height in zip((faces + 1).tolist(), heights, strict=True):
        uv = 1 if height > middle else 2
        lines.append(f"f {a}/{uv} {b}/{uv} {c}/{uv}")
    return "\n".join(lines) + "\n"


def moving_ball(frame: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns a ball of 0.8 m radius that moves along x, metres."""
    return ball(0.8, (0.1 * frame, 1.0, 0.0))


def moving_figure(frame: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns a body and a head that sticks out forwards, to its left: no axis is a mirror."""
    body, faces = ball(0.5, (0.0, 0.0, 0.0))
    body = body * (0.8, 1.4, 0.7) + (0.3 + 0.05 * frame, 0.8, -0.2)
    head, more = ball(0.3, (0.65 + 0.05 * frame, 1.3, 0.15))
    return np.concatenate([body, head]), np.concatenate([faces, more + len(body)])


def write_owlii(
    folder: Path,
    n_frames: int,
    unit: float = 1000.0,
    pattern: str = "",
    shape: Callable[[int], tuple[np.ndarray, np.ndarray]] = moving_ball,
) -> Path:
    """Writes a shape in raw Owlii naming, in two colours that meet 1 m up; `unit` a metre."""
    folder.mkdir(parents=True, exist_ok=True)
    for frame in range(n_frames):
        stem = (pattern or "ball_%08d") % (frame + 1)
        vertices, faces = shape(frame)
        text = obj_text(unit * vertices, faces, f"{stem}.mtl", unit)
        (folder / f"{stem}.obj").write_text(text)
        (folder / f"{stem}.mtl").write_text(f"newmtl skin\nKd 1 1 1\nmap_Kd {stem}.png\n")
        write_texture(folder / f"{stem}.png")
    return folder
