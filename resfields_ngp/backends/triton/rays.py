"""Marching, compositing and sums along rays, on the device.

A step waits for the device once, for the number of samples that the march found: packed samples
have no other size.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from ...records import FrameSlices, Rays, Samples
from ...transfers import on_device
from . import ray_kernels
from .launching import launch, n_tiles, power_of_two

BLOCK = 128
"""Rays of a program, one a thread."""


def march(
    rays: Rays, distances: Tensor, band: float, step: float, stretch: float, jitter: Tensor | None
) -> Samples:
    """See `Backend.march`; walks every ray twice, to count and to write."""
    device = rays.origins.device
    frames = on_device(rays.slices.frames, device)
    offsets = on_device(rays.slices.offsets, device)
    origins, directions = rays.origins.contiguous(), rays.directions.contiguous()
    most = max((end - begin for begin, end in pairwise(rays.slices.offsets)), default=0)
    grid = (n_tiles(most, BLOCK), len(rays.slices.frames))
    starts = origins if jitter is None else jitter.contiguous()
    inputs = (origins, directions, frames, offsets, distances.contiguous(), starts)
    numbers = (distances.shape[1], band, step, stretch)
    counts = torch.zeros(rays.n_rays + 1, dtype=torch.int64, device=device)
    outputs = (counts, torch.empty(0, device=device), torch.empty(0, device=device))

    def walk(firsts: Tensor, writes: bool) -> None:
        arguments = (*inputs, firsts, counts[1:], *outputs, *numbers)
        constants = {"HAS_JITTER": jitter is not None, "WRITES": writes, "BLOCK": BLOCK}
        launch(ray_kernels.march, grid, *arguments, **constants)

    walk(counts, False)
    firsts = counts.cumsum(0)
    bounds = tuple(firsts[offsets].tolist())
    n_samples = bounds[-1]
    ray_indices = torch.empty(n_samples, dtype=torch.int64, device=device)
    t_starts, t_ends = torch.empty(2, n_samples, device=device)
    outputs = (ray_indices, t_starts, t_ends)
    if n_samples:
        walk(firsts, True)
    return Samples(ray_indices, t_starts, t_ends, FrameSlices(rays.slices.frames, bounds))


def composite(alphas: Tensor, ray_indices: Tensor, n_rays: int) -> Tensor:
    """See `Backend.composite`."""
    return _Composite.apply(alphas, _bounds(ray_indices, n_rays))


def accumulate(weights: Tensor, values: Tensor, ray_indices: Tensor, n_rays: int) -> Tensor:
    """See `Backend.accumulate`."""
    return _Accumulate.apply(weights, values, ray_indices, _bounds(ray_indices, n_rays))


def _bounds(ray_indices: Tensor, n_rays: int) -> Tensor:
    """Returns (R + 1,) the first sample of each ray."""
    every = torch.arange(n_rays + 1, device=ray_indices.device)
    return torch.searchsorted(ray_indices, every)


class _Composite(torch.autograd.Function):
    """Front-to-back weights."""

    @staticmethod
    def forward(ctx, alphas, bounds):
        alphas = alphas.contiguous()
        weights = torch.empty_like(alphas)
        n_rays = bounds.shape[0] - 1
        grid = (n_tiles(n_rays, BLOCK),)
        launch(ray_kernels.composite_forward, grid, alphas, bounds, weights, n_rays, BLOCK=BLOCK)
        ctx.save_for_backward(alphas, bounds, weights)
        return weights

    @staticmethod
    def backward(ctx, grad_weights):  # pyright: ignore[reportIncompatibleMethodOverride]
        alphas, bounds, weights = ctx.saved_tensors
        grad_alphas = torch.empty_like(alphas)
        n_rays = bounds.shape[0] - 1
        tensors = (alphas, bounds, weights, grad_weights.contiguous(), grad_alphas)
        grid = (n_tiles(n_rays, BLOCK),)
        launch(ray_kernels.composite_backward, grid, *tensors, n_rays, BLOCK=BLOCK)
        return grad_alphas, None


class _Accumulate(torch.autograd.Function):
    """Weighted sums per ray; backwards is elementwise, which torch does as well."""

    @staticmethod
    def forward(ctx, weights, values, ray_indices, bounds):
        weights, values = weights.contiguous(), values.contiguous()
        n_rays, n_values = bounds.shape[0] - 1, values.shape[1]
        sums = values.new_empty(n_rays, n_values)
        arguments = (weights, values, bounds, sums, n_rays, n_values)
        constants = {"BLOCK": BLOCK, "COLUMNS": power_of_two(n_values)}
        grid = (n_tiles(n_rays, BLOCK),)
        launch(ray_kernels.accumulate_forward, grid, *arguments, **constants)
        ctx.save_for_backward(weights, values, ray_indices)
        return sums

    @staticmethod
    def backward(ctx, grad_sums):  # pyright: ignore[reportIncompatibleMethodOverride]
        weights, values, ray_indices = ctx.saved_tensors
        gradients = grad_sums[ray_indices]
        return (gradients * values).sum(1), gradients * weights[:, None], None, None
