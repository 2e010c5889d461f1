"""The embedded default: numba for grids and walks along rays, BLAS inside for matrix products.

No kernel asks for fast math: a kernel just compiled and the same kernel read from numba's cache are
optimised apart, and a compiler free to reorder sums rounds them differently. Division follows
numpy, because an exception inside a parallel loop is lost together with the rest of the loop.
"""

from __future__ import annotations

import contextlib
import ctypes
import math

import numba
import numpy as np
import torch
from torch import Tensor

from ...records import FrameSlices, Rays, Samples
from ..base import Backend
from ..specs import GridSpec
from . import grid, planes, rays
from .mlp import mlp as _mlp
from .mlp import use_single_threaded_blas
from .slopes import SlopedMlp
from .tiles import tiles_of

# numba's own threads sleep while they wait; OpenMP's spin, and would stall next to torch's on a
# busy machine.
numba.config.THREADING_LAYER = "workqueue"  # pyright: ignore - documented; missing in its types


class CpuBackend(Backend):
    """CPU kernels; deterministic for a given number of threads."""

    name = "cpu"

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        use_single_threaded_blas()
        _keep_freed_memory()

    @contextlib.contextmanager
    def stepping(self):
        """See `Backend.stepping`; torch's threads would hold up those of the kernels.

        What is left to torch is small: its threads gain little, and wait for each other every time.
        """
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def hash_grid(self, positions, slices, coefficients, slots, table, spec, n_tangents):
        """See `Backend.hash_grid`."""
        if spec.n_dims == 2:
            assert n_tangents == 0, "pictures have no derivatives by position"
            return _PlaneGrid.apply(positions, coefficients, table, slots, slices, spec)
        return _HashGrid.apply(positions, coefficients, table, slots, slices, spec, n_tangents)

    def mlp(self, jets, slices, weights, spec):
        """See `Backend.mlp`."""
        return _mlp(jets, slices, weights, spec)

    def sloped_mlp(self, features, others, slices, weights, spec):
        """See `Backend.sloped_mlp`."""
        return SlopedMlp.apply(features, others, weights, slices, spec)

    def march(self, rays_, distances, band, step, stretch, jitter, capacity=None):
        """See `Backend.march`."""
        return _march(rays_, distances, band, step, stretch, jitter)

    def interpolate(self, grids, positions, slices):
        """See `Backend.interpolate`."""
        values = positions.new_empty(positions.shape[0])
        arrays = (np.asarray(slices.frames, np.int64), np.asarray(slices.offsets, np.int64))
        points = positions.detach().contiguous().numpy()
        rays.interpolate(grids.numpy(), points, *arrays, values.numpy())
        return values

    def composite(self, alphas, samples, n_rays):
        """See `Backend.composite`."""
        return _Composite.apply(alphas, samples.ray_indices)

    def accumulate(self, weights, values, ray_indices, n_rays, packing=None):
        """See `Backend.accumulate`."""
        return _Accumulate.apply(weights, values, ray_indices, n_rays)


def _keep_freed_memory() -> None:
    """Tells glibc to keep freed blocks: giving back and faulting in megabytes a step is slow."""
    with contextlib.suppress(AttributeError, OSError):
        libc = ctypes.CDLL(None)
        m_trim_threshold, m_mmap_threshold = -1, -3
        libc.mallopt(m_mmap_threshold, 1 << 25)  # the most that glibc takes
        libc.mallopt(m_trim_threshold, (1 << 31) - 1)


