"""Triton kernels of the fused ResField MLP: a tile of one frame's rows through every layer.

Vocabulary
    tile     BLOCK rows of one frame; a program walks several tiles of its frame.
    parts    a tile's values and, where D = 3, its three tangents: 1 + D matrices (BLOCK, F).
    OPERAND  what the tensor cores multiply; sums are float32. EMULATES: the interpreter cannot
             multiply bfloat16, so it multiplies rounded float32.
    IN, HIDDEN, OUT  widths up to a power of two, as tiles must be; what is beyond is zero.

Nothing between input and output touches device memory: the frame's weights stay on the chip, and
the backward pass computes the hidden layers again instead of reading them back. Loops are `while`:
the interpreter's `range` fails with numpy 2.4.
"""

from __future__ import annotations

import triton
import triton.language as tl

from ..base import ACTIVATION_SHARPNESS

_K = tl.constexpr(ACTIVATION_SHARPNESS)
_HALF_MAX = tl.constexpr(65504.0)


@triton.jit
def _operand(x, OPERAND: tl.constexpr, EMULATES: tl.constexpr):
    """Rounds to the operands' type; float16 saturates, NaN stays NaN."""
    if OPERAND == tl.float16:
        x = tl.where(x > _HALF_MAX, _HALF_MAX, x)
        x = tl.where(x < -_HALF_MAX, -_HALF_MAX, x)
    rounded = x.to(OPERAND)
    if EMULATES:
        rounded = rounded.to(tl.float32)
    return rounded


@triton.jit
def _operands(parts, OPERAND: tl.constexpr, EMULATES: tl.constexpr):
    rounded = ()
    for i in tl.static_range(len(parts)):
        rounded = rounded + (_operand(parts[i], OPERAND, EMULATES),)
    return rounded


@triton.jit
def _products(parts, matrix):
    """Returns each part times the matrix."""
    outputs = ()
    for i in tl.static_range(len(parts)):
        outputs = outputs + (tl.dot(parts[i], matrix, input_precision="ieee"),)
    return outputs


@triton.jit
def _activated(values, ACTIVATION: tl.constexpr):
    """Returns sigma, sigma' and sigma''."""
    if ACTIVATION == "relu":
        # As torch has it: NaN stays NaN.
        slopes = tl.where(values <= 0, 0.0, 1.0)
        return tl.where(values <= 0, 0.0, values), slopes, 0.0 * slopes
    elif ACTIVATION == "softplus":
        decay = tl.exp(-_K * tl.abs(values))
        slopes = tl.where(values > 0, 1.0, decay) / (1.0 + decay)
        outputs = tl.where(values > 0, values, 0.0) + tl.log(1.0 + decay) / _K
        return outputs, slopes, _K * slopes * (1.0 - slopes)
    else:
        root = tl.sqrt(values * values + 4.0 / (_K * _K))
        curvatures = (2.0 / (_K * _K)) / (root * root * root)
        return 0.5 * (values + root), 0.5 * (1.0 + values / root), curvatures


@triton.jit
def _activated_parts(parts, ACTIVATION: tl.constexpr):
    """Returns sigma(z) and sigma'(z) dz."""
    values, slopes, _ = _activated(parts[0], ACTIVATION)
    outputs = (values,)
    for i in tl.static_range(1, len(parts)):
        outputs = outputs + (slopes * parts[i],)
    return outputs


@triton.jit
def _activated_gradients(gradients, parts, ACTIVATION: tl.constexpr):
    """Takes gradients by sigma(z) and sigma'(z) dz back to z and dz."""
    _, slopes, curvatures = _activated(parts[0], ACTIVATION)
    by_value = gradients[0] * slopes
    by_tangents = ()
    for i in tl.static_range(1, len(parts)):
        by_value += gradients[i] * curvatures * parts[i]
        by_tangents = by_tangents + (gradients[i] * slopes,)
    return (by_value,) + by_tangents


@triton.jit
def _at(N_OUT: tl.constexpr, N_IN: tl.constexpr, OUT: tl.constexpr, IN: tl.constexpr):
    """Where a row-major [N_OUT, N_IN] matrix lies, as (IN, OUT), and what of that is in it."""
    rows, columns = tl.arange(0, IN), tl.arange(0, OUT)
    inside = (rows < N_IN)[:, None] & (columns < N_OUT)[None, :]
    return rows[:, None] + columns[None, :] * N_IN, inside


