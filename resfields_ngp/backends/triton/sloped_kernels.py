"""Triton kernels of the ResField MLP with the derivatives of its first output only.

Vocabulary: `layer_kernels`, `column_kernels`. One gradient takes a sweep down the network where its
three components would take three sweeps up. Of a loss on that gradient g, with u = dL/dg (the
pull), the derivative is that of the first output's derivative along ``J u``, J being the inputs'
Jacobian: one tangent, whatever u is. So a tile has two parts on the way back, where jets have four.
What it needs of device memory is on its way while the tile before it is computed.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .column_kernels import (
    add_sums,
    as_columns,
    by_part,
    columns_at,
    gradient_scale,
    is_value,
    led_back,
    led_on_columns,
    led_out,
    no_sums,
    rescaled,
    values_of,
)
from .layer_kernels import (
    layer_matrix,
    led_on,
    load_matrices,
    matrix_at,
    operand,
    part_at,
    value_operand,
)


@triton.jit
def _inputs(
    features,
    others,
    n_rows,
    row,
    N_FEATURES: tl.constexpr,
    WIDTHS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Loads values (row 0) or a derivative of a tile's inputs, (BLOCK, inputs); 0 beyond them."""
    n_others: tl.constexpr = WIDTHS[0] - N_FEATURES
    at, inside = part_at(n_rows, row, 3, N_FEATURES, WIDTHS[3], BLOCK)
    inputs = tl.load(features + at, mask=inside, other=0.0)
    if n_others > 0:
        at, inside = part_at(n_rows, row, 3, n_others, WIDTHS[3], BLOCK, N_FEATURES)
        inputs += tl.load(others + at, mask=inside, other=0.0)
    return inputs


@triton.jit
def sloped_forward(
    features,  # (N, 4, N_FEATURES)
    others,  # (N, 4, inputs - N_FEATURES)
    offsets,  # (T + 1,) int64 rows
    weights,  # (T, n_weights)
    n_weights,
    outputs,  # (N, outputs)
    gradients,  # (N, 3)
    N_FEATURES: tl.constexpr,
    WIDTHS: tl.constexpr,
    LAYERS: tl.constexpr,
    ACTIVATION: tl.constexpr,
    OPERAND: tl.constexpr,
    EMULATES: tl.constexpr,
    BLOCK: tl.constexpr,
    STAY: tl.constexpr,
):
    """Writes the outputs of all frames and the first ones' gradients; grid (programs, T)."""
    n_others: tl.constexpr = WIDTHS[0] - N_FEATURES
    frame = tl.program_id(1)
    own = weights + frame.to(tl.int64) * n_weights
    held = load_matrices(own, STAY, WIDTHS, LAYERS, OPERAND, EMULATES)
    # The first output's weights, a row of the last matrix.
    last_at, is_weight = matrix_at(LAYERS, WIDTHS, LAYERS)
    is_first = is_weight & (tl.arange(0, WIDTHS[5]) == 0)[None, :]
    first = tl.load(own + last_at, mask=is_first, other=0.0)
    first = operand(first, OPERAND, EMULATES).to(tl.float32)
    first = tl.sum(first, axis=1)[None, :]
    end = tl.load(offsets + frame + 1)
    row = tl.load(offsets + frame) + tl.program_id(0) * BLOCK
    while row < end:
        rows = (end - row).to(tl.int32)
        own_features, own_others = features + row * (4 * N_FEATURES), others + row * (4 * n_others)
        sources = (own_features, own_others, rows)
        values = _inputs(*sources, 0, N_FEATURES, WIDTHS, BLOCK)
        x = value_operand(values, WIDTHS, OPERAND, EMULATES)
        x, slopes = led_on(x, held, own, WIDTHS, LAYERS, ACTIVATION, OPERAND, EMULATES)
        at, inside = part_at(rows, 0, 0, WIDTHS[2], WIDTHS[5], BLOCK)
        matrix = layer_matrix(held, own, LAYERS, WIDTHS, LAYERS, OPERAND, EMULATES)
        last = tl.dot(x, matrix, input_precision="ieee")
        tl.store(outputs + row * WIDTHS[2] + at, last, mask=inside)
        back = first
        for layer in tl.static_range(LAYERS - 1, -1, -1):
            back = operand(back * slopes[layer], OPERAND, EMULATES)
            matrix = tl.trans(layer_matrix(held, own, layer, WIDTHS, LAYERS, OPERAND, EMULATES))
            back = tl.dot(back, matrix, input_precision="ieee")
        places = tl.arange(0, BLOCK)
        for axis in tl.static_range(3):
            jacobian = _inputs(*sources, 1 + axis, N_FEATURES, WIDTHS, BLOCK)
            along = tl.sum(jacobian * back, axis=1)
            tl.store(gradients + row * 3 + places * 3 + axis, along, mask=places < rows)
        row += tl.num_programs(0) * BLOCK


