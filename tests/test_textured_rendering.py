"""Laws of textured pictures: a quad shows its texture, in perspective, and nothing beside it."""

from __future__ import annotations

import numpy as np
from textured_ball import CENTRE, as_colours, textured_ball, view

from resfields_ngp.atlas import Atlas, TexturedMesh
from resfields_ngp.cameras import Cameras
from resfields_ngp.mesh import Mesh
from resfields_ngp.textured_rendering import TexturedScene, lookup

QUAD = np.array([[0, 1, 2], [0, 2, 3]])
UVS = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]], np.float32)


def ramps(size: int = 64) -> np.ndarray:
    """Returns a texture that is red along u and green along v."""
    u, v = np.meshgrid(np.arange(size) + 0.5, size - np.arange(size) - 0.5)
    return np.round(np.stack([u, v, 0 * u], -1) / size * 255).astype(np.uint8)


def camera(size: int = 40) -> Cameras:
    """Returns a camera at the origin that looks along z; right is x, down is y."""
    matrix = np.array([[size, 0, size / 2], [0, size, size / 2], [0, 0, 1.0]])
    return Cameras(matrix[None], np.eye(4)[None], size, size)


def test_a_slanted_quad_shows_its_texture_in_perspective() -> None:
    corners = np.array([[-0.8, 0.4, 1.0], [1.6, 0.8, 3.0], [1.6, -0.8, 3.0], [-0.8, -0.4, 1.0]])
    scene = TexturedScene(TexturedMesh(Mesh(corners, QUAD), Atlas(UVS, QUAD), ramps()))
    picture, mask = scene.render(camera(), 0)
    rows, columns = np.nonzero(mask)
    assert len(rows) > 300
    # The plane is x = 1.2 z - 2: u is where the ray meets it, closed form.
    slopes = (columns + 0.5 - 20) / 40
    depths = 2 / (1.2 - slopes)
    inner = (columns > 5) & (columns < 35)
    expected = (depths - 1) / 2 * 255
    assert np.abs(picture[rows, columns, 0] - expected)[inner].max() < 6


def test_a_sphere_shows_its_positions_and_covers_its_outline() -> None:
    seen = view(0.7, (255, 255, 255))
    picture, mask = TexturedScene(textured_ball()).render(seen.cameras, 0)
    assert seen.masks is not None
    assert (mask & seen.masks[0]).sum() / (mask | seen.masks[0]).sum() > 0.97
    rows, columns = np.nonzero(mask)
    inverse = np.linalg.inv(seen.cameras.intrinsics[0])
    rays = np.stack([columns + 0.5, rows + 0.5, np.ones(len(rows))], 1) @ inverse.T
    rays = rays @ seen.cameras.world_from_camera[0][:3, :3].T
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    eye = seen.cameras.world_from_camera[0][:3, 3]
    arm = CENTRE - eye
    across = arm @ arm - (rays @ arm) ** 2
    inner = across < 0.8
    hits = eye + rays * (rays @ arm - np.sqrt(np.maximum(1 - across, 0)))[:, None]
    off = np.abs(picture[rows, columns].astype(int) - as_colours(hits))[inner]
    assert off.mean() < 2 and off.max() < 16


def test_nothing_is_seen_behind_the_camera() -> None:
    corners = np.array([[-1.0, 1, -2], [1, 1, -2], [1, -1, -2], [-1, -1, -2]])
    scene = TexturedScene(TexturedMesh(Mesh(corners, QUAD), Atlas(UVS, QUAD), ramps()))
    picture, mask = scene.render(camera(), 0)
    assert not mask.any() and not picture.any()


def test_lookups_at_texel_centres_are_the_texels() -> None:
    texture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    rows, columns = np.mgrid[:5, :7].reshape(2, -1)
    uvs = np.stack([(columns + 0.5) / 7, 1 - (rows + 0.5) / 5], 1)
    np.testing.assert_allclose(lookup(texture, uvs), texture[rows, columns], atol=1e-3)
    assert lookup(texture[:1, :1], np.array([[0.2, 0.9]])).tolist() == [texture[0, 0].tolist()]
