"""Marching, compositing and sums along rays, on the device.

A step waits for the device once, for the number of samples that the march found: packed samples
have no other size. A march into a fixed number of rows waits for nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...records import FrameSlices, Packing, Rays, Samples
from ...transfers import on_device
from . import ray_kernels
from .launching import launch, n_tiles, power_of_two

BLOCK = 128
"""Rays of a program, one a thread."""


def march(
    rays: Rays,
    distances: Tensor,
    band: float,
    step: float,
    stretch: float,
    jitter: Tensor | None,
    capacity: int | None = None,
) -> Samples:
    """See `Backend.march`; walks every ray twice, to count and to write."""
    walk = _Walk(rays, distances, (band, step, stretch), jitter)
    counts = walk.counted()
    if capacity is not None:
        return _into_fixed_rows(walk, counts, capacity)
    ends = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    bounds = tuple(ends[walk.offsets].tolist())
    packing = Packing(ends[:-1], counts)
    rows = _new_rows(bounds[-1], ends.device)
    if bounds[-1]:
        walk.write(packing, *rows)
    return Samples(*rows, FrameSlices(rays.slices.frames, bounds), packing)


class _Walk:
    """Rays through the distance grids of their frames."""

    def __init__(
        self,
        rays: Rays,
        distances: Tensor,
        lengths: tuple[float, float, float],
        jitter: Tensor | None,
    ) -> None:
        self.device = rays.origins.device
        self.n_rays = rays.n_rays
        self.offsets = on_device(rays.slices.offsets, self.device)
        origins, directions = rays.origins.contiguous(), rays.directions.contiguous()
        starts = origins if jitter is None else jitter.contiguous()
        self.frames = rays.slices.frames
        frames = on_device(self.frames, self.device)
        self._inputs = (origins, directions, frames, self.offsets, distances.contiguous(), starts)
        self._numbers = (distances.shape[1], *lengths)
        self._has_jitter = jitter is not None
        self._grid = (n_tiles(rays.slices.most_rows, BLOCK), len(rays.slices.frames))

    def counted(self) -> Tensor:
        """Returns (R,) how many samples each ray has."""
        counts = torch.zeros(self.n_rays, dtype=torch.int64, device=self.device)
        nothing = torch.empty(0, device=self.device)
        self._launch(counts, counts, counts, nothing, nothing, False)
        return counts

    def write(
        self, packing: Packing, ray_indices: Tensor, t_starts: Tensor, t_ends: Tensor
    ) -> None:
        """Writes the samples of every ray that has a count."""
        rows = (ray_indices, t_starts, t_ends)
        self._launch(packing.firsts, packing.counts, *rows, True)

    def _launch(
        self,
        firsts: Tensor,
        counts: Tensor,
        ray_indices: Tensor,
        t_starts: Tensor,
        t_ends: Tensor,
        writes: bool,
    ) -> None:
        arguments = (*self._inputs, firsts, counts, ray_indices, t_starts, t_ends, *self._numbers)
        constants = {"HAS_JITTER": self._has_jitter, "WRITES": writes, "BLOCK": BLOCK}
        launch(ray_kernels.march, self._grid, *arguments, **constants)


def _into_fixed_rows(walk: _Walk, counts: Tensor, capacity: int) -> Samples:
    """Returns samples in `capacity` rows a frame, padded with copies at length 0."""
    frames = walk.frames
    n_frames = len(frames)
    by_frame = counts.view(n_frames, -1)
    ends = by_frame.cumsum(1)
    is_whole = ends <= capacity
    # Those that fit come first, and are packed without a gap.
    n_found = torch.where(is_whole, ends, 0).amax(1, keepdim=True)
    begins = capacity * torch.arange(n_frames, device=counts.device)[:, None]
    firsts = (ends - by_frame + begins).flatten()
    kept = torch.where(is_whole, by_frame, 0).flatten()
    packing = Packing(firsts, kept, is_whole.flatten(), n_found.sum())
    rows = _new_rows(n_frames * capacity, counts.device)
    walk.write(packing, *rows)
    places = torch.arange(capacity, device=counts.device)
    sources = (places % n_found.clamp(min=1) + begins).flatten()
    is_padding = (places >= n_found).flatten()
    ray_indices, t_starts, t_ends = (each[sources] for each in rows)
    t_ends = torch.where(is_padding, t_starts, t_ends)
    return Samples(ray_indices, t_starts, t_ends, FrameSlices.even(frames, capacity), packing)


def _new_rows(count: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Returns room for ray indices, starts and ends of samples; all 0, which is a ray too."""
    t_starts, t_ends = torch.zeros(2, count, device=device)
    return torch.zeros(count, dtype=torch.int64, device=device), t_starts, t_ends


