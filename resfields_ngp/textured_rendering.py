"""Textured meshes as a capture's cameras see them: unlit, edges averaged over samples."""

from __future__ import annotations

import numpy as np

from .atlas import TexturedMesh
from .cameras import Cameras
from .rasterising import barycentric, rasterise

SAMPLES = 3
"""Samples of a pixel along each axis."""


def render_textured(
    textured: TexturedMesh, cameras: Cameras, frame: int
) -> tuple[np.ndarray, np.ndarray]:
    """Renders a mesh without light, for the texture holds it already.

    Args:
        textured: World units.
        cameras: The camera.
        frame: Its frame.

    Returns:
        (H, W, 3) uint8 colours, the mean of what a pixel's samples show of the mesh, 0 where they
        show none; and the (H, W) mask of pixels that it covers by half or more.
    """
    fine = cameras.resized(SAMPLES)
    triangles, _ = rasterise(textured.mesh, fine, frame)
    rows, columns = np.nonzero(triangles >= 0)
    chosen = triangles[rows, columns]
    pixels, depths = fine.project(np.asarray(textured.mesh.vertices, np.float64), frame)
    corners = textured.mesh.faces[chosen]
    weights = barycentric(pixels[corners], np.stack([columns, rows], 1) + 0.5) / depths[corners]
    weights /= weights.sum(1, keepdims=True)
    uvs = (textured.atlas.uvs[textured.atlas.faces[chosen]] * weights[..., None]).sum(1)
    samples = np.zeros((*triangles.shape, 4), np.float32)
    samples[rows, columns, :3] = lookup(textured.texture, uvs)
    samples[rows, columns, 3] = 1.0
    shape = (cameras.height, SAMPLES, cameras.width, SAMPLES, 4)
    means = samples.reshape(shape).mean((1, 3))
    colours = means[..., :3] / np.maximum(means[..., 3:], 1e-6)
    return np.round(colours).astype(np.uint8), means[..., 3] >= 0.5


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
