"""The hash grid: one launch forward and one backward for all levels and frames of a batch."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from ...records import FrameSlices
from ...sharing import shared
from ...transfers import on_device, sent
from ..specs import GridSpec
from .grid_kernels import grid_backward, grid_forward
from .launching import launch, n_tiles, power_of_two

N_THREADS = 128
"""Of a program."""
_MOST_FLOATS = 1024
"""Of entries that a program holds at once: with more, its registers do not suffice."""


def hash_grid(
    positions: Tensor,  # (N, 3)
    slices: FrameSlices,
    coefficients: Tensor,  # (T, L, K * C)
    slots: Tensor | None,  # (T, L, K)
    table: Tensor,  # (E, C, F)
    spec: GridSpec,
    n_tangents: int,
) -> Tensor:  # (N, 1 + n_tangents, L * F)
    """See `Backend.hash_grid`."""
    if slots is None:
        shape = coefficients.shape[:2] + (1,)
        slots = shared(
            coefficients,
            "slots",
            lambda: torch.zeros(shape, dtype=torch.int64, device=coefficients.device),
        )
    elif slots.device != positions.device:
        slots = sent(slots, positions.device)
    return _HashGrid.apply(positions, coefficients, table, slots, slices, spec, n_tangents)


class _HashGrid(torch.autograd.Function):
    """Its table's gradient is added in place where the table is a leaf that has one."""

    @staticmethod
    def forward(ctx, positions, coefficients, table, slots, slices, spec, n_tangents):
        inputs = (
            positions.contiguous(),
            coefficients.contiguous(),
            table.contiguous(),
            slots.contiguous(),
        )
        jets = positions.new_empty(positions.shape[0], 1 + n_tangents, spec.n_features)
        grid, arguments = _arguments(*inputs, slices, spec)
        constants = _constants(spec, n_tangents)
        launch(grid_forward, grid, *arguments, jets, spec.n_levels, **constants)
        ctx.save_for_backward(*inputs)
        ctx.slices, ctx.spec, ctx.n_tangents, ctx.table = slices, spec, n_tangents, table
        return jets

    @staticmethod
    def backward(ctx, grad_jets):  # pyright: ignore[reportIncompatibleMethodOverride]
        positions, coefficients, table, slots = ctx.saved_tensors
        by_positions = ctx.needs_input_grad[0]
        by_table = ctx.needs_input_grad[1] or ctx.needs_input_grad[2]
        leaf = ctx.table
        existing = leaf.grad if ctx.needs_input_grad[2] and leaf.is_leaf else None
        grad_positions = torch.zeros_like(positions) if by_positions else None
        grad_coefficients = torch.zeros_like(coefficients) if by_table else None
        grad_table = None
        if by_table:
            grad_table = torch.zeros_like(table) if existing is None else existing
        inputs = (positions, coefficients, table, slots, ctx.slices, ctx.spec)
        grid, arguments = _arguments(*inputs)
        unused = positions.new_empty(1)
        targets = (grad_positions, grad_coefficients, grad_table)
        launch(
            grid_backward,
            grid,
            *arguments,
            grad_jets.contiguous(),
            *(unused if target is None else target for target in targets),
            ctx.spec.n_levels,
            BY_POSITIONS=by_positions,
            BY_TABLE=by_table,
            **_constants(ctx.spec, ctx.n_tangents),
        )
        returned = grad_table if existing is None else None
        return grad_positions, grad_coefficients, returned, None, None, None, None


def block_rows(spec: GridSpec) -> int:
    """Returns the rows of a program: one a thread, fewer where entries are wide."""
    width = power_of_two(spec.n_channels) * power_of_two(spec.n_features_per_level)
    return min(max(_MOST_FLOATS // width, 16), N_THREADS)


def _constants(spec: GridSpec, n_tangents: int) -> dict[str, int]:
    """Returns the constants that a grid's kernels are compiled with."""
    return {
        "C": spec.n_channels,
        "F": spec.n_features_per_level,
        "K": spec.n_lookups,
        "CP": power_of_two(spec.n_channels),
        "FP": power_of_two(spec.n_features_per_level),
        "D": n_tangents,
        "BLOCK": block_rows(spec),
        "num_warps": N_THREADS // 32,
    }


def _arguments(positions, coefficients, table, slots, slices: FrameSlices, spec: GridSpec):
    """Returns the launch grid, (levels x tiles of a frame, frames), and the kernels' inputs."""
    offsets = on_device(slices.offsets, positions.device)
    arguments = (positions, offsets, coefficients, slots, table, *_levels(spec, positions.device))
    return (
        spec.n_levels * n_tiles(slices.most_rows, block_rows(spec)),
        len(slices.frames),
    ), arguments


@lru_cache(maxsize=16)
def _levels(spec: GridSpec, device: torch.device) -> tuple[Tensor, Tensor]:
    """Returns (L,) scales and (L, 4) first entry, size, resolution and whether it is hashed."""
    columns = zip(spec.offsets[:-1], spec.sizes, spec.resolutions, spec.is_hashed, strict=True)
    return (
        torch.tensor(spec.scales, dtype=torch.float32, device=device),
        torch.tensor([[int(value) for value in row] for row in columns], device=device),
    )
