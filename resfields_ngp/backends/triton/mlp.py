"""The fused ResField MLP: one launch forward and one backward for all frames of a batch."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal

import torch
import triton.language as tl
from torch import Tensor

from ...records import FrameSlices
from ...transfers import on_device
from ..base import MlpSpec, pad_to_16
from .launching import is_interpreted, launch, power_of_two, programs_per_frame
from .mlp_kernels import mlp_backward, mlp_forward

Precision = Literal["float16", "bfloat16", "float32"]
"""Operands of matrix products. float16 resolves positions to 1/4000 of the box, bfloat16 only to
1/500; float32 is for comparison."""

BLOCK = 16
"""Rows of a tile: the least that tensor cores take. The compiler shares a product among warps by
its longer side: tiles are wider than tall, so that each warp has its own columns of every matrix,
and none is computed twice."""
_HALF_MAX = torch.finfo(torch.float16).max
_OPERANDS = {"float16": tl.float16, "bfloat16": tl.bfloat16, "float32": tl.float32}


def mlp(
    jets: Tensor,  # (N, 1 + D, n_inputs)
    slices: FrameSlices,
    weights: Tensor,  # (T, P)
    spec: MlpSpec,
    precision: Precision,
) -> Tensor:  # (N, 1 + D, n_outputs)
    """Runs each frame's rows through that frame's network; differentiable in jets and weights."""
    return _Mlp.apply(jets, weights, slices, spec, precision)


def launch_options(
    spec: MlpSpec, n_inputs: int, n_tangents: int, precision: Precision
) -> dict[str, Any]:
    """Returns the constants that a network's kernels are compiled with.

    Args:
        spec: The network.
        n_inputs: Columns of the inputs, padded already or not.
        n_tangents: 0 or 3.
        precision: Operands of the products.
    """
    # What stays in the registers leaves room for the rest of two hidden layers of 64 neurons.
    is_small = spec.n_weights <= 1 << 13
    is_wide = max(spec.n_neurons, spec.shapes[0][1]) > 64
    widths = (n_inputs, spec.n_neurons, spec.n_outputs)
    return {
        "WIDTHS": (*widths, *(max(2 * BLOCK, power_of_two(pad_to_16(each))) for each in widths)),
        "LAYERS": spec.n_hidden_layers,
        "ACTIVATION": spec.activation,
        "D": n_tangents,
        "OPERAND": _OPERANDS[precision],
        "EMULATES": _is_emulated(precision),
        "BLOCK": _block(),
        "STAY": is_small,
        "num_warps": 8 if is_wide or not is_small else 4,
    }


class _Mlp(torch.autograd.Function):
    """Forward and backward launches over the same tiles."""

    @staticmethod
    def forward(ctx, jets, weights, slices, spec, precision):
        jets, weights = jets.contiguous(), weights.contiguous()
        outputs = jets.new_empty(jets.shape[0], jets.shape[1], spec.n_outputs)
        options = launch_options(spec, jets.shape[2], jets.shape[1] - 1, precision)
        grid, offsets = _grid(slices, jets.device)
        operands = _operands(weights, precision)
        inputs = (jets, offsets, operands, weights.shape[1])
        launch(mlp_forward, grid, *inputs, outputs, **options)
        ctx.save_for_backward(jets, operands)
        ctx.slices, ctx.spec, ctx.precision = slices, spec, precision
        return outputs

    @staticmethod
    def backward(ctx, grad_outputs):  # pyright: ignore[reportIncompatibleMethodOverride]
        jets, operands = ctx.saved_tensors
        gradients = grad_outputs.contiguous()
        with_jets = ctx.needs_input_grad[0]
        grad_jets = torch.empty_like(jets) if with_jets else jets.new_empty(1)
        grad_weights = torch.zeros_like(operands, dtype=torch.float32)
        options = launch_options(ctx.spec, jets.shape[2], jets.shape[1] - 1, ctx.precision)
        grid, offsets = _grid(ctx.slices, jets.device)
        inputs = (jets, offsets, operands, operands.shape[1])
        largest = gradients
        if ctx.precision == "float16":
            largest = torch.linalg.vector_norm(gradients, float("inf"))
        tensors = (gradients, largest, grad_jets, grad_weights)
        launch(mlp_backward, grid, *inputs, *tensors, WITH_JETS=with_jets, **options)
        return grad_jets if with_jets else None, grad_weights, None, None, None


def _block() -> int:
    """Returns the rows of a tile; interpreted, a tile takes as long whatever its size."""
    return 4 * BLOCK if is_interpreted() else BLOCK


def _is_emulated(precision: Precision) -> bool:
    """True where the interpreter stands in for bfloat16, which numpy does not have."""
    return precision == "bfloat16" and is_interpreted()


def _operands(weights: Tensor, precision: Precision) -> Tensor:
    """Returns weights as the kernels multiply them; float16 saturates, NaN stays NaN."""
    if precision == "float16":
        return weights.clamp(-_HALF_MAX, _HALF_MAX).half()
    if precision == "bfloat16":
        rounded = weights.bfloat16()
        return rounded.float() if _is_emulated(precision) else rounded
    return weights


def _grid(slices: FrameSlices, device: torch.device) -> tuple[tuple[int, int], Tensor]:
    """Returns the launch grid, (programs a frame, frames), and the frames' row bounds."""
    n_frames = len(slices.frames)
    most = max((end - begin for begin, end in pairwise(slices.offsets)), default=0)
    n_programs = programs_per_frame(n_frames, most, _block(), device, waves=4)
    return (n_programs, n_frames), on_device(slices.offsets, device)
