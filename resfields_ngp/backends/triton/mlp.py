"""The fused ResField MLP: one launch forward and one backward for all frames of a batch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal

import torch
import triton.language as tl
from torch import Tensor

from ...records import FrameSlices
from ...sharing import shared
from ...transfers import on_device
from ..specs import MlpSpec, pad_to_16
from .launching import is_interpreted, launch, power_of_two, programs_per_frame
from .mlp_kernels import mlp_backward, mlp_forward
from .sloped_kernels import sloped_backward, sloped_forward

Precision = Literal["float16", "bfloat16", "float32"]
"""Operands of matrix products. float16 resolves positions to 1/4000 of the box, bfloat16 only to
1/500; float32 is for comparison."""

_HALF_MAX = torch.finfo(torch.float16).max
_OPERANDS = {"float16": tl.float16, "bfloat16": tl.bfloat16, "float32": tl.float32}


@dataclass(frozen=True)
class Tiling:
    """How programs share the rows of a frame, and what of a multiprocessor each takes."""

    rows: int = 16
    """Of a tile: the least that tensor cores take."""
    n_warps: int = 4
    """Of a program."""
    n_registers: int | None = None
    """Most of a thread; None leaves them to the compiler."""
    n_waves: int = 4
    """Programs for each multiprocessor: twice those that run at once, or less."""
    holds_weights: bool = True
    """Whether matrices stay in the registers, or come from the cache each time."""
    is_tall: bool = False
    """Whether a warp has rows of its own, of which there are to be 16 for each, with all columns:
    then warps do not wait for one another between layers, but a thread holds four times as much.
    Otherwise a warp has columns of its own. The compiler shares products by their longer side."""


def tiling_of(spec: MlpSpec, precision: Precision, is_backward: bool) -> Tiling:
    """Returns how a network's rows are shared; ``gpu_check.py --parts tilings`` measures others."""
    # What stays in the registers leaves room for the rest of two hidden layers of 64 neurons.
    holds_weights = spec.n_weights <= 1 << 13
    is_wide = max(spec.n_neurons, spec.shapes[0][1]) > 64
    n_warps = 8 if is_wide or not holds_weights else 4
    # With so few registers a third program fits on a multiprocessor in the backward pass.
    is_dense = spec.n_hidden_layers <= 1 and not is_wide
    if is_dense and precision == "float16" and spec.activation != "softplus":
        return Tiling(16, n_warps, 168, 6 if is_backward else 4, holds_weights)
    return Tiling(n_warps=n_warps, holds_weights=holds_weights)


def mlp(
    jets: Tensor,  # (N, 1 + D, n_inputs)
    slices: FrameSlices,
    weights: Tensor,  # (T, P)
    spec: MlpSpec,
    precision: Precision,
) -> Tensor:  # (N, 1 + D, n_outputs)
    """Runs each frame's rows through that frame's network; differentiable in jets and weights."""
    return _Mlp.apply(jets, weights, slices, spec, precision)


def sloped_mlp(
    features: Tensor,  # (N, 4, F)
    others: Tensor,  # (N, 4, G)
    slices: FrameSlices,
    weights: Tensor,  # (T, P)
    spec: MlpSpec,
    precision: Precision,
) -> tuple[Tensor, Tensor]:  # (N, n_outputs), (N, 3)
    """Returns outputs and the first one's gradient; differentiable in jets and weights."""
    return _SlopedMlp.apply(features, others, weights, slices, spec, precision)


def launch_options(
    spec: MlpSpec, n_inputs: int, precision: Precision, tiling: Tiling
) -> dict[str, Any]:
    """Returns the constants that a network's kernels are compiled with.

    Args:
        spec: The network.
        n_inputs: Columns of the inputs, padded already or not.
        precision: Operands of the products.
        tiling: See `tiling_of`.
    """
    least = 16 if tiling.is_tall else 2 * tiling.rows
    widths = (n_inputs, spec.n_neurons, spec.n_outputs)
    return {
        "WIDTHS": (*widths, *(max(least, power_of_two(pad_to_16(each))) for each in widths)),
        "LAYERS": spec.n_hidden_layers,
        "ACTIVATION": spec.activation,
        "OPERAND": _OPERANDS[precision],
        "EMULATES": _is_emulated(precision),
        "BLOCK": _block(tiling),
        "STAY": tiling.holds_weights,
        "num_warps": tiling.n_warps,
        "maxnreg": tiling.n_registers,
    }


