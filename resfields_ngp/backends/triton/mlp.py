"""The fused ResField MLP: one launch forward and one backward for all frames of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton.language as tl
from torch import Tensor

from ...records import FrameSlices
from ...sharing import shared
from ...transfers import on_device
from ..specs import MlpSpec, pad_to_16
from .launching import (
    has_tensor_cores,
    is_interpreted,
    launch,
    power_of_two,
    programs_per_frame,
)
from .mlp_kernels import mlp_backward, mlp_forward
from .sloped_kernels import sloped_backward, sloped_forward
from .tilings import LaunchKind, Precision, Tiling, fastest, tilings_of

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
    spec: MlpSpec, n_inputs: int, precision: Precision, tiling: Tiling, n_parts: int = 0
) -> dict[str, Any]:
    """Returns the constants that a network's kernels are compiled with.

    Args:
        spec: The network.
        n_inputs: Columns of the inputs, padded already or not.
        precision: Operands of the products.
        tiling: See `tilings.tilings_of`.
        n_parts: Of a row that go through the network side by side, in the backward pass.
    """
    least = 16 if tiling.is_tall or n_parts else 2 * tiling.rows
    widths = (n_inputs, spec.n_neurons, spec.n_outputs)
    return {
        "WIDTHS": (*widths, *(max(least, power_of_two(pad_to_16(each))) for each in widths)),
        "LAYERS": spec.n_hidden_layers,
        "ACTIVATION": spec.activation,
        "OPERAND": _OPERANDS[precision],
        "EMULATES": _is_emulated(precision),
        "BLOCK": _block(tiling, n_parts),
        "STAY": tiling.holds_weights,
        "num_warps": tiling.n_warps,
        "maxnreg": tiling.n_registers,
    }


class _Mlp(torch.autograd.Function):
    """Forward and backward launches over the same tiles."""

    @staticmethod
    def forward(ctx, jets, weights, slices, spec, precision):
        ctx.slices, ctx.spec, ctx.precision = slices, spec, precision
        jets, weights = jets.contiguous(), weights.contiguous()
        ctx.save_for_backward(jets, weights)
        outputs = jets.new_empty(jets.shape[0], jets.shape[1], spec.n_outputs)
        constants = {"D": jets.shape[1] - 1}
        _run(ctx, mlp_forward, (jets,), weights, (), (outputs,), constants)
        return outputs

    @staticmethod
    def backward(ctx, grad_outputs):  # pyright: ignore[reportIncompatibleMethodOverride]
        jets, weights = ctx.saved_tensors
        gradients = grad_outputs.contiguous()
        with_jets = ctx.needs_input_grad[0]
        grad_jets = torch.empty_like(jets) if with_jets else jets.new_empty(1)
        grad_weights = torch.zeros_like(weights)
        constants = {"D": jets.shape[1] - 1, "WITH_JETS": with_jets}
        given = (gradients,)
        results = (grad_jets, grad_weights)
        _run(ctx, mlp_backward, (jets,), weights, given, results, constants)
        return grad_jets if with_jets else None, grad_weights, None, None, None


class _SlopedMlp(torch.autograd.Function):
    """As `_Mlp`, over tiles of values and the gradient of the first output."""

    @staticmethod
    def forward(ctx, features, others, weights, slices, spec, precision):
        ctx.slices, ctx.spec, ctx.precision = slices, spec, precision
        inputs, weights = (features.contiguous(), others.contiguous()), weights.contiguous()
        ctx.save_for_backward(*inputs, weights)
        outputs = features.new_empty(features.shape[0], spec.n_outputs)
        gradients = features.new_empty(features.shape[0], 3)
        results, constants = (outputs, gradients), {"N_FEATURES": features.shape[2]}
        _run(ctx, sloped_forward, inputs, weights, (), results, constants)
        return outputs, gradients

    @staticmethod
    def backward(ctx, grad_outputs, pulls):  # pyright: ignore[reportIncompatibleMethodOverride]
        features, others, weights = ctx.saved_tensors
        grad_outputs, pulls = grad_outputs.contiguous(), pulls.contiguous()
        with_features, with_others = ctx.needs_input_grad[:2]
        by_features = torch.empty_like(features) if with_features else features.new_empty(1)
        by_others = torch.empty_like(others) if with_others else others.new_empty(1)
        by_weights = torch.zeros_like(weights)
        wanted = {"WITH_FEATURES": with_features, "WITH_OTHERS": with_others}
        constants = {"N_FEATURES": features.shape[2]} | wanted
        given = (grad_outputs, pulls)
        results = (by_features, by_others, by_weights)
        _run(ctx, sloped_backward, (features, others), weights, given, results, constants)
        by_jets = (by_features if with_features else None, by_others if with_others else None)
        return *by_jets, by_weights, None, None, None


def _run(
    ctx: Any,
    kernel: Any,
    rows: tuple[Tensor, ...],
    weights: Tensor,
    given: tuple[Tensor, ...],
    results: tuple[Tensor, ...],
    constants: dict[str, Any],
) -> None:
    """Launches a kernel: programs walk the tiles of each frame.

    Args:
        ctx: Of a function that keeps its slices, spec and precision there.
        kernel: Takes rows, row bounds, weights, given tensors and results, in that order.
        rows: Inputs of the network, (N, 1 + D, columns) each.
        weights: (T, P) of all frames.
        given: Gradients of the outputs; in the backward pass.
        results: What the kernel writes, and weight gradients that it adds to.
        constants: Of this kernel, besides `launch_options`.
    """
    slices, spec, precision = ctx.slices, ctx.spec, ctx.precision
    n_frames, device = len(slices.frames), rows[0].device
    n_inputs = sum(each.shape[2] for each in rows)
    offsets = on_device(slices.offsets, device)
    # Values and tangents, of which the slope's loss has one: `sloped_kernels`.
    n_parts = 1 + constants.get("D", 1) if given else 0

    def start(tiling: Tiling, written: Sequence[Tensor]) -> None:
        sides = (slices.most_rows, _block(tiling, n_parts))
        n_programs = programs_per_frame(n_frames, *sides, device, tiling.n_waves)
        options = launch_options(spec, n_inputs, precision, tiling, n_parts) | constants
        inputs = (*rows, offsets, operands, operands.shape[1], *given)
        launch(kernel, (n_programs, n_frames), *inputs, *written, **options)

    compiled_for = (kernel.__name__, spec, n_inputs, precision, tuple(constants.items()))
    kind = LaunchKind(*compiled_for, device)
    tilings = tilings_of(spec, precision, bool(given), has_tensor_cores(device))
    # What a program loads once it rounds itself.
    stay = all(tiling.holds_weights for tiling in tilings)
    operands = weights if stay else _operands(weights, precision)
    start(fastest(kind, tilings, start, results, slices.n_rows), results)


def _block(tiling: Tiling, n_parts: int) -> int:
    """Returns the rows of a tile; interpreted, a tile takes as long whatever its size."""
    rows = tiling.rows // n_parts if n_parts else tiling.rows
    return 4 * rows if is_interpreted() else rows


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
