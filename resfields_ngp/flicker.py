"""Flicker: how much a sequence of textured meshes trembles where nothing should change.

A point of a frame's surface is *static* when the surfaces of the frames before and after pass
within `STATIC` of it. There

    vertex noise    |a + b| / 2, a and b the signed heights of the point over the surfaces before
                    and after: 0 for a surface that stays or moves evenly, however connected.
    texture change  mean absolute difference of the colours there and at the nearest point of the
                    surface after.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import trimesh
from scipy.spatial import KDTree

from .atlas import TexturedMesh
from .textured_rendering import lookup

STATIC = 0.01
"""How near, as a fraction of the figure's largest extent."""
N_POINTS = 20_000
"""Samples of a frame's surface."""


@dataclass(frozen=True)
class _Samples:
    """Points of one frame's surface."""

    points: np.ndarray
    normals: np.ndarray
    colours: np.ndarray
    extent: float
    tree: KDTree

    def heights(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns signed heights of points over this surface, and the nearest samples."""
        nearest = np.asarray(self.tree.query(points)[1])
        heights = ((points - self.points[nearest]) * self.normals[nearest]).sum(1)
        return heights, nearest


def measure_flicker(meshes: Iterable[TexturedMesh], seed: int = 0) -> dict[str, Any]:
    """Measures a sequence, three frames in memory at a time.

    Args:
        meshes: The frames in order.
        seed: Of the samples.

    Returns:
        ``vertex_noise`` (root mean square, world units), ``vertex_noise_of_extent`` (the same as a
        fraction of the largest extent), ``texture_change`` (of 255) and ``static_part`` (of the
        surface); None where no point is static.
    """
    window: list[_Samples] = []
    noises, changes, parts, extents = [], [], [], []
    for mesh in meshes:
        window.append(_sampled(mesh, seed))
        if len(window) < 3:
            continue
        before, here, after = window
        below, _ = before.heights(here.points)
        above, nearest = after.heights(here.points)
        static = np.maximum(np.abs(below), np.abs(above)) < STATIC * here.extent
        noises.append(((below + above)[static] / 2) ** 2)
        changes.append(np.abs(here.colours[static] - after.colours[nearest[static]]).mean(1))
        parts.append(static.mean())
        extents.append(here.extent)
        window.pop(0)
    measured = bool(noises) and any(map(len, noises))
    noise = float(np.sqrt(np.concatenate(noises).mean())) if measured else None
    return {
        "vertex_noise": noise,
        "vertex_noise_of_extent": noise / float(np.mean(extents)) if noise is not None else None,
        "texture_change": float(np.concatenate(changes).mean()) if measured else None,
        "static_part": float(np.mean(parts)) if parts else 0.0,
    }


def _sampled(textured: TexturedMesh, seed: int) -> _Samples:
    """Returns points drawn uniformly by area, with normals and colours."""
    mesh = trimesh.Trimesh(textured.mesh.vertices, textured.mesh.faces, process=False)
    points, faces = trimesh.sample.sample_surface(mesh, N_POINTS, seed=seed)[:2]
    points, faces = np.asarray(points), np.asarray(faces)
    corners = np.asarray(mesh.triangles)[faces]
    weights = trimesh.triangles.points_to_barycentric(corners, points)
    uvs = (textured.atlas.uvs[textured.atlas.faces[faces]] * weights[..., None]).sum(1)
    normals = np.asarray(mesh.face_normals)[faces]
    extent = float(np.ptp(textured.mesh.vertices, axis=0).max())
    return _Samples(points, normals, lookup(textured.texture, uvs), extent, KDTree(points))
