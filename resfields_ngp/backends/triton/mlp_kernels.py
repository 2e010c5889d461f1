"""Triton kernels of the fused ResField MLP over jets: a frame's tiles through every layer.

Vocabulary: `layer_kernels`, `column_kernels`. Forward, one part of a tile follows the other, in a
loop that is not unrolled; backward, where there is three times as much to do for each byte, they go
side by side. What comes next from device memory is on its way meanwhile.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .column_kernels import (
    add_sums,
    columns_at,
    gradient_scale,
    led_back,
    led_on_columns,
    led_out,
    no_sums,
    rescaled,
)
from .layer_kernels import (
    layer_matrix,
    led_on,
    load_matrices,
    operand,
    part_at,
    value_operand,
)


@triton.jit
def _part(
    jets,
    n_rows,
    part,
    D: tl.constexpr,
    N: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Loads one part of a tile's jets, (BLOCK, WIDE); 0 beyond its N columns and its rows."""
    at, inside = part_at(n_rows, part, D, N, WIDE, BLOCK)
    return tl.load(jets + at, mask=inside, other=0.0)


@triton.jit
def mlp_forward(
    jets,  # (N, 1 + D, inputs)
    offsets,  # (T + 1,) int64 rows
    weights,  # (T, n_weights)
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
    held = load_matrices(own, STAY, WIDTHS, LAYERS, OPERAND, EMULATES)
    end = tl.load(offsets + frame + 1)
    row = tl.load(offsets + frame) + tl.program_id(0) * BLOCK
    n_in: tl.constexpr = WIDTHS[0]
    n_out: tl.constexpr = WIDTHS[2]
    rows = (end - row).to(tl.int32)
    loaded = _part(jets + row * ((1 + D) * n_in), rows, 0, D, n_in, WIDTHS[3], BLOCK)
    while row < end:
        rows = (end - row).to(tl.int32)
        sources = jets + row * ((1 + D) * n_in)
        targets = outputs + row * ((1 + D) * n_out)
        row += tl.num_programs(0) * BLOCK
        x = value_operand(loaded, WIDTHS, OPERAND, EMULATES)
        if D > 0:
            loaded = _part(sources, rows, 1, D, n_in, WIDTHS[3], BLOCK)
        else:
            left = (end - row).to(tl.int32)
            loaded = _part(jets + row * n_in, left, 0, D, n_in, WIDTHS[3], BLOCK)
        x, slopes = led_on(x, held, own, WIDTHS, LAYERS, ACTIVATION, OPERAND, EMULATES)
        at, inside = part_at(rows, 0, D, n_out, WIDTHS[5], BLOCK)
        matrix = layer_matrix(held, own, LAYERS, WIDTHS, LAYERS, OPERAND, EMULATES)
        tl.store(targets + at, tl.dot(x, matrix, input_precision="ieee"), mask=inside)
        if D > 0:  # a loop that never runs breaks the compiler
            part = 1
            while part < 1 + D:
                tangents = operand(loaded, OPERAND, EMULATES)
                is_last = part == D
                left = tl.where(is_last, end - row, rows).to(tl.int32)
                following = tl.where(is_last, 0, part + 1)
                source = jets + row * ((1 + D) * n_in) if is_last else sources
                loaded = _part(source, left, following, D, n_in, WIDTHS[3], BLOCK)
                for layer in tl.static_range(LAYERS):
                    matrix = layer_matrix(held, own, layer, WIDTHS, LAYERS, OPERAND, EMULATES)
                    moved = slopes[layer] * tl.dot(tangents, matrix, input_precision="ieee")
                    tangents = operand(moved, OPERAND, EMULATES)
                at, inside = part_at(rows, part, D, n_out, WIDTHS[5], BLOCK)
                matrix = layer_matrix(held, own, LAYERS, WIDTHS, LAYERS, OPERAND, EMULATES)
                last = tl.dot(tangents, matrix, input_precision="ieee")
                tl.store(targets + at, last, mask=inside)
                part += 1


@triton.jit
def _tile(
    jets,
    gradients,
    row,
    end,
    D: tl.constexpr,
    WIDTHS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Loads a tile's inputs and gradients by its outputs, (columns of a row, (1 + D) * BLOCK)."""
    rows = (end - row).to(tl.int32)
    at, inside = columns_at(rows, D, WIDTHS[0], WIDTHS[3], 1 + D, BLOCK)
    x = tl.load(jets + row * ((1 + D) * WIDTHS[0]) + at, mask=inside, other=0.0)
    at, inside = columns_at(rows, D, WIDTHS[2], WIDTHS[5], 1 + D, BLOCK)
    return x, tl.load(gradients + row * ((1 + D) * WIDTHS[2]) + at, mask=inside, other=0.0)


@triton.jit
def mlp_backward(
    jets,  # (N, 1 + D, inputs)
    offsets,  # (T + 1,) int64 rows
    weights,  # (T, n_weights)
    n_weights,
    gradients,  # (N, 1 + D, outputs) by the outputs
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
    n_in: tl.constexpr = WIDTHS[0]
    frame = tl.program_id(1)
    own = weights + frame.to(tl.int64) * n_weights
    held = load_matrices(own, STAY, WIDTHS, LAYERS, OPERAND, EMULATES)
    sums = no_sums(WIDTHS, LAYERS)
    end = tl.load(offsets + frame + 1)
    row = tl.load(offsets + frame) + tl.program_id(0) * BLOCK
    x, g = _tile(jets, gradients, row, end, D, WIDTHS, BLOCK)
    factor = gradient_scale(tl.max(tl.abs(g)), OPERAND)
    is_padding = (tl.arange(0, WIDTHS[3]) >= n_in)[:, None]
    is_padding = is_padding & (tl.arange(0, (1 + D) * BLOCK) < BLOCK)[None, :]
    while row < end:
        rows = (end - row).to(tl.int32)
        targets = grad_jets + row * ((1 + D) * n_in)
        row += tl.num_programs(0) * BLOCK
        x = operand(tl.where(is_padding, 1.0, x), OPERAND, EMULATES)
        g *= factor
        inputs, products = led_on_columns(
            x, held, own, 1 + D, WIDTHS, LAYERS, ACTIVATION, OPERAND, EMULATES, BLOCK
        )
        x, next_g = _tile(jets, gradients, row, end, D, WIDTHS, BLOCK)
        led = (inputs, products, g, held, own, sums)
        g, sums = led_back(*led, 1 + D, WIDTHS, LAYERS, ACTIVATION, OPERAND, EMULATES, BLOCK)
        g, sums = led_out(inputs, g, held, own, sums, WITH_JETS, WIDTHS, LAYERS, OPERAND, EMULATES)
        if WITH_JETS:
            at, inside = columns_at(rows, D, n_in, WIDTHS[3], 1 + D, BLOCK)
            tl.store(targets + at, g * (1.0 / factor), mask=inside)
        g = next_g
        sums, factor = rescaled(sums, factor, gradient_scale(tl.max(tl.abs(g)), OPERAND), LAYERS)
    target = grad_weights + frame.to(tl.int64) * n_weights
    add_sums(target, sums, factor, WIDTHS, LAYERS)
