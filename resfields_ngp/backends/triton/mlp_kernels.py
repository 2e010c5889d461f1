"""Triton kernels of the fused ResField MLP: a tile of one frame's rows through every layer.

Vocabulary
    tile     BLOCK rows of one frame; a program walks several tiles of its frame.
    part     a tile's values (0) or, where D = 3, one of its three tangents: a matrix (BLOCK, F).
    OPERAND  what the tensor cores multiply; sums are float32. EMULATES: the interpreter cannot
             multiply bfloat16, so it multiplies rounded float32.
    WIDTHS   inputs, neurons, outputs as they are, then the same up to powers of two, as tiles must
             be (what is beyond is zero); LAYERS counts the hidden ones.
    STAY     whether the frame's matrices stay in the registers, or come from the cache each time.

Nothing between input and output touches device memory: the frame's weights stay on the chip, and
the backward pass computes the hidden layers again instead of reading them back. One part follows
the other, in a loop that is not unrolled: four at once do not fit into the registers. Loops are
`while`: the interpreter's `range` fails with numpy 2.4.
"""

from __future__ import annotations

import math

import triton
import triton.language as tl

from ..base import ACTIVATION_SHARPNESS
from ..half import LARGEST_GRADIENT

_K = tl.constexpr(ACTIVATION_SHARPNESS)
_LOG_LARGEST = tl.constexpr(math.log2(LARGEST_GRADIENT))
_HALF_MAX = tl.constexpr(65504.0)


@triton.jit
def _operand(x, OPERAND: tl.constexpr, EMULATES: tl.constexpr):
    """Rounds to the operands' type; float16 saturates, NaN stays NaN."""
    if OPERAND == tl.float16:
        x = tl.where(x > _HALF_MAX, _HALF_MAX, x)
        x = tl.where(x < -_HALF_MAX, -_HALF_MAX, x)
    return x.to(OPERAND).to(tl.float32) if EMULATES else x.to(OPERAND)


@triton.jit
def _activated(values, ACTIVATION: tl.constexpr):
    """Returns sigma, sigma' and sigma''."""
    if ACTIVATION == "relu":
        slopes = tl.where(values <= 0, 0.0, 1.0)  # NaN stays NaN, as torch has it
        return tl.where(values <= 0, 0.0, values), slopes, 0.0 * slopes
    elif ACTIVATION == "softplus":
        decay = tl.exp(tl.abs(values) * -_K)  # a constant on the left is not interpreted
        slopes = tl.where(values > 0, 1.0, decay) / (1.0 + decay)
        outputs = tl.where(values > 0, values, 0.0) + tl.log(1.0 + decay) / _K
        return outputs, slopes, slopes * (1.0 - slopes) * _K
    else:
        root = tl.sqrt(values * values + 4.0 / (_K * _K))
        curvatures = (2.0 / (_K * _K)) / (root * root * root)
        return 0.5 * (values + root), 0.5 * (1.0 + values / root), curvatures


@triton.jit
def _matrix_at(layer: tl.constexpr, WIDTHS: tl.constexpr, LAYERS: tl.constexpr):
    """Where a layer's matrix lies in a flat vector, (inputs, outputs), and what of that is in it.

    The vector has row-major [outputs, inputs] of tiny-cuda-nn's padded widths.
    """
    n_first: tl.constexpr = (WIDTHS[0] + 15) // 16 * 16
    n_last: tl.constexpr = (WIDTHS[2] + 15) // 16 * 16
    n_in: tl.constexpr = n_first if layer == 0 else WIDTHS[1]
    n_out: tl.constexpr = n_last if layer == LAYERS else WIDTHS[1]
    start: tl.constexpr = WIDTHS[1] * (n_first + (layer - 1) * WIDTHS[1]) if layer else 0
    n_rows: tl.constexpr = WIDTHS[3] if layer == 0 else WIDTHS[4]
    n_columns: tl.constexpr = WIDTHS[5] if layer == LAYERS else WIDTHS[4]
    rows, columns = tl.arange(0, n_rows), tl.arange(0, n_columns)
    inside = (rows < n_in)[:, None] & (columns < n_out)[None, :]
    return start + rows[:, None] + columns[None, :] * n_in, inside


@triton.jit
def _held(weights, STAY: tl.constexpr, WIDTHS: tl.constexpr, LAYERS: tl.constexpr):
    """Loads a frame's matrices, each (inputs, outputs); none where they do not stay."""
    matrices = ()
    if STAY:
        for layer in tl.static_range(LAYERS + 1):
            at, inside = _matrix_at(layer, WIDTHS, LAYERS)
            matrices = matrices + (tl.load(weights + at, mask=inside, other=0.0),)
    return matrices


