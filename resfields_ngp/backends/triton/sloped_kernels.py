"""Triton kernels of the ResField MLP with the derivatives of its first output only.

Vocabulary: `layer_kernels`. One gradient takes a sweep down the network where its three components
would take three sweeps up. Of a loss on that gradient g, with u = dL/dg (the pull), the derivative
is that of the first output's derivative along ``J u``, J being the inputs' Jacobian: one tangent,
whatever u is. So a tile has two parts on the way back, where jets have four. What a tile needs of
device memory is on its way while the tile before it is computed.
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
    matrix_at,
    no_bends,
    no_sums,
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
        x, _, slopes = led_on(x, held, own, WIDTHS, LAYERS, ACTIVATION, OPERAND, EMULATES)
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
def _store(
    grad_features,
    grad_others,
    n_rows,
    row,
    values,
    N_FEATURES: tl.constexpr,
    WITH_FEATURES: tl.constexpr,
    WITH_OTHERS: tl.constexpr,
    WIDTHS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Stores gradients (BLOCK, inputs) by one row of a tile's jets where they are wanted."""
    n_others: tl.constexpr = WIDTHS[0] - N_FEATURES
    if WITH_FEATURES:
        at, inside = part_at(n_rows, row, 3, N_FEATURES, WIDTHS[3], BLOCK)
        tl.store(grad_features + at, values, mask=inside)
    if WITH_OTHERS:
        at, inside = part_at(n_rows, row, 3, n_others, WIDTHS[3], BLOCK, N_FEATURES)
        tl.store(grad_others + at, values, mask=inside)


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
        Values and each derivative of the inputs, (BLOCK, inputs); gradients by the outputs, (BLOCK,
        outputs); each component of the pulls, (BLOCK, 1).
    """
    n_others: tl.constexpr = WIDTHS[0] - N_FEATURES
    rows = (end - row).to(tl.int32)
    sources = (features + row * (4 * N_FEATURES), others + row * (4 * n_others), rows)
    jets, components = (), ()
    places = tl.arange(0, BLOCK)
    for part in tl.static_range(4):
        jets = jets + (_inputs(*sources, part, N_FEATURES, WIDTHS, BLOCK),)
    for axis in tl.static_range(3):
        pull = tl.load(pulls + row * 3 + places * 3 + axis, mask=places < rows, other=0.0)
        components = components + (pull[:, None],)
    at, inside = part_at(rows, 0, 0, WIDTHS[2], WIDTHS[5], BLOCK)
    g = tl.load(grad_outputs + row * WIDTHS[2] + at, mask=inside, other=0.0)
    return jets, g, components


@triton.jit
def _pulled(jets, components, factor):
    """Returns the derivative of a tile's inputs along its pulls times a factor."""
    along = 0.0
    for axis in tl.static_range(3):
        along += jets[1 + axis] * (components[axis] * factor)
    return along


@triton.jit
def sloped_backward(
    features,  # (N, 4, N_FEATURES)
    others,  # (N, 4, inputs - N_FEATURES)
    offsets,  # (T + 1,) int64 rows
    weights,  # (T, n_weights)
    n_weights,
    grad_outputs,  # (N, outputs)
    pulls,  # (N, 3) gradients by the first outputs' gradients
    largest,  # () magnitude of both, read where operands are float16
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

    What float16 needs to be scaled by is on the tangent itself: its gradient is then the slope,
    and the products of both are scaled as the values' gradients are.
    """
    n_others: tl.constexpr = WIDTHS[0] - N_FEATURES
    with_jets: tl.constexpr = WITH_FEATURES or WITH_OTHERS
    frame = tl.program_id(1)
    own = weights + frame.to(tl.int64) * n_weights
    held = load_matrices(own, STAY, WIDTHS, LAYERS, OPERAND, EMULATES)
    sums = no_sums(WIDTHS, LAYERS)
    factor, inverse = gradient_scale(largest, OPERAND)
    end = tl.load(offsets + frame + 1)
    row = tl.load(offsets + frame) + tl.program_id(0) * BLOCK
    given = (features, others, grad_outputs, pulls)
    jets, g, pull = _tile(*given, row, end, N_FEATURES, WIDTHS, BLOCK)
    x, tangents = jets[0], _pulled(jets, pull, factor)
    while row < end:
        rows = (end - row).to(tl.int32)
        targets = (
            grad_features + row * (4 * N_FEATURES),
            grad_others + row * (4 * n_others),
            rows,
        )
        row += tl.num_programs(0) * BLOCK
        inputs = value_operand(x, WIDTHS, OPERAND, EMULATES)
        _, values, _ = led_on(inputs, held, own, WIDTHS, LAYERS, ACTIVATION, OPERAND, EMULATES)
        bends = no_bends(values, LAYERS)
        part = 0
        while part < tl.minimum(rows, 1):  # once: without a loop slopes are kept, and spill
            dg = tl.zeros((BLOCK, 1), tl.float32) + (tl.arange(0, WIDTHS[5]) == 0)[None, :]
            moved = operand(tangents, OPERAND, EMULATES)
            tile = (moved, dg, held, own, values, bends, sums)
            dg, sums, bends = led_back(
                *tile, False, with_jets, WIDTHS, LAYERS, ACTIVATION, OPERAND, EMULATES
            )
            for axis in tl.static_range(3):
                _store(
                    *targets,
                    1 + axis,
                    pull[axis] * dg,
                    N_FEATURES,
                    WITH_FEATURES,
                    WITH_OTHERS,
                    WIDTHS,
                    BLOCK,
                )
            part += 1
        inputs, g = value_operand(x, WIDTHS, OPERAND, EMULATES), g * factor
        jets, next_g, pull = _tile(*given, row, end, N_FEATURES, WIDTHS, BLOCK)
        whole = (inputs, g, held, own, values, bends, sums)
        g, sums, _ = led_back(
            *whole, True, with_jets, WIDTHS, LAYERS, ACTIVATION, OPERAND, EMULATES
        )
        g *= inverse
        _store(*targets, 0, g, N_FEATURES, WITH_FEATURES, WITH_OTHERS, WIDTHS, BLOCK)
        x, g, tangents = jets[0], next_g, _pulled(jets, pull, factor)
    target = grad_weights + frame.to(tl.int64) * n_weights
    add_sums(target, sums, inverse, WIDTHS, LAYERS)
