"""What the kernels of ResField MLPs are made of: matrices, activations, a tile's way forth.

Vocabulary
    tile     BLOCK rows of one frame; a program walks several tiles of its frame.
    part     a tile's values (0) or, where D = 3, one of its three tangents: a matrix (BLOCK, F).
    OPERAND  what the tensor cores multiply; sums are float32. EMULATES: the interpreter cannot
             multiply bfloat16, so it multiplies rounded float32.
    WIDTHS   inputs, neurons, outputs as they are, then the same up to powers of two, as tiles must
             be (what is beyond is zero); LAYERS counts the hidden ones.
    STAY     whether the frame's matrices stay on the chip, or come from the cache each time.

Nothing between input and output touches device memory: the frame's weights stay on the chip, and
the backward pass computes the hidden layers again instead of reading them back. Loops are `while`:
the interpreter's `range` fails with numpy 2.4.
"""

from __future__ import annotations

import triton
import triton.language as tl

from ..specs import ACTIVATION_SHARPNESS

_K = tl.constexpr(ACTIVATION_SHARPNESS)
_HALF_MAX = tl.constexpr(65504.0)


@triton.jit
def operand(x, OPERAND: tl.constexpr, EMULATES: tl.constexpr):
    """Rounds to the operands' type; float16 saturates, NaN stays NaN."""
    rounded = x.to(OPERAND)
    if OPERAND == tl.float16:
        most = tl.full(x.shape, _HALF_MAX, OPERAND)
        rounded = tl.clamp(rounded, -most, most, tl.PropagateNan.ALL)
    return rounded.to(tl.float32) if EMULATES else rounded


@triton.jit
def value_operand(inputs, WIDTHS: tl.constexpr, OPERAND: tl.constexpr, EMULATES: tl.constexpr):
    """Rounds a tile's input values; what pads them is 1, as tiny-cuda-nn has it."""
    is_padding = (tl.arange(0, WIDTHS[3]) >= WIDTHS[0])[None, :]
    return operand(tl.where(is_padding, 1.0, inputs), OPERAND, EMULATES)


@triton.jit
def activated(values, ACTIVATION: tl.constexpr):
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
        squares = values * values + 4.0 / (_K * _K)
        inverse = tl.rsqrt(squares)
        curvatures = inverse * inverse * inverse * (2.0 / (_K * _K))
        return 0.5 * (values + squares * inverse), 0.5 + 0.5 * values * inverse, curvatures


@triton.jit
def matrix_at(layer: tl.constexpr, WIDTHS: tl.constexpr, LAYERS: tl.constexpr):
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
def _loaded(
    weights,
    layer: tl.constexpr,
    WIDTHS: tl.constexpr,
    LAYERS: tl.constexpr,
    OPERAND: tl.constexpr,
    EMULATES: tl.constexpr,
):
    """Loads a layer's matrix, (inputs, outputs), as it is multiplied."""
    at, inside = matrix_at(layer, WIDTHS, LAYERS)
    matrix = tl.load(weights + at, mask=inside, other=0.0)
    if matrix.dtype != OPERAND:
        matrix = operand(matrix, OPERAND, EMULATES)
    return matrix


@triton.jit
def load_matrices(
    weights,
    STAY: tl.constexpr,
    WIDTHS: tl.constexpr,
    LAYERS: tl.constexpr,
    OPERAND: tl.constexpr,
    EMULATES: tl.constexpr,
):
    """Loads a frame's matrices, each (inputs, outputs); none where they do not stay."""
    matrices = ()
    if STAY:
        for layer in tl.static_range(LAYERS + 1):
            matrices = matrices + (_loaded(weights, layer, WIDTHS, LAYERS, OPERAND, EMULATES),)
    return matrices


@triton.jit
def layer_matrix(
    held,
    weights,
    layer: tl.constexpr,
    WIDTHS: tl.constexpr,
    LAYERS: tl.constexpr,
    OPERAND: tl.constexpr,
    EMULATES: tl.constexpr,
):
    """Returns a layer's matrix: one of those that stay, or from the cache."""
    if len(held):
        matrix = held[layer]
    else:
        matrix = _loaded(weights, layer, WIDTHS, LAYERS, OPERAND, EMULATES)
    return matrix


@triton.jit
def part_at(
    n_rows,
    part,
    D: tl.constexpr,
    N: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK: tl.constexpr,
    BEFORE: tl.constexpr = 0,
):
    """Where one part of a tile's (BLOCK, 1 + D, N) jets lies, (BLOCK, WIDE), and what exists.

    BEFORE counts the columns of the tile that come before the jets' own.
    """
    rows, columns = tl.arange(0, BLOCK), tl.arange(0, WIDE) - BEFORE
    inside = (rows < n_rows)[:, None] & ((columns >= 0) & (columns < N))[None, :]
    return (rows[:, None] * (1 + D) + part) * N + columns[None, :], inside


@triton.jit
def led_on(
    x,
    held,
    weights,
    WIDTHS: tl.constexpr,
    LAYERS: tl.constexpr,
    ACTIVATION: tl.constexpr,
    OPERAND: tl.constexpr,
    EMULATES: tl.constexpr,
):
    """Leads a tile's values through the hidden layers.

    Returns:
        What the last layer takes; slopes at each activation.
    """
    slopes = ()
    for layer in tl.static_range(LAYERS):
        matrix = layer_matrix(held, weights, layer, WIDTHS, LAYERS, OPERAND, EMULATES)
        outputs, slope, _ = activated(tl.dot(x, matrix, input_precision="ieee"), ACTIVATION)
        slopes = slopes + (slope,)
        x = operand(outputs, OPERAND, EMULATES)
    return x, slopes