@triton.jit
def _layer_at(
    layer: tl.constexpr,
    N_INPUTS: tl.constexpr,
    N_NEURONS: tl.constexpr,
    N_OUTPUTS: tl.constexpr,
    N_HIDDEN: tl.constexpr,
    IN: tl.constexpr,
    HIDDEN: tl.constexpr,
    OUT: tl.constexpr,
):
    """Where a layer's matrix lies in a flat vector, transposed; tiny-cuda-nn's padded widths."""
    n_first: tl.constexpr = (N_INPUTS + 15) // 16 * 16
    n_last: tl.constexpr = (N_OUTPUTS + 15) // 16 * 16
    n_in: tl.constexpr = n_first if layer == 0 else N_NEURONS
    n_out: tl.constexpr = n_last if layer == N_HIDDEN else N_NEURONS
    wide_in: tl.constexpr = IN if layer == 0 else HIDDEN
    wide_out: tl.constexpr = OUT if layer == N_HIDDEN else HIDDEN
    start: tl.constexpr = 0 if layer == 0 else N_NEURONS * (n_first + (layer - 1) * N_NEURONS)
    at, inside = _at(n_out, n_in, wide_out, wide_in)
    return start + at, inside


@triton.jit
def _jets_at(rows, end, part, D: tl.constexpr, N: tl.constexpr, WIDE: tl.constexpr):
    """Where one part of (rows, 1 + D, N) jets lies, as (BLOCK, WIDE), and what of that exists."""
    columns = tl.arange(0, WIDE)
    at = (rows.to(tl.int64)[:, None] * (1 + D) + part) * N + columns[None, :]
    return at, (rows < end)[:, None] & (columns < N)[None, :]


@triton.jit
def _input_parts(jets, rows, end, D: tl.constexpr, N_INPUTS: tl.constexpr, IN: tl.constexpr):
    """Loads a tile; columns beyond the inputs hold value 1 and derivative 0, as tiny-cuda-nn's."""
    at, inside = _jets_at(rows, end, 0, D, N_INPUTS, IN)
    is_padding = (tl.arange(0, IN) >= N_INPUTS)[None, :]
    parts = (tl.where(is_padding, 1.0, tl.load(jets + at, mask=inside, other=0.0)),)
    for part in tl.static_range(1, 1 + D):
        at, inside = _jets_at(rows, end, part, D, N_INPUTS, IN)
        parts = parts + (tl.load(jets + at, mask=inside, other=0.0),)
    return parts


@triton.jit
def _matrices(
    weights,
    N_INPUTS: tl.constexpr,
    N_NEURONS: tl.constexpr,
    N_OUTPUTS: tl.constexpr,
    N_HIDDEN: tl.constexpr,
    IN: tl.constexpr,
    HIDDEN: tl.constexpr,
    OUT: tl.constexpr,
    OPERAND: tl.constexpr,
    EMULATES: tl.constexpr,
):
    """Loads one frame's matrices, each transposed: (inputs, outputs)."""
    matrices = ()
    for layer in tl.static_range(N_HIDDEN + 1):
        at, inside = _layer_at(layer, N_INPUTS, N_NEURONS, N_OUTPUTS, N_HIDDEN, IN, HIDDEN, OUT)
        matrix = tl.load(weights + at, mask=inside, other=0.0)
        matrices = matrices + (_operand(matrix, OPERAND, EMULATES),)
    return matrices


