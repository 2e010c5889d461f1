"""The fused ResField MLP: one launch forward and one backward for all frames of a batch."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal

import torch
import triton.language as tl
from torch import Tensor

from ...records import FrameSlices
from ...transfers import on_device
from ..base import MlpSpec
from ..half import gradient_scale
from .launching import is_interpreted, launch, power_of_two, programs_per_frame
from .mlp_kernels import mlp_backward, mlp_forward

Precision = Literal["float16", "bfloat16", "float32"]
"""Operands of matrix products. float16 resolves positions to 1/4000 of the box, bfloat16 only to
1/500; float32 is for comparison."""

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
    is_emulated = precision == "bfloat16" and is_interpreted()
    wide = max(spec.n_neurons, spec.shapes[0][1]) > 64
    return {
        "N_INPUTS": n_inputs,
        "N_NEURONS": spec.n_neurons,
        "N_OUTPUTS": spec.n_outputs,
        "N_HIDDEN": spec.n_hidden_layers,
        "IN": power_of_two(spec.shapes[0][1]),
        "HIDDEN": power_of_two(spec.n_neurons),
        "OUT": power_of_two(spec.shapes[-1][0]),
        "ACTIVATION": spec.activation,
        "D": n_tangents,
        "OPERAND": _OPERANDS[precision],
        "EMULATES": is_emulated,
        # Values and three tangents of a wide tile would not fit into the registers.
        "BLOCK": 32 if wide and n_tangents else 64,
        "num_warps": 8 if wide else 4,
    }


class _Mlp(torch.autograd.Function):
    """Forward and backward launches over the same tiles."""

    @staticmethod
    def forward(ctx, jets, weights, slices, spec, precision):
        jets, weights = jets.contiguous(), weights.contiguous()
        outputs = jets.new_empty(jets.shape[0], jets.shape[1], spec.n_outputs)
        options = launch_options(spec, jets.shape[2], jets.shape[1] - 1, precision)
        grid, offsets = _grid(slices, options["BLOCK"], jets.device)
        inputs = (jets, offsets, weights, weights.shape[1])
        launch(mlp_forward, grid, *inputs, outputs, **options)
        ctx.save_for_backward(jets, weights)
        ctx.slices, ctx.spec, ctx.precision = slices, spec, precision
        return outputs

    @staticmethod
    def backward(ctx, grad_outputs):  # pyright: ignore[reportIncompatibleMethodOverride]
        jets, weights = ctx.saved_tensors
        gradients = grad_outputs.contiguous()
        with_jets = ctx.needs_input_grad[0]
        grad_jets = torch.empty_like(jets) if with_jets else jets.new_empty(1)
        grad_weights = torch.zeros_like(weights)
        options = launch_options(ctx.spec, jets.shape[2], jets.shape[1] - 1, ctx.precision)
        grid, offsets = _grid(ctx.slices, options["BLOCK"], jets.device)
        inputs = (jets, offsets, weights, weights.shape[1])
        is_half = ctx.precision == "float16"
        scale = gradient_scale(gradients) if is_half else gradients.new_ones(())
        tensors = (gradients, scale, grad_jets, grad_weights)
        launch(mlp_backward, grid, *inputs, *tensors, WITH_JETS=with_jets, **options)
        return grad_jets if with_jets else None, grad_weights, None, None, None


def _grid(slices: FrameSlices, block: int, device: torch.device) -> tuple[tuple[int, int], Tensor]:
    """Returns the launch grid, (programs a frame, frames), and the frames' row bounds."""
    n_frames = len(slices.frames)
    most = max((end - begin for begin, end in pairwise(slices.offsets)), default=0)
    n_programs = programs_per_frame(n_frames, most, block, device, waves=4)
    return (n_programs, n_frames), on_device(slices.offsets, device)
