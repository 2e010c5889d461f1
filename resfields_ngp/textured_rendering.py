"""Textured meshes as a capture's cameras see them: unlit, by the renderer of ``prepare``."""

from __future__ import annotations

import numpy as np

from .atlas import TexturedMesh
from .cameras import Cameras
from .prepare.pictures import render_mesh
from .prepare.raycasting import RayCaster
from .prepare.shading import ShadedMesh
from .sequences.base import Material
from .sequences.base import TexturedMesh as SequenceMesh

SAMPLES = 9
"""Rays a pixel."""


class TexturedScene:
    """A textured mesh that is ready to be rendered, without light: its texture holds that."""

    def __init__(self, textured: TexturedMesh) -> None:
        vertices = np.asarray(textured.mesh.vertices, np.float64)
        faces = textured.mesh.faces
        places = textured.atlas.uvs[textured.atlas.faces].astype(np.float64)
        materials = (Material(texture=textured.texture),)
        mesh = SequenceMesh(vertices, faces, materials, corner_uvs=places)
        self._mesh = ShadedMesh(mesh, None, 1.0)
        self._caster = RayCaster(vertices, faces)

    def render(self, cameras: Cameras, frame: int) -> tuple[np.ndarray, np.ndarray]:
        """Renders what a camera sees at one of its frames.

        Returns:
            (H, W, 3) uint8 colours, the mean of what a pixel's rays meet of the mesh, 0 where they
            meet nothing; and the (H, W) mask of pixels that it covers by half or more.
        """
        seen = render_mesh(self._mesh, self._caster, cameras, frame, SAMPLES)
        return np.round(seen.colours).astype(np.uint8), seen.mask


def lookup(
    texture: np.ndarray,  # (H, W, 3) uint8
    uvs: np.ndarray,  # (N, 2), v upwards
) -> np.ndarray:  # (N, 3)
    """Returns bilinear float32 values of a texture in [0, 255]; it ends at its border."""
    height, width = texture.shape[:2]
    places = np.stack([uvs[:, 0] * width, (1 - uvs[:, 1]) * height], 1) - 0.5
    places = np.clip(places, 0, [width - 1, height - 1])
    lows = np.minimum(places.astype(np.int64), [max(width - 2, 0), max(height - 2, 0)])
    (x, y), (right, down) = lows.T, (places - lows).astype(np.float32).T[..., None]
    next_x, next_y = np.minimum(x + 1, width - 1), np.minimum(y + 1, height - 1)
    top = texture[y, x] * (1 - right) + texture[y, next_x] * right
    bottom = texture[next_y, x] * (1 - right) + texture[next_y, next_x] * right
    return top * (1 - down) + bottom * down