class _HashGrid(torch.autograd.Function):
    """Hash grid; its table's gradient is added in place where the table is a leaf that has one."""

    @staticmethod
    def forward(ctx, positions, coefficients, table, slots, slices, spec, n_tangents):
        arrays = _grid_arrays(positions, coefficients, table, slots, slices, spec)
        jets = positions.new_empty(positions.shape[0], 1 + n_tangents, spec.n_features)
        kernel = grid.forward_kernel(
            spec.n_channels, spec.n_features_per_level, spec.n_lookups, n_tangents
        )
        kernel(*arrays, jets.numpy())
        ctx.save_for_backward(positions, coefficients, table)
        ctx.slots, ctx.slices, ctx.spec, ctx.n_tangents = slots, slices, spec, n_tangents
        return jets

    @staticmethod
    def backward(ctx, grad_jets):  # pyright: ignore[reportIncompatibleMethodOverride]
        positions, coefficients, table = ctx.saved_tensors
        spec = ctx.spec
        arrays = _grid_arrays(positions, coefficients, table, ctx.slots, ctx.slices, spec)
        gradients = grad_jets.contiguous().numpy()
        widths = (spec.n_channels, spec.n_features_per_level, spec.n_lookups, ctx.n_tangents)
        grad_positions = grad_coefficients = grad_table = None
        if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
            # A fresh dense gradient costs more than the kernel: it goes into the leaf's buffer.
            existing = table.grad if ctx.needs_input_grad[2] and table.is_leaf else None
            buffer = torch.zeros_like(table) if existing is None else existing
            grad_weights = torch.empty(arrays[2].shape)
            target = buffer.view(table.shape[0], -1).numpy()
            grid.backward_kernel(*widths)(*arrays, gradients, target, grad_weights.numpy())
            by_channel = grad_weights.view(*coefficients.shape, spec.n_features_per_level)
            grad_coefficients = by_channel.sum(3)
            grad_table = buffer if existing is None else None
        if ctx.needs_input_grad[0]:
            grad_positions = torch.zeros_like(positions)
            counts = np.diff(np.asarray(ctx.slices.offsets, np.int64))
            frames = np.repeat(np.arange(len(counts)), counts)
            kernel = grid.position_kernel(*widths)
            kernel(arrays[0], frames, *arrays[2:], gradients, grad_positions.numpy())
        return grad_positions, grad_coefficients, grad_table, None, None, None, None


class _PlaneGrid(torch.autograd.Function):
    """2-D hash grid; gradients as those of `_HashGrid`, but none by position."""

    @staticmethod
    def forward(ctx, positions, coefficients, table, slots, slices, spec):
        features = positions.new_zeros(positions.shape[0], 1, spec.n_features)
        arrays = _plane_arrays(positions, coefficients, table, slots, slices, spec)
        widths = (spec.n_channels, spec.n_features_per_level, spec.n_lookups)
        planes.forward_kernel(*widths)(*arrays, features[:, 0].numpy())
        ctx.save_for_backward(positions, coefficients, table)
        ctx.slots, ctx.slices, ctx.spec = slots, slices, spec
        return features

    @staticmethod
    def backward(ctx, grad_features):  # pyright: ignore[reportIncompatibleMethodOverride]
        positions, coefficients, table = ctx.saved_tensors
        spec = ctx.spec
        assert not ctx.needs_input_grad[0], "positions in pictures are not learned"
        arrays = _plane_arrays(positions, coefficients, table, ctx.slots, ctx.slices, spec)
        gradients = grad_features.contiguous()[:, 0].numpy()
        existing = table.grad if ctx.needs_input_grad[2] and table.is_leaf else None
        buffer = torch.zeros_like(table) if existing is None else existing
        grad_coefficients = torch.zeros_like(coefficients)
        widths = (spec.n_channels, spec.n_features_per_level, spec.n_lookups)
        target = buffer.view(table.shape[0], -1).numpy()
        planes.backward_kernel(*widths)(
            *arrays, gradients, target, grad_coefficients.numpy(), numba.get_num_threads()
        )
        grad_table = buffer if existing is None else None
        if spec.n_channels == 1:
            return None, None, grad_table, None, None, None
        return None, grad_coefficients, grad_table, None, None, None


def _plane_arrays(positions, coefficients, table, slots, slices: FrameSlices, spec: GridSpec):
    """Returns the numpy views that the 2-D kernels take, in their order."""
    shape = (len(slices.frames), spec.n_levels, spec.n_lookups)
    level_rows = zip(
        spec.offsets[:-1], spec.sizes, spec.resolutions, spec.n_rows, spec.is_hashed, strict=True
    )
    return (
        positions.detach().contiguous().numpy(),
        tiles_of(slices, planes.TILE_ROWS),
        coefficients.detach().contiguous().numpy(),
        np.zeros(shape, np.int64) if slots is None else slots.numpy(),
        table.detach().view(table.shape[0], -1).numpy(),
        np.asarray(spec.scales, np.float32),
        np.asarray(list(level_rows), np.int64),
    )


