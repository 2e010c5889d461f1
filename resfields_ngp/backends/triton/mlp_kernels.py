"""Triton kernels of the fused ResField MLP over jets: a frame's tiles through every layer.

Vocabulary: `layer_kernels`. One part of a tile follows the other, in a loop that is not unrolled:
four at once do not fit into the registers.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .layer_kernels import (
    add_sums,
    gradient_scale,
    layer_matrix,
    led_back,
    led_on,
    load_matrices,
    no_bends,
    no_sums,
    operand,
    part_at,
)


@triton.jit
def _input(
    jets,
    n_rows,
    part,
    D: tl.constexpr,
    WIDTHS: tl.constexpr,
    OPERAND: tl.constexpr,
    EMULATES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Loads one part of a tile; columns beyond the inputs hold value 1, as tiny-cuda-nn's."""
    at, inside = part_at(n_rows, part, D, WIDTHS[0], WIDTHS[3], BLOCK)
    is_padding = (tl.arange(0, WIDTHS[3]) >= WIDTHS[0])[None, :] & (part == 0)
    inputs = tl.where(is_padding, 1.0, tl.load(jets + at, mask=inside, other=0.0))
    return operand(inputs, OPERAND, EMULATES)


@triton.jit
def mlp_forward(
    jets,  # (N, 1 + D, inputs)
    offsets,  # (T + 1,) int64 rows
    weights,  # (T, n_weights) operands
    n_weights,
    outputs,  # (N, 1 + D, outputs)
    WIDTHS: tl.constexpr,
    LAYERS: tl.constexpr,
    ACTIVATION: tl.constexpr,
    D: tl.constexpr,
    OPERAND: tl.constexpr,
    EMULATES: tl.constexpr,
    BLOCK: tl.constexpr,
    STAY: tl.constexpr,
):
    """Writes the outputs of all frames; grid (programs a frame, T)."""
    frame = tl.program_id(1)
    own = weights + frame.to(tl.int64) * n_weights
    held = load_matrices(own, STAY, WIDTHS, LAYERS)
    end = tl.load(offsets + frame + 1)
    row = tl.load(offsets + frame) + tl.program_id(0) * BLOCK
    while row < end:
        sources = jets + row * ((1 + D) * WIDTHS[0])
        targets = outputs + row * ((1 + D) * WIDTHS[2])
        rows = (end - row).to(tl.int32)
        x = _input(sources, rows, 0, D, WIDTHS, OPERAND, EMULATES, BLOCK)
        x, _, slopes = led_on(x, held, own, WIDTHS, LAYERS, ACTIVATION, OPERAND, EMULATES)
        at, inside = part_at(rows, 0, D, WIDTHS[2], WIDTHS[5], BLOCK)
        matrix = layer_matrix(held, own, LAYERS, WIDTHS, LAYERS)
        tl.store(targets + at, tl.dot(x, matrix, input_precision="ieee"), mask=inside)
        if D > 0:  # a loop that never runs breaks the compiler
            part = 1
            while part < 1 + D:
                tangents = _input(sources, rows, part, D, WIDTHS, OPERAND, EMULATES, BLOCK)
                for layer in tl.static_range(LAYERS):
                    matrix = layer_matrix(held, own, layer, WIDTHS, LAYERS)
                    moved = slopes[layer] * tl.dot(tangents, matrix, input_precision="ieee")
                    tangents = operand(moved, OPERAND, EMULATES)
                at, inside = part_at(rows, part, D, WIDTHS[2], WIDTHS[5], BLOCK)
                matrix = layer_matrix(held, own, LAYERS, WIDTHS, LAYERS)
                last = tl.dot(tangents, matrix, input_precision="ieee")
                tl.store(targets + at, last, mask=inside)
                part += 1
        row += tl.num_programs(0) * BLOCK


@triton.jit
def mlp_backward(
    jets,  # (N, 1 + D, inputs)
    offsets,  # (T + 1,) int64 rows
    weights,  # (T, n_weights) operands
    n_weights,
    gradients,  # (N, 1 + D, outputs) by the outputs
    largest,  # () magnitude of these, read where operands are float16
    grad_jets,  # (N, 1 + D, inputs), written where WITH_JETS
    grad_weights,  # (T, n_weights) zero, added to
    WIDTHS: tl.constexpr,
    LAYERS: tl.constexpr,
    ACTIVATION: tl.constexpr,
    D: tl.constexpr,
    OPERAND: tl.constexpr,
    EMULATES: tl.constexpr,
    BLOCK: tl.constexpr,
    STAY: tl.constexpr,
    WITH_JETS: tl.constexpr,
):
    """Writes gradients by jets and weights of all frames; grid (programs a frame, T)."""
    frame = tl.program_id(1)
    own = weights + frame.to(tl.int64) * n_weights
    held = load_matrices(own, STAY, WIDTHS, LAYERS)
    sums = no_sums(WIDTHS, LAYERS)
    factor, inverse = gradient_scale(largest, OPERAND)
    end = tl.load(offsets + frame + 1)
    row = tl.load(offsets + frame) + tl.program_id(0) * BLOCK
    while row < end:
        rows = (end - row).to(tl.int32)
        sources = jets + row * ((1 + D) * WIDTHS[0])
        slopes = gradients + row * ((1 + D) * WIDTHS[2])
        targets = grad_jets + row * ((1 + D) * WIDTHS[0])
        x = _input(sources, rows, 0, D, WIDTHS, OPERAND, EMULATES, BLOCK)
        _, values, _ = led_on(x, held, own, WIDTHS, LAYERS, ACTIVATION, OPERAND, EMULATES)
        bends = no_bends(values, LAYERS)
        if D > 0:
            part = 1
            while part < 1 + D:
                tangents = _input(sources, rows, part, D, WIDTHS, OPERAND, EMULATES, BLOCK)
                at, inside = part_at(rows, part, D, WIDTHS[2], WIDTHS[5], BLOCK)
                dg = tl.load(slopes + at, mask=inside, other=0.0) * factor
                tile = (tangents, dg, held, own, values, bends, sums)
                dg, sums, bends = led_back(
                    *tile, False, WITH_JETS, WIDTHS, LAYERS, ACTIVATION, OPERAND, EMULATES
                )
                if WITH_JETS:
                    at, inside = part_at(rows, part, D, WIDTHS[0], WIDTHS[3], BLOCK)
                    tl.store(targets + at, dg * inverse, mask=inside)
                part += 1
        inputs = _input(sources, rows, 0, D, WIDTHS, OPERAND, EMULATES, BLOCK)
        at, inside = part_at(rows, 0, D, WIDTHS[2], WIDTHS[5], BLOCK)
        g = tl.load(slopes + at, mask=inside, other=0.0) * factor
        whole = (inputs, g, held, own, values, bends, sums)
        g, sums, _ = led_back(
            *whole, True, WITH_JETS, WIDTHS, LAYERS, ACTIVATION, OPERAND, EMULATES
        )
        if WITH_JETS:
            at, inside = part_at(rows, 0, D, WIDTHS[0], WIDTHS[3], BLOCK)
            tl.store(targets + at, g * inverse, mask=inside)
        row += tl.num_programs(0) * BLOCK
    target = grad_weights + frame.to(tl.int64) * n_weights
    add_sums(target, sums, inverse, WIDTHS, LAYERS)