@triton.jit
def _matrix(held, weights, layer: tl.constexpr, WIDTHS: tl.constexpr, LAYERS: tl.constexpr):
    """Returns a layer's matrix: one of those that stay, or from the cache."""
    if len(held):
        matrix = held[layer]
    else:
        at, inside = _matrix_at(layer, WIDTHS, LAYERS)
        matrix = tl.load(weights + at, mask=inside, other=0.0)
    return matrix


@triton.jit
def _part_at(n_rows, part, D: tl.constexpr, N: tl.constexpr, WIDE: tl.constexpr, BLOCK):
    """Where one part of a tile's (BLOCK, 1 + D, N) jets lies, (BLOCK, WIDE), and what exists."""
    rows, columns = tl.arange(0, BLOCK), tl.arange(0, WIDE)
    inside = (rows < n_rows)[:, None] & (columns < N)[None, :]
    return (rows[:, None] * (1 + D) + part) * N + columns[None, :], inside


@triton.jit
def _input(
    jets,
    n_rows,
    part,
    D: tl.constexpr,
    WIDTHS: tl.constexpr,
    OPERAND: tl.constexpr,
    EMULATES: tl.constexpr,
    BLOCK,
):
    """Loads one part of a tile; columns beyond the inputs hold value 1, as tiny-cuda-nn's."""
    at, inside = _part_at(n_rows, part, D, WIDTHS[0], WIDTHS[3], BLOCK)
    is_padding = (tl.arange(0, WIDTHS[3]) >= WIDTHS[0])[None, :] & (part == 0)
    inputs = tl.where(is_padding, 1.0, tl.load(jets + at, mask=inside, other=0.0))
    return _operand(inputs, OPERAND, EMULATES)


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
    held = _held(own, STAY, WIDTHS, LAYERS)
    end = tl.load(offsets + frame + 1)
    row = tl.load(offsets + frame) + tl.program_id(0) * BLOCK
    while row < end:
        sources = jets + row * ((1 + D) * WIDTHS[0])
        targets = outputs + row * ((1 + D) * WIDTHS[2])
        rows = (end - row).to(tl.int32)
        x = _input(sources, rows, 0, D, WIDTHS, OPERAND, EMULATES, BLOCK)
        slopes = ()
        for layer in tl.static_range(LAYERS):
            matrix = _matrix(held, own, layer, WIDTHS, LAYERS)
            values = tl.dot(x, matrix, input_precision="ieee")
            values, slope, _ = _activated(values, ACTIVATION)
            slopes = slopes + (slope,)
            x = _operand(values, OPERAND, EMULATES)
        at, inside = _part_at(rows, 0, D, WIDTHS[2], WIDTHS[5], BLOCK)
        matrix = _matrix(held, own, LAYERS, WIDTHS, LAYERS)
        tl.store(targets + at, tl.dot(x, matrix, input_precision="ieee"), mask=inside)
        if D > 0:  # a loop that never runs breaks the compiler
            part = 1
            while part < 1 + D:
                tangents = _input(sources, rows, part, D, WIDTHS, OPERAND, EMULATES, BLOCK)
                for layer in tl.static_range(LAYERS):
                    matrix = _matrix(held, own, layer, WIDTHS, LAYERS)
                    moved = slopes[layer] * tl.dot(tangents, matrix, input_precision="ieee")
                    tangents = _operand(moved, OPERAND, EMULATES)
                at, inside = _part_at(rows, part, D, WIDTHS[2], WIDTHS[5], BLOCK)
                matrix = _matrix(held, own, LAYERS, WIDTHS, LAYERS)
                last = tl.dot(tangents, matrix, input_precision="ieee")
                tl.store(targets + at, last, mask=inside)
                part += 1
        row += tl.num_programs(0) * BLOCK