def _grid_arrays(positions, coefficients, table, slots, slices: FrameSlices, spec: GridSpec):
    """Returns the arrays that the kernels take, in their order."""
    shape = (len(slices.frames), spec.n_levels, spec.n_lookups)
    if slots is None:
        slot_array = np.zeros(shape, np.uint32)
    else:
        slot_array = slots.numpy().astype(np.uint32)
    rows = zip(spec.offsets[:-1], spec.sizes, spec.resolutions, spec.is_hashed, strict=True)
    return (
        positions.detach().contiguous().numpy(),
        np.asarray(slices.offsets, np.int64),
        coefficients.detach().repeat_interleave(spec.n_features_per_level, dim=2).numpy(),
        slot_array,
        table.detach().view(table.shape[0], -1).numpy(),
        np.asarray(spec.scales, np.float32),
        np.asarray(list(rows), np.int64),
    )


def _march(
    bundle: Rays, distances: Tensor, band: float, step: float, stretch: float, jitter: Tensor | None
) -> Samples:
    n_rays = bundle.n_rays
    counts = np.diff(np.asarray(bundle.slices.offsets, np.int64))
    frames = np.repeat(np.asarray(bundle.slices.frames, np.int64), counts)
    offsets = np.full(n_rays, 0.5, np.float32) if jitter is None else jitter.numpy()
    starts, ends = np.empty((2, n_rays, math.ceil(math.sqrt(3.0) / step) + 1), np.float32)
    counts = np.zeros(n_rays, np.int64)
    rays.march(
        bundle.origins.contiguous().numpy(),
        bundle.directions.contiguous().numpy(),
        frames,
        distances.numpy(),
        np.float32(band),
        np.float32(step),
        np.float32(stretch),
        offsets,
        starts,
        ends,
        counts,
    )
    totals = np.concatenate([[0], np.cumsum(counts)])
    ray_indices = np.empty(totals[-1], np.int64)
    t_starts, t_ends = np.empty((2, totals[-1]), np.float32)
    rays.pack(starts, ends, counts, ray_indices, t_starts, t_ends)
    slices = FrameSlices(bundle.slices.frames, tuple(int(totals[o]) for o in bundle.slices.offsets))
    return Samples(
        torch.from_numpy(ray_indices), torch.from_numpy(t_starts), torch.from_numpy(t_ends), slices
    )


class _Composite(torch.autograd.Function):
    """Front-to-back weights."""

    @staticmethod
    def forward(ctx, alphas, ray_indices):
        weights = torch.empty_like(alphas)
        rays.composite(alphas.contiguous().numpy(), ray_indices.numpy(), weights.numpy())
        ctx.save_for_backward(alphas, ray_indices, weights)
        return weights

    @staticmethod
    def backward(ctx, grad_weights):  # pyright: ignore[reportIncompatibleMethodOverride]
        alphas, ray_indices, weights = ctx.saved_tensors
        grad_alphas = torch.empty_like(alphas)
        rays.composite_backward(
            alphas.contiguous().numpy(),
            ray_indices.numpy(),
            weights.numpy(),
            grad_weights.contiguous().numpy(),
            grad_alphas.numpy(),
        )
        return grad_alphas, None


class _Accumulate(torch.autograd.Function):
    """Weighted sums per ray."""

    @staticmethod
    def forward(ctx, weights, values, ray_indices, n_rays):
        sums = values.new_zeros(n_rays, values.shape[1])
        rays.accumulate(
            weights.contiguous().numpy(),
            values.contiguous().numpy(),
            ray_indices.numpy(),
            sums.numpy(),
        )
        ctx.save_for_backward(weights, values, ray_indices)
        return sums

    @staticmethod
    def backward(ctx, grad_sums):  # pyright: ignore[reportIncompatibleMethodOverride]
        weights, values, ray_indices = ctx.saved_tensors
        grad_weights = torch.empty_like(weights)
        grad_values = torch.empty_like(values if ctx.needs_input_grad[1] else values[:0])
        rays.accumulate_backward(
            weights.contiguous().numpy(),
            values.contiguous().numpy(),
            ray_indices.numpy(),
            grad_sums.contiguous().numpy(),
            grad_weights.numpy(),
            grad_values.numpy(),
        )
        return grad_weights, grad_values if ctx.needs_input_grad[1] else None, None, None
