"""Pictures of a textured mesh: several rays a pixel, cover, depth along the ray."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..cameras import Cameras
from .raycasting import MISS, RayCaster
from .shading import Hits, ShadedMesh

_RAYS_AT_ONCE = 1 << 18


@dataclass(frozen=True)
class PictureConfig:
    """What pictures of meshes look like."""

    samples: int = 4
    """Rays a pixel, on a square grid: 1, 4, 9, 16, ..."""
    lighting: Literal["none", "lambert"] = "none"
    """none shows the texture's own colours; lambert shades by a lamp at infinity."""
    ambient: float = 0.5
    """Share of light from everywhere, in [0, 1]; the rest is the lamp's."""
    lamp: tuple[float, float, float] = (0.35, 0.8, 0.5)
    """Direction towards the lamp, world axes."""
    background: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Colour behind the figure, sRGB in [0, 1]."""
    edges: Literal["cut", "blend", "alpha"] = "cut"
    """cut: a pixel covered by half or more shows the figure's own colour, any other the background.
    blend: by cover. alpha: RGBA, the figure's own colour with cover as (straight) alpha. Masks are
    255 from half cover on, with all three."""

    def __post_init__(self) -> None:
        if self.samples < 1 or math.isqrt(self.samples) ** 2 != self.samples:
            raise ValueError(f"samples is {self.samples}; allowed: 1, 4, 9, 16, 25, ...")
        if self.lighting not in ("none", "lambert"):
            raise ValueError(f'lighting is "{self.lighting}"; allowed: none, lambert')
        if not 0 <= self.ambient <= 1:
            raise ValueError(f"ambient is {self.ambient}; allowed: 0 to 1")
        if not np.linalg.norm(self.lamp) > 0:
            raise ValueError(f"lamp is {self.lamp}; expected a direction other than zero")
        if not all(0 <= part <= 1 for part in self.background):
            raise ValueError(f"background is {self.background}; allowed: 0 to 1")
        if self.edges not in ("cut", "blend", "alpha"):
            raise ValueError(f'edges is "{self.edges}"; allowed: cut, blend, alpha')

    @property
    def lamp_direction(self) -> np.ndarray | None:
        """The (3,) unit vector towards the lamp; None without one."""
        if self.lighting == "none":
            return None
        return np.asarray(self.lamp) / np.linalg.norm(self.lamp)


@dataclass(frozen=True)
class MeshPicture:
    """What a camera sees of a mesh."""

    colours: np.ndarray
    """(H, W, 3) float32 sRGB in [0, 255]: the mesh's own, where any ray of the pixel meets it."""
    cover: np.ndarray
    """(H, W) float32 share of the pixel's rays that meet it."""
    depths: np.ndarray
    """(H, W) float64 distance along the ray through the pixel's centre, world units, where it
    is covered by half or more; where just that ray misses, the nearest of the pixel's others;
    0 elsewhere."""

    @property
    def mask(self) -> np.ndarray:
        """(H, W) bool: covered by half or more."""
        return self.cover >= 0.5

    def image(self, config: PictureConfig) -> np.ndarray:
        """Returns (H, W, 3) uint8 RGB on the background, or (H, W, 4) with straight alpha."""
        if config.edges == "alpha":
            channels = np.dstack([self.colours, 255 * self.cover])
            return np.round(channels).clip(0, 255).astype(np.uint8)
        share = (self.cover if config.edges == "blend" else self.mask)[..., None]
        mixed = share * self.colours + (1 - share) * (255 * np.array(config.background))
        return np.round(mixed).clip(0, 255).astype(np.uint8)


def render_mesh(
    mesh: ShadedMesh, caster: RayCaster, cameras: Cameras, frame: int, samples: int
) -> MeshPicture:
    """Renders a mesh from a frame's camera.

    Args:
        mesh: World units.
        caster: The same mesh's.
        cameras: Where from.
        frame: Which of the cameras.
        samples: Rays a pixel, a square number.
    """
    side = math.isqrt(samples)
    shape = (cameras.height, cameras.width)
    colours = np.zeros((*shape, 3), np.float32)
    cover, depths = np.zeros(shape, np.float32), np.zeros(shape)
    for rows, columns in _bands(mesh.mesh.vertices, cameras, frame, samples):
        part = _render_band(mesh, caster, _Window(cameras, frame, rows, columns), side)
        colours[rows, columns], cover[rows, columns], depths[rows, columns] = part
    return MeshPicture(colours, cover, np.where(cover >= 0.5, depths, 0.0))


