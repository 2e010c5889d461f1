"""A sphere with a texture, and cameras that look at it; everything known in closed form."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import trimesh
from analytic import ring_of_cameras

from resfields_ngp.atlas import Atlas, TexturedMesh, unwrap
from resfields_ngp.baking import fill_gutter, texels
from resfields_ngp.datasets.base import View
from resfields_ngp.mesh import Mesh

CENTRE = np.array([3.0, -1.0, 2.0])
SIZE = 128


@cache
def ball(subdivisions: int = 3) -> tuple[Mesh, Atlas]:
    """Returns a sphere of radius 1 with normals, and its atlas."""
    sphere = trimesh.creation.icosphere(subdivisions)
    normals = np.asarray(sphere.vertices)
    mesh = Mesh(normals + CENTRE, np.asarray(sphere.faces, np.int64), normals)
    return mesh, unwrap(mesh, SIZE, 4)


def painted(mesh: Mesh, atlas: Atlas, size: int = SIZE) -> np.ndarray:
    """Returns a texture whose colours are the positions on the sphere."""
    texture = np.zeros((size, size, 3), np.uint8)
    covered = np.zeros((size, size), bool)
    for rows, columns, positions, _ in texels(mesh, atlas, size):
        texture[rows, columns] = as_colours(positions)
        covered[rows, columns] = True
    return fill_gutter(texture, covered)


def as_colours(positions: np.ndarray) -> np.ndarray:
    """Returns (N, 3) uint8 colours of positions on the sphere."""
    return np.round((positions - CENTRE + 1.1) / 2.2 * 255).astype(np.uint8)


def textured_ball() -> TexturedMesh:
    """Returns the sphere, painted with its positions."""
    mesh, atlas = ball()
    return TexturedMesh(mesh, atlas, painted(mesh, atlas))


def view(azimuth: float, colour: tuple[int, int, int], size: int = 64) -> View:
    """Returns a camera whose picture is of one colour where the sphere is, black elsewhere."""
    cameras = ring_of_cameras(CENTRE, 4.0, 1, azimuth, size)
    rows, columns = np.mgrid[:size, :size] + 0.5
    inverse = np.linalg.inv(cameras.intrinsics[0])
    rays = np.stack([columns, rows, np.ones_like(rows)], -1) @ inverse.T
    rays = rays @ cameras.world_from_camera[0][:3, :3].T
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    arm = CENTRE - cameras.world_from_camera[0][:3, 3]
    along = rays @ arm
    mask = (arm @ arm - along**2 < 1.0)[None]
    image = mask[..., None] * np.array(colour, np.uint8)
    return View(f"at_{azimuth:.1f}", cameras, image.astype(np.uint8), mask)


def moved(textured: TexturedMesh, shift: np.ndarray) -> TexturedMesh:
    """Returns a textured mesh with its vertices shifted by (3,) or (V, 3)."""
    vertices = textured.mesh.vertices + shift
    return replace(textured, mesh=replace(textured.mesh, vertices=vertices))