class _Mlp(torch.autograd.Function):
    """Forward and backward launches over the same tiles."""

    @staticmethod
    def forward(ctx, jets, weights, slices, spec, precision):
        ctx.slices, ctx.spec, ctx.precision = slices, spec, precision
        jets, operands = jets.contiguous(), _operands(weights, precision)
        ctx.save_for_backward(jets, operands)
        outputs = jets.new_empty(jets.shape[0], jets.shape[1], spec.n_outputs)
        grid, offsets, options = _launch_of(ctx, jets.shape[2], jets.device)
        options["D"] = jets.shape[1] - 1
        inputs = (jets, offsets, operands, operands.shape[1])
        launch(mlp_forward, grid, *inputs, outputs, **options)
        return outputs

    @staticmethod
    def backward(ctx, grad_outputs):  # pyright: ignore[reportIncompatibleMethodOverride]
        jets, operands = ctx.saved_tensors
        gradients = grad_outputs.contiguous()
        with_jets = ctx.needs_input_grad[0]
        grad_jets = torch.empty_like(jets) if with_jets else jets.new_empty(1)
        grad_weights = torch.zeros_like(operands, dtype=torch.float32)
        grid, offsets, options = _launch_of(ctx, jets.shape[2], jets.device, is_backward=True)
        options |= {"D": jets.shape[1] - 1, "WITH_JETS": with_jets}
        inputs = (jets, offsets, operands, operands.shape[1], gradients)
        largest = _largest(ctx.precision, gradients)
        launch(mlp_backward, grid, *inputs, largest, grad_jets, grad_weights, **options)
        return grad_jets if with_jets else None, grad_weights, None, None, None


class _SlopedMlp(torch.autograd.Function):
    """As `_Mlp`, over tiles of values and the gradient of the first output."""

    @staticmethod
    def forward(ctx, features, others, weights, slices, spec, precision):
        ctx.slices, ctx.spec, ctx.precision = slices, spec, precision
        features, others = features.contiguous(), others.contiguous()
        operands = _operands(weights, precision)
        ctx.save_for_backward(features, others, operands)
        outputs = features.new_empty(features.shape[0], spec.n_outputs)
        gradients = features.new_empty(features.shape[0], 3)
        n_features = features.shape[2]
        width = n_features + others.shape[2]
        grid, offsets, options = _launch_of(ctx, width, features.device)
        options["N_FEATURES"] = n_features
        inputs = (features, others, offsets, operands, operands.shape[1])
        launch(sloped_forward, grid, *inputs, outputs, gradients, **options)
        return outputs, gradients

    @staticmethod
    def backward(ctx, grad_outputs, pulls):  # pyright: ignore[reportIncompatibleMethodOverride]
        features, others, operands = ctx.saved_tensors
        grad_outputs, pulls = grad_outputs.contiguous(), pulls.contiguous()
        with_features, with_others = ctx.needs_input_grad[:2]
        by_features = torch.empty_like(features) if with_features else features.new_empty(1)
        by_others = torch.empty_like(others) if with_others else others.new_empty(1)
        by_weights = torch.zeros_like(operands, dtype=torch.float32)
        n_features = features.shape[2]
        width = n_features + others.shape[2]
        grid, offsets, options = _launch_of(ctx, width, features.device, is_backward=True)
        wanted = {"WITH_FEATURES": with_features, "WITH_OTHERS": with_others}
        options |= {"N_FEATURES": n_features} | wanted
        inputs = (features, others, offsets, operands, operands.shape[1], grad_outputs, pulls)
        largest = _largest(ctx.precision, grad_outputs, pulls)
        gradients = (by_features, by_others, by_weights)
        launch(sloped_backward, grid, *inputs, largest, *gradients, **options)
        by_jets = (by_features if with_features else None, by_others if with_others else None)
        return *by_jets, by_weights, None, None, None


def _launch_of(
    ctx: Any, n_inputs: int, device: torch.device, is_backward: bool = False
) -> tuple[tuple[int, int], Tensor, dict[str, Any]]:
    """Returns the launch grid, (programs a frame, frames), the frames' row bounds, and constants.

    Args:
        ctx: Of a function that keeps its slices, spec and precision there.
        n_inputs: See `launch_options`.
        device: Where the rows are.
        is_backward: Whether the launch is that of the backward pass, which takes more registers.
    """
    slices: FrameSlices = ctx.slices
    n_frames = len(slices.frames)
    tiling = tiling_of(ctx.spec, ctx.precision, is_backward)
    sides = (slices.most_rows, _block(tiling))
    n_programs = programs_per_frame(n_frames, *sides, device, tiling.n_waves)
    options = launch_options(ctx.spec, n_inputs, ctx.precision, tiling)
    return (n_programs, n_frames), on_device(slices.offsets, device), options


def _largest(precision: Precision, *gradients: Tensor) -> Tensor:
    """Returns the largest magnitude among gradients where float16 must know it, else anything."""
    if precision != "float16" or gradients[0].numel() == 0:
        return gradients[0]
    return reduce(torch.maximum, (torch.linalg.vector_norm(g, float("inf")) for g in gradients))


def _block(tiling: Tiling) -> int:
    """Returns the rows of a tile; interpreted, a tile takes as long whatever its size."""
    return 4 * tiling.rows if is_interpreted() else tiling.rows


def _is_emulated(precision: Precision) -> bool:
    """True where the interpreter stands in for bfloat16, which numpy does not have."""
    return precision == "bfloat16" and is_interpreted()


def _operands(weights: Tensor, precision: Precision) -> Tensor:
    """Returns weights as the kernels multiply them; float16 saturates, NaN stays NaN."""
    return shared(weights, precision, lambda: _rounded(weights.contiguous(), precision))


def _rounded(weights: Tensor, precision: Precision) -> Tensor:
    if precision == "float16":
        return weights.clamp(-_HALF_MAX, _HALF_MAX).half()
    if precision == "bfloat16":
        rounded = weights.bfloat16()
        return rounded.float() if _is_emulated(precision) else rounded
    return weights