@dataclass(frozen=True)
class _Window:
    """A part of a camera's image."""

    cameras: Cameras
    frame: int
    rows: slice
    columns: slice

    @property
    def eye(self) -> np.ndarray:
        """(3,) world."""
        return self.cameras.world_from_camera[self.frame][:3, 3]

    @property
    def world_from_pixel(self) -> np.ndarray:
        """(3, 3), from (x, y, 1) to directions."""
        inverse = np.linalg.inv(self.cameras.intrinsics[self.frame])
        return self.cameras.world_from_camera[self.frame][:3, :3] @ inverse

    def directions(self, side: int) -> np.ndarray:
        """Returns (h, side, w, side, 3): through the middles of side x side parts of pixels."""
        x = np.arange(self.columns.start * side, self.columns.stop * side) / side + 0.5 / side
        y = np.arange(self.rows.start * side, self.rows.stop * side) / side + 0.5 / side
        matrix = self.world_from_pixel
        directions = (
            x[None, :, None] * matrix[:, 0] + y[:, None, None] * matrix[:, 1] + matrix[:, 2]
        )
        height, width = len(y) // side, len(x) // side
        return directions.reshape(height, side, width, side, 3)


def _render_band(
    mesh: ShadedMesh, caster: RayCaster, window: _Window, side: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the colours, cover and depths of a part of an image."""
    directions = window.directions(side)
    blocks = directions.shape[:4]
    found, distances, hits = _cast(mesh, caster, window, directions.reshape(-1, 3), side)
    sums = np.zeros((len(found), 3), np.float32)
    sums[found] = mesh.colours(hits)
    counts = found.reshape(blocks).sum(axis=(1, 3))
    total = sums.reshape(*blocks, 3).sum(axis=(1, 3))
    nearest = distances.reshape(blocks)
    if side % 2:
        central = nearest[:, side // 2, :, side // 2]
    else:
        straight = window.directions(1).reshape(-1, 3)
        central = _cast(mesh, caster, window, straight, 1)[1].reshape(counts.shape)
    depths = np.where(np.isfinite(central), central, nearest.min(axis=(1, 3)))
    colours = total / np.maximum(counts, 1)[..., None]
    return colours, counts / side**2, np.where(np.isfinite(depths), depths, 0.0)


def _cast(
    mesh: ShadedMesh, caster: RayCaster, window: _Window, directions: np.ndarray, side: int
) -> tuple[np.ndarray, np.ndarray, Hits]:
    """Returns which rays hit (N,), how far (N,), infinite for none, and the hits."""
    triangles = caster.first_hits(window.eye, directions)
    found = triangles != MISS
    triangles, rays = triangles[found], directions[found]
    planes = mesh.crosses[triangles]
    slopes = np.einsum("ni,ni->n", planes, rays)
    # Embree may name a triangle seen exactly edge on, which has no one place where it is met.
    slopes = np.where(np.abs(slopes) < 1e-300, 1e-300, slopes)
    ahead = np.einsum("ni,ni->n", planes, mesh.origins[triangles] - window.eye) / slopes
    across = window.world_from_pixel[:, :2] / side
    steps = ahead[:, None, None] * (
        across - rays[:, :, None] * ((planes @ across) / slopes[:, None])[:, None, :]
    )
    distances = np.full(len(directions), np.inf)
    distances[found] = ahead * np.linalg.norm(rays, axis=1)
    points = window.eye + ahead[:, None] * rays
    return found, distances, Hits(triangles, points, steps, -np.sign(slopes))


def _bands(
    vertices: np.ndarray, cameras: Cameras, frame: int, samples: int
) -> Iterator[tuple[slice, slice]]:
    """Yields rows and columns that hold all of a mesh, as many at once as fit the memory."""
    pixels, depths = cameras.project(vertices, frame)
    low, high = np.zeros(2, np.int64), np.array([cameras.width, cameras.height])
    if (depths > 1e-6).all():
        low = np.maximum(np.floor(pixels.min(axis=0)).astype(np.int64) - 1, low)
        high = np.minimum(np.ceil(pixels.max(axis=0)).astype(np.int64) + 1, high)
    if (low >= high).any():
        return
    columns = slice(int(low[0]), int(high[0]))
    n_rows = max(1, _RAYS_AT_ONCE // (samples * (columns.stop - columns.start)))
    for start in range(int(low[1]), int(high[1]), n_rows):
        yield slice(start, min(start + n_rows, int(high[1]))), columns