@triton.jit
def _led_back(
    x,
    gradients,
    held,
    weights,
    values,
    bends,
    sums,
    IS_VALUE: tl.constexpr,
    WITH_JETS: tl.constexpr,
    WIDTHS: tl.constexpr,
    LAYERS: tl.constexpr,
    ACTIVATION: tl.constexpr,
    OPERAND: tl.constexpr,
    EMULATES: tl.constexpr,
):
    """Leads one part of a tile through all layers and its gradient back.

    Of a hidden layer ``sigma(z), sigma'(z) dz`` the gradients g, dg by its outputs become
    ``g sigma'(z) + sum dg sigma''(z) dz`` and ``dg sigma'(z)``: tangents come first, and what they
    add to the values' gradient waits in `bends`.

    Returns:
        Gradient by the inputs, and `sums` (by the weights) and `bends` with this part's.
    """
    inputs, products = (x,), ()
    for layer in tl.static_range(LAYERS):
        outputs, slopes, _ = _activated(values[layer], ACTIVATION)
        if not IS_VALUE:
            matrix = _matrix(held, weights, layer, WIDTHS, LAYERS)
            products = products + (tl.dot(x, matrix, input_precision="ieee"),)
            outputs = slopes * products[layer]
        x = _operand(outputs, OPERAND, EMULATES)
        inputs = inputs + (x,)
    new_sums, new_bends = (), ()
    for layer in tl.static_range(LAYERS, -1, -1):
        rounded = _operand(gradients, OPERAND, EMULATES)
        flipped = tl.trans(inputs[layer])
        new_sums = (tl.dot(flipped, rounded, sums[layer], input_precision="ieee"),) + new_sums
        if layer > 0 or WITH_JETS:
            matrix = tl.trans(_matrix(held, weights, layer, WIDTHS, LAYERS))
            gradients = tl.dot(rounded, matrix, input_precision="ieee")
        if layer > 0:
            _, slopes, curvatures = _activated(values[layer - 1], ACTIVATION)
            bend = bends[layer - 1]
            if IS_VALUE:
                gradients = gradients * slopes + bend
            else:
                bend += gradients * curvatures * products[layer - 1]
                gradients = gradients * slopes
            new_bends = (bend,) + new_bends
    return gradients, new_sums, new_bends


@triton.jit
def _gradient_scale(largest, OPERAND: tl.constexpr):
    """Returns what gradients are multiplied with while they are float16; `half.gradient_scale`."""
    if OPERAND == tl.float16:
        room = tl.log2(tl.maximum(tl.load(largest), 1e-30)) * -1.0 + _LOG_LARGEST
        factor = tl.exp2(tl.minimum(tl.maximum(tl.floor(room), -100.0), 100.0))
    else:
        factor = 1.0
    return factor


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
    held = _held(own, STAY, WIDTHS, LAYERS)
    sums = ()
    for layer in tl.static_range(LAYERS + 1):
        places = _matrix_at(layer, WIDTHS, LAYERS)[0]
        sums = sums + (tl.zeros_like(places).to(tl.float32),)
    factor = _gradient_scale(largest, OPERAND)
    end = tl.load(offsets + frame + 1)
    row = tl.load(offsets + frame) + tl.program_id(0) * BLOCK
    while row < end:
        rows = (end - row).to(tl.int32)
        sources = jets + row * ((1 + D) * WIDTHS[0])
        slopes = gradients + row * ((1 + D) * WIDTHS[2])
        targets = grad_jets + row * ((1 + D) * WIDTHS[0])
        x = _input(sources, rows, 0, D, WIDTHS, OPERAND, EMULATES, BLOCK)
        values, bends = (), ()
        for layer in tl.static_range(LAYERS):
            matrix = _matrix(held, own, layer, WIDTHS, LAYERS)
            values = values + (tl.dot(x, matrix, input_precision="ieee"),)
            bends = bends + (tl.zeros_like(values[layer]),)
            x = _operand(_activated(values[layer], ACTIVATION)[0], OPERAND, EMULATES)
        if D > 0:
            part = 1
            while part < 1 + D:
                tangents = _input(sources, rows, part, D, WIDTHS, OPERAND, EMULATES, BLOCK)
                at, inside = _part_at(rows, part, D, WIDTHS[2], WIDTHS[5], BLOCK)
                dg = tl.load(slopes + at, mask=inside, other=0.0) * factor
                tile = (tangents, dg, held, own, values, bends, sums)
                dg, sums, bends = _led_back(
                    *tile, False, WITH_JETS, WIDTHS, LAYERS, ACTIVATION, OPERAND, EMULATES
                )
                if WITH_JETS:
                    at, inside = _part_at(rows, part, D, WIDTHS[0], WIDTHS[3], BLOCK)
                    tl.store(targets + at, dg / factor, mask=inside)
                part += 1
        inputs = _input(sources, rows, 0, D, WIDTHS, OPERAND, EMULATES, BLOCK)
        at, inside = _part_at(rows, 0, D, WIDTHS[2], WIDTHS[5], BLOCK)
        g = tl.load(slopes + at, mask=inside, other=0.0) * factor
        whole = (inputs, g, held, own, values, bends, sums)
        g, sums, _ = _led_back(
            *whole, True, WITH_JETS, WIDTHS, LAYERS, ACTIVATION, OPERAND, EMULATES
        )
        if WITH_JETS:
            at, inside = _part_at(rows, 0, D, WIDTHS[0], WIDTHS[3], BLOCK)
            tl.store(targets + at, g / factor, mask=inside)
        row += tl.num_programs(0) * BLOCK
    for layer in tl.static_range(LAYERS + 1):
        at, inside = _matrix_at(layer, WIDTHS, LAYERS)
        target = grad_weights + frame.to(tl.int64) * n_weights
        tl.atomic_add(target + at, sums[layer] / factor, mask=inside, sem="relaxed")