def interpolate(grids: Tensor, positions: Tensor, slices: FrameSlices) -> Tensor:
    """See `Backend.interpolate`."""
    device = positions.device
    values = positions.new_empty(positions.shape[0])
    places = (on_device(slices.frames, device), on_device(slices.offsets, device))
    tensors = (grids.contiguous(), positions.detach().contiguous(), *places, values)
    grid = (n_tiles(slices.most_rows, BLOCK), len(slices.frames))
    launch(ray_kernels.interpolate, grid, *tensors, grids.shape[1], BLOCK=BLOCK)
    return values


def composite(
    alphas: Tensor, ray_indices: Tensor, n_rays: int, packing: Packing | None = None
) -> Tensor:
    """See `Backend.composite`; padding has the weight 0."""
    packing = packing or _packing(ray_indices, n_rays)
    return _Composite.apply(alphas, packing.firsts, packing.counts)


def accumulate(
    weights: Tensor,
    values: Tensor,
    ray_indices: Tensor,
    n_rays: int,
    packing: Packing | None = None,
) -> Tensor:
    """See `Backend.accumulate`."""
    packing = packing or _packing(ray_indices, n_rays)
    return _Accumulate.apply(weights, values, ray_indices, packing.firsts, packing.counts)


def _packing(ray_indices: Tensor, n_rays: int) -> Packing:
    """Returns where ascending rays' samples lie."""
    every = torch.arange(n_rays + 1, device=ray_indices.device)
    bounds = torch.searchsorted(ray_indices, every)
    return Packing(bounds[:-1], bounds.diff())


class _Composite(torch.autograd.Function):
    """Front-to-back weights."""

    @staticmethod
    def forward(ctx, alphas, firsts, counts):
        alphas = alphas.contiguous()
        weights = torch.zeros_like(alphas)
        grid = (n_tiles(len(firsts), BLOCK),)
        tensors = (alphas, firsts, counts, weights)
        launch(ray_kernels.composite_forward, grid, *tensors, len(firsts), BLOCK=BLOCK)
        ctx.save_for_backward(*tensors)
        return weights

    @staticmethod
    def backward(ctx, grad_weights):  # pyright: ignore[reportIncompatibleMethodOverride]
        alphas, firsts, counts, weights = ctx.saved_tensors
        grad_alphas = torch.zeros_like(alphas)
        tensors = (alphas, firsts, counts, weights, grad_weights.contiguous(), grad_alphas)
        grid = (n_tiles(len(firsts), BLOCK),)
        launch(ray_kernels.composite_backward, grid, *tensors, len(firsts), BLOCK=BLOCK)
        return grad_alphas, None, None


class _Accumulate(torch.autograd.Function):
    """Weighted sums per ray; backwards is elementwise, which torch does as well."""

    @staticmethod
    def forward(ctx, weights, values, ray_indices, firsts, counts):
        weights, values = weights.contiguous(), values.contiguous()
        n_rays, n_values = len(firsts), values.shape[1]
        sums = values.new_empty(n_rays, n_values)
        arguments = (weights, values, firsts, counts, sums, n_rays, n_values)
        constants = {"BLOCK": BLOCK, "COLUMNS": power_of_two(n_values)}
        grid = (n_tiles(n_rays, BLOCK),)
        launch(ray_kernels.accumulate_forward, grid, *arguments, **constants)
        ctx.save_for_backward(weights, values, ray_indices)
        return sums

    @staticmethod
    def backward(ctx, grad_sums):  # pyright: ignore[reportIncompatibleMethodOverride]
        weights, values, ray_indices = ctx.saved_tensors
        gradients = grad_sums[ray_indices]
        by_weights = (gradients * values).sum(1)
        return by_weights, gradients * weights[:, None], None, None, None