@triton.jit
def mlp_forward(
    jets,  # (N, 1 + D, N_INPUTS)
    offsets,  # (T + 1,) int64 rows
    weights,  # (T, n_weights)
    n_weights,
    outputs,  # (N, 1 + D, N_OUTPUTS)
    N_INPUTS: tl.constexpr,
    N_NEURONS: tl.constexpr,
    N_OUTPUTS: tl.constexpr,
    N_HIDDEN: tl.constexpr,
    IN: tl.constexpr,
    HIDDEN: tl.constexpr,
    OUT: tl.constexpr,
    ACTIVATION: tl.constexpr,
    D: tl.constexpr,
    OPERAND: tl.constexpr,
    EMULATES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Writes the outputs of all frames; grid (programs a frame, T)."""
    frame = tl.program_id(1)
    own = weights + frame.to(tl.int64) * n_weights
    matrices = _matrices(
        own, N_INPUTS, N_NEURONS, N_OUTPUTS, N_HIDDEN, IN, HIDDEN, OUT, OPERAND, EMULATES
    )
    end = tl.load(offsets + frame + 1)
    row = tl.load(offsets + frame) + tl.program_id(0) * BLOCK
    while row < end:
        rows = row + tl.arange(0, BLOCK)
        parts = _input_parts(jets, rows, end, D, N_INPUTS, IN)
        for layer in tl.static_range(N_HIDDEN):
            parts = _products(_operands(parts, OPERAND, EMULATES), matrices[layer])
            parts = _activated_parts(parts, ACTIVATION)
        parts = _products(_operands(parts, OPERAND, EMULATES), matrices[N_HIDDEN])
        for part in tl.static_range(1 + D):
            at, inside = _jets_at(rows, end, part, D, N_OUTPUTS, OUT)
            tl.store(outputs + at, parts[part], mask=inside)
        row += tl.num_programs(0) * BLOCK


@triton.jit
def mlp_backward(
    jets,  # (N, 1 + D, N_INPUTS)
    offsets,  # (T + 1,) int64 rows
    weights,  # (T, n_weights)
    n_weights,
    gradients,  # (N, 1 + D, N_OUTPUTS) by the outputs
    scale,  # () what gradients are multiplied with while their operands are small floats
    grad_jets,  # (N, 1 + D, N_INPUTS), written where WITH_JETS
    grad_weights,  # (T, n_weights) zero, added to
    N_INPUTS: tl.constexpr,
    N_NEURONS: tl.constexpr,
    N_OUTPUTS: tl.constexpr,
    N_HIDDEN: tl.constexpr,
    IN: tl.constexpr,
    HIDDEN: tl.constexpr,
    OUT: tl.constexpr,
    ACTIVATION: tl.constexpr,
    D: tl.constexpr,
    OPERAND: tl.constexpr,
    EMULATES: tl.constexpr,
    BLOCK: tl.constexpr,
    WITH_JETS: tl.constexpr,
):
    """Writes gradients by jets and weights of all frames; grid (programs a frame, T)."""
    frame = tl.program_id(1)
    own = weights + frame.to(tl.int64) * n_weights
    matrices = _matrices(
        own, N_INPUTS, N_NEURONS, N_OUTPUTS, N_HIDDEN, IN, HIDDEN, OUT, OPERAND, EMULATES
    )
    sums = ()
    for layer in tl.static_range(N_HIDDEN + 1):
        sums = sums + (tl.zeros(matrices[layer].shape, tl.float32),)
    factor = tl.load(scale)
    end = tl.load(offsets + frame + 1)
    row = tl.load(offsets + frame) + tl.program_id(0) * BLOCK
    while row < end:
        rows = row + tl.arange(0, BLOCK)
        parts = _input_parts(jets, rows, end, D, N_INPUTS, IN)
        inputs, hidden = (), ()
        for layer in tl.static_range(N_HIDDEN):
            inputs = inputs + (_operands(parts, OPERAND, EMULATES),)
            parts = _products(inputs[layer], matrices[layer])
            hidden = hidden + (parts,)
            parts = _activated_parts(parts, ACTIVATION)
        inputs = inputs + (_operands(parts, OPERAND, EMULATES),)
        slopes = ()
        for part in tl.static_range(1 + D):
            at, inside = _jets_at(rows, end, part, D, N_OUTPUTS, OUT)
            slopes = slopes + (tl.load(gradients + at, mask=inside, other=0.0) * factor,)
        backwards = ()
        for layer in tl.static_range(N_HIDDEN, -1, -1):
            rounded = _operands(slopes, OPERAND, EMULATES)
            total = sums[layer]
            for part in tl.static_range(1 + D):
                flipped = tl.trans(inputs[layer][part])
                total = tl.dot(flipped, rounded[part], total, input_precision="ieee")
            backwards = (total,) + backwards
            if layer > 0 or WITH_JETS:
                slopes = _products(rounded, tl.trans(matrices[layer]))
            if layer > 0:
                slopes = _activated_gradients(slopes, hidden[layer - 1], ACTIVATION)
        sums = backwards
        if WITH_JETS:
            for part in tl.static_range(1 + D):
                at, inside = _jets_at(rows, end, part, D, N_INPUTS, IN)
                tl.store(grad_jets + at, slopes[part] / factor, mask=inside)
        row += tl.num_programs(0) * BLOCK
    for layer in tl.static_range(N_HIDDEN + 1):
        at, inside = _layer_at(layer, N_INPUTS, N_NEURONS, N_OUTPUTS, N_HIDDEN, IN, HIDDEN, OUT)
        target = grad_weights + frame.to(tl.int64) * n_weights
        tl.atomic_add(target + at, sums[layer] / factor, mask=inside, sem="relaxed")