@triton.jit
def _tile(
    features,
    others,
    grad_outputs,
    pulls,
    row,
    end,
    N_FEATURES: tl.constexpr,
    WIDTHS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Loads what the way back takes of a tile.

    Returns:
        Jets of the inputs, (inputs, 4 * BLOCK); the pulls by their derivatives, (1, 4 * BLOCK), 0
        by the values; gradients by the outputs, (outputs, 2 * BLOCK), 0 by the tangents'.
    """
    n_others: tl.constexpr = WIDTHS[0] - N_FEATURES
    rows = (end - row).to(tl.int32)
    at, inside = columns_at(rows, 3, N_FEATURES, WIDTHS[3], 4, BLOCK)
    jets = tl.load(features + row * (4 * N_FEATURES) + at, mask=inside, other=0.0)
    if n_others > 0:
        at, inside = columns_at(rows, 3, n_others, WIDTHS[3], 4, BLOCK, N_FEATURES)
        jets += tl.load(others + row * (4 * n_others) + at, mask=inside, other=0.0)
    columns = tl.arange(0, 4 * BLOCK)
    own, part = columns % BLOCK, columns // BLOCK
    at, inside = own * 3 + part - 1, (own < rows) & (part > 0)
    pull = tl.load(pulls + row * 3 + at, mask=inside, other=0.0)[None, :]
    at, inside = columns_at(rows, 0, WIDTHS[2], WIDTHS[5], 2, BLOCK)
    inside = inside & (tl.arange(0, 2 * BLOCK) < BLOCK)[None, :]
    return jets, pull, tl.load(grad_outputs + row * WIDTHS[2] + at, mask=inside, other=0.0)


@triton.jit
def _scale(g, pull, OPERAND: tl.constexpr):
    """Returns what a tile's gradients and pulls are multiplied with while they are float16."""
    largest = tl.maximum(tl.max(tl.abs(g)), tl.max(tl.abs(pull)))
    return gradient_scale(largest, OPERAND)


@triton.jit
def sloped_backward(
    features,  # (N, 4, N_FEATURES)
    others,  # (N, 4, inputs - N_FEATURES)
    offsets,  # (T + 1,) int64 rows
    weights,  # (T, n_weights)
    n_weights,
    grad_outputs,  # (N, outputs)
    pulls,  # (N, 3) gradients by the first outputs' gradients
    grad_features,  # as features, written where WITH_FEATURES
    grad_others,  # as others, written where WITH_OTHERS
    grad_weights,  # (T, n_weights) zero, added to
    N_FEATURES: tl.constexpr,
    WIDTHS: tl.constexpr,
    LAYERS: tl.constexpr,
    ACTIVATION: tl.constexpr,
    OPERAND: tl.constexpr,
    EMULATES: tl.constexpr,
    BLOCK: tl.constexpr,
    STAY: tl.constexpr,
    WITH_FEATURES: tl.constexpr,
    WITH_OTHERS: tl.constexpr,
):
    """Writes gradients by jets and weights of all frames; grid (programs a frame, T).

    A tile has two parts, values and their derivative along the pulls. What float16 needs to be
    scaled by is on that tangent itself: its gradient is then the slope, and the products of both
    are scaled as the values' gradients are.
    """
    n_others: tl.constexpr = WIDTHS[0] - N_FEATURES
    with_jets: tl.constexpr = WITH_FEATURES or WITH_OTHERS
    frame = tl.program_id(1)
    own = weights + frame.to(tl.int64) * n_weights
    held = load_matrices(own, STAY, WIDTHS, LAYERS, OPERAND, EMULATES)
    sums = no_sums(WIDTHS, LAYERS)
    end = tl.load(offsets + frame + 1)
    row = tl.load(offsets + frame) + tl.program_id(0) * BLOCK
    given = (features, others, grad_outputs, pulls)
    jets, pull, g = _tile(*given, row, end, N_FEATURES, WIDTHS, BLOCK)
    factor = _scale(g, pull, OPERAND)
    is_padding = (tl.arange(0, WIDTHS[3]) >= WIDTHS[0])[:, None, None]
    # The gradient by the tangent's outputs: that of the first output alone.
    is_seed = (tl.arange(0, WIDTHS[5]) == 0)[:, None]
    is_seed = is_seed & (tl.arange(0, 2 * BLOCK) >= BLOCK)[None, :]
    while row < end:
        rows = (end - row).to(tl.int32)
        own_features = grad_features + row * (4 * N_FEATURES)
        own_others = grad_others + row * (4 * n_others)
        row += tl.num_programs(0) * BLOCK
        x = tl.where(is_padding, 1.0, values_of(by_part(jets, 4, BLOCK), 4))
        along = by_part(jets * (pull * factor), 4, BLOCK)
        along = tl.sum(along, axis=1, keep_dims=True)
        x = as_columns(tl.where(is_value(2), x, along), 2, BLOCK)
        x = operand(x, OPERAND, EMULATES)
        inputs, products = led_on_columns(
            x, held, own, 2, WIDTHS, LAYERS, ACTIVATION, OPERAND, EMULATES, BLOCK
        )
        jets, next_pull, next_g = _tile(*given, row, end, N_FEATURES, WIDTHS, BLOCK)
        g = tl.where(is_seed, 1.0, g * factor)
        led = (inputs, products, g, held, own, sums)
        g, sums = led_back(*led, 2, WIDTHS, LAYERS, ACTIVATION, OPERAND, EMULATES, BLOCK)
        g, sums = led_out(inputs, g, held, own, sums, with_jets, WIDTHS, LAYERS, OPERAND, EMULATES)
        if with_jets:
            parts = by_part(g, 2, BLOCK)
            slopes = tl.sum(tl.where(is_value(2), 0.0, parts), axis=1, keep_dims=True)
            slopes = slopes * by_part(pull, 4, BLOCK)
            by_jets = tl.where(is_value(4), values_of(parts, 2) * (1.0 / factor), slopes)
            by_jets = as_columns(by_jets, 4, BLOCK)
            if WITH_FEATURES:
                at, inside = columns_at(rows, 3, N_FEATURES, WIDTHS[3], 4, BLOCK)
                tl.store(own_features + at, by_jets, mask=inside)
            if WITH_OTHERS:
                at, inside = columns_at(rows, 3, n_others, WIDTHS[3], 4, BLOCK, N_FEATURES)
                tl.store(own_others + at, by_jets, mask=inside)
        g, pull = next_g, next_pull
        sums, factor = rescaled(sums, factor, _scale(g, pull, OPERAND), LAYERS)
    target = grad_weights + frame.to(tl.int64) * n_weights
    add_sums(target, sums, factor, WIDTHS, LAYERS)
