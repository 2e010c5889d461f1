"""Occupancy: a coarse signed distance for every frame, carved from masks, narrowed by the field.

Rays sphere-trace through it to the band around the surface, so a late ray takes about five
samples, and stop behind the surface. Density heads and captures without masks use the same grid
with distance 0 wherever something may be.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.nn.functional import max_pool3d

from .backends.base import Backend
from .field import Field
from .hull import Hull
from .hull_core import core_distances
from .ranges import check_ranges
from .records import FrameSlices, Rays, Samples
from .threads import in_threads


@dataclass(frozen=True)
class OccupancyConfig:
    """How densely rays are sampled, and how often the grid follows the field."""

    core: float = 0.3
    """Where surfaces begin: raised above the hull by this part of its local radius; 0 is the hull
    itself."""
    band: float = 3.5
    """Half-width of the sampled band around the surface, in units of 1 / sharpness."""
    min_band: float = 0.25
    """Half-width that the band keeps besides, in grid cells: the cache is coarse, a little old."""
    step: float = 2.0
    """Distance between samples on a ray, in units of 1 / sharpness."""
    min_step: float = 0.0015
    """Smallest distance between samples, model units."""
    max_step: float = 0.04
    """Largest distance between samples, model units."""
    stretch: float = 3.0
    """How much longer steps may be on rays that graze the surface, 1 or more."""
    refresh_every: int = 16
    """Training steps between refreshes, of one batch of frames each."""

    def __post_init__(self) -> None:
        check_ranges(
            "occupancy",
            self,
            core=(0.0, 1.0),
            min_band=(0.0, math.inf),
            stretch=(1.0, math.inf),
            refresh_every=(1, math.inf),
        )
        if self.band <= 0.0 or self.step <= 0.0:
            raise ValueError(
                f"occupancy.band is {self.band} and step {self.step}; allowed: above 0"
            )
        if not 0.0 < self.min_step <= self.max_step:
            raise ValueError(
                f"occupancy.min_step is {self.min_step} and max_step {self.max_step}; "
                "allowed: 0 < min <= max"
            )


class Occupancy(nn.Module):
    """Cached signed distance of every frame, at the cell centres of [0, 1]^3."""

    distances: Tensor
    """(n_frames, G, G, G) float32, model units; trusted near 0, merely far elsewhere."""
    hull: Tensor
    """(n_frames, G, G, G) float32 signed distance to the visual hull; -0.5 without masks."""
    outside: Tensor
    """(n_frames, G, G, G) float32 distance to the cells that touch the hull; 0 in it."""

    def __init__(
        self,
        hull: Hull,
        config: OccupancyConfig,
        has_masks: bool,
        start: np.ndarray | None = None,
    ) -> None:
        """Begins with the core of the hull.

        Args:
            hull: Where the subject can be.
            config: How it is sampled.
            has_masks: Whether the hull says anything; without, all is near a surface at first.
            start: Distances to begin with instead, such as those of a checkpoint.
        """
        super().__init__()
        self.config = config
        self.has_masks = has_masks
        self.margin = hull.margin
        self.register_buffer("hull", torch.from_numpy(hull.distances), persistent=False)
        # The eight cell centres around a point of the hull are nearer than a cell's diagonal.
        outside = (self.hull - 2.0 * hull.margin).clamp(min=0.0)
        self.register_buffer("outside", outside, persistent=False)
        if start is None and has_masks:
            cores = in_threads(partial(core_distances, part=config.core), list(hull.distances))
            start = np.stack(list(cores))
        start = np.zeros_like(hull.distances) if start is None else start
        self.register_buffer("distances", torch.from_numpy(start))

    @property
    def resolution(self) -> int:
        """Cells per side, G."""
        return self.distances.shape[1]

    def band(self, sharpness: float) -> float:
        """Returns the half-width of the sampled band, model units."""
        return self.config.band / sharpness + self.config.min_band / self.resolution

    def step(self, sharpness: float) -> float:
        """Returns the distance between samples, model units."""
        return min(max(self.config.step / sharpness, self.config.min_step), self.config.max_step)

    def march(
        self,
        rays: Rays,
        backend: Backend,
        sharpness: float,
        jitter: Tensor | None,
        capacity: int | None = None,
    ) -> Samples:
        """Returns the samples of rays near the surface; see `Backend.march`."""
        return backend.march(
            rays,
            self.distances,
            self.band(sharpness),
            self.step(sharpness),
            self.config.stretch,
            jitter,
            capacity,
        )

    def march_hull(self, rays: Rays, backend: Backend, step: float) -> Samples:
        """Returns samples at equal steps throughout the hull, whatever the field says.

        Not differentiable.
        """
        return backend.march(rays, self.outside, 1e-6, step, 1.0, None)

    def hull_distances(
        self,
        positions: Tensor,  # (N, 3)
        slices: FrameSlices,
        backend: Backend,
    ) -> Tensor:  # (N,)
        """Interpolates the signed distance to the visual hull. Not differentiable."""
        return backend.interpolate(self.hull, positions, slices)

    def cached_distances(
        self, positions: Tensor, slices: FrameSlices, backend: Backend
    ) -> Tensor:  # (N,)
        """Interpolates the cached distance; at the start, that of the hull's core.

        Not differentiable.
        """
        return backend.interpolate(self.distances, positions, slices)

    @torch.no_grad()
    def refresh(
        self,
        field: Field,
        frames: tuple[int, ...],
        fraction: float,
        generator: torch.Generator | None,
    ) -> None:
        """Re-evaluates cells near the surface, and a tenth of the hull at random, at some frames.

        A wrongly emptied part is so found again, and cells outside the hull never count. Without a
        generator the whole hull is evaluated. Not differentiable.
        """
        reach = self.band(field.sharpness(fraction)) + 3.0 / self.resolution
        for frame in frames:
            distances = self.distances[frame]
            chosen = torch.ones_like(distances, dtype=torch.bool)
            if generator is not None:
                lottery = torch.rand(distances.shape, generator=generator, device=distances.device)
                chosen = (distances.abs() < reach) | (lottery < 0.1)
            if self.has_masks:
                chosen &= self.hull[frame] < reach
            if field.backend.is_asynchronous:
                # To list the chosen cells is to wait for the device; all are evaluated.
                levels = field.sdfs(self.centres(), frame).view_as(distances)
                distances.copy_(torch.where(chosen, levels, distances))
            else:
                cells = chosen.nonzero()
                distances[chosen] = field.sdfs((cells + 0.5) / self.resolution, frame)
            if field.head.n_tangents:
                bound = (
                    bounded_by_neighbours if field.backend.is_asynchronous else _bounded_by_sweeps
                )
                distances.copy_(bound(distances))
            else:
                dense = distances < self.config.max_step * 2.0
                dense &= self.hull[frame] < self.margin
                measure = distances_to if field.backend.is_asynchronous else _distances_by_scipy
                distances.copy_(measure(dense))

    def centres(self) -> Tensor:
        """Returns (G^3, 3) centres of all cells, model space."""
        axis = torch.arange(self.resolution, device=self.distances.device) + 0.5
        return torch.cartesian_prod(axis, axis, axis) / self.resolution


def bounded_by_neighbours(
    distances: Tensor,  # (G, G, G)
) -> Tensor:  # (G, G, G)
    """Returns the distances, those above 0 lowered to what the cells around allow.

    ``min over y of max(d(y), 0) + |x - y|_1``: nothing trains a distance away from the surface, and
    one that comes to grow faster than the way there leads rays through thin parts. A true distance
    stays as it is; the norm lets one axis follow the other.
    """
    ramp = torch.arange(distances.shape[0], device=distances.device) / distances.shape[0]
    lowest = distances.clamp(min=0.0)
    for axis in range(3):
        rows = lowest.movedim(axis, -1)
        ahead = (rows - ramp).cummin(-1).values + ramp
        behind = (rows + ramp).flip(-1).cummin(-1).values.flip(-1) - ramp
        lowest = torch.minimum(rows, torch.minimum(ahead, behind)).movedim(-1, axis)
    return torch.where(distances > 0.0, lowest, distances)


def _bounded_by_sweeps(distances: Tensor) -> Tensor:
    """Does what `bounded_by_neighbours` does, on one CPU core sooner."""
    lowest = np.maximum(distances.numpy(), 0.0)
    step = np.float32(1.0 / len(lowest))
    allowed = np.empty_like(lowest[0])
    for _ in range(3):
        for planes in (lowest, lowest[::-1]):
            for last, plane in pairwise(planes):
                np.minimum(plane, np.add(last, step, out=allowed), out=plane)
        lowest = np.ascontiguousarray(np.moveaxis(lowest, 0, -1))
    return torch.where(distances > 0.0, torch.from_numpy(lowest), distances)


def distances_to(occupied: Tensor) -> Tensor:
    """Returns 0 in and next to occupied cells of (G, G, G), elsewhere the distance to those.

    In units of the grid's side; 0 everywhere where nothing is occupied. Exact, one axis after the
    other, from each cell to each of its row: what a device does at once.
    """
    resolution = occupied.shape[0]
    near = occupied.float()[None]
    sides = ((3, 1, 1), (1, 3, 1), (1, 1, 3))
    pads = [tuple(side // 2 for side in kernel) for kernel in sides]
    pooled = [max_pool3d(near, kernel, 1, pad) for kernel, pad in zip(sides, pads, strict=True)]
    squares = (torch.stack(pooled).amax(0)[0] < 0.5) * 4.0 * resolution**2
    cells = torch.arange(resolution, dtype=torch.float32, device=occupied.device)
    between = (cells[:, None] - cells[None, :]).square()
    for axis in range(3):
        rows = squares.movedim(axis, -1)
        parts = rows.flatten(0, 1).split(max(1, (1 << 24) // resolution**2))
        lowest = torch.cat([(part[:, None, :] + between).amin(2) for part in parts])
        squares = lowest.view(rows.shape).movedim(-1, axis)
    return torch.where(occupied.any(), squares.sqrt() / resolution, 0.0)


def _distances_by_scipy(occupied: Tensor) -> Tensor:
    """Does what `distances_to` does, on one CPU core sooner."""
    dilated = np.asarray(ndimage.binary_dilation(occupied.cpu().numpy()), bool)
    if not dilated.any():
        return torch.zeros(occupied.shape)
    away = np.asarray(ndimage.distance_transform_edt(~dilated)) / occupied.shape[0]
    return torch.from_numpy(away.astype(np.float32))
