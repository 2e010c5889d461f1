"""What the backward kernels of ResField MLPs are made of: a tile's parts go through side by side.

Vocabulary
    columns  a tile's parts beside one another, (F, PARTS * BLOCK), part by part: each layer is one
             product ``W x`` for all of them, each weight gradient one for all. Threads own rows of
             neurons and all parts of a column's place, so that what an activation does to
             tangents, and tangents to their values, stays in a thread.
    factor   what gradients are multiplied with while they are operands; a power of two that falls
             whenever a program meets larger gradients than before, and its sums with it.

The rest: `layer_kernels`. Products are kept, as float32, from a tile's way forth until its way
back; tensor cores take operands from shared memory, where each is laid down once.
"""

from __future__ import annotations

import math

import triton
import triton.language as tl

from ..half import LARGEST_GRADIENT
from .layer_kernels import activated, layer_matrix, matrix_at, operand

_LOG_LARGEST = tl.constexpr(math.log2(LARGEST_GRADIENT))


@triton.jit
def columns_at(
    n_rows,
    D: tl.constexpr,
    N: tl.constexpr,
    WIDE: tl.constexpr,
    PARTS: tl.constexpr,
    BLOCK: tl.constexpr,
    BEFORE: tl.constexpr = 0,
):
    """Where PARTS parts of a tile's (BLOCK, 1 + D, N) jets lie, (WIDE, PARTS * BLOCK), and what is.

    BEFORE counts the rows that come before the jets' own.
    """
    places, columns = tl.arange(0, WIDE) - BEFORE, tl.arange(0, PARTS * BLOCK)
    rows, parts = columns % BLOCK, columns // BLOCK
    inside = ((places >= 0) & (places < N))[:, None] & (rows < n_rows)[None, :]
    return places[:, None] + ((rows * (1 + D) + parts) * N)[None, :], inside


@triton.jit
def is_value(PARTS: tl.constexpr):
    """Returns (1, PARTS, 1), true for the values among a tile's parts."""
    return (tl.arange(0, PARTS) == 0)[None, :, None]


@triton.jit
def by_part(columns, PARTS: tl.constexpr, BLOCK: tl.constexpr):
    """Returns columns, (F, PARTS * BLOCK), as (F, PARTS, BLOCK)."""
    return tl.reshape(columns, (columns.shape[0], PARTS, BLOCK))


@triton.jit
def as_columns(parts, PARTS: tl.constexpr, BLOCK: tl.constexpr):
    """Undoes `by_part`."""
    return tl.reshape(parts, (parts.shape[0], PARTS * BLOCK))


@triton.jit
def values_of(parts, PARTS: tl.constexpr):
    """Returns the values, (F, 1, BLOCK), among parts (F, PARTS, BLOCK)."""
    return tl.sum(tl.where(is_value(PARTS), parts, 0.0), axis=1, keep_dims=True)


@triton.jit
def gradient_scale(largest, OPERAND: tl.constexpr):
    """Returns what gradients of this magnitude are multiplied with; see `half.gradient_scale`."""
    if OPERAND == tl.float16:
        room = tl.log2(tl.maximum(largest, 1e-30)) * -1.0 + _LOG_LARGEST
        factor = tl.exp2(tl.minimum(tl.maximum(tl.floor(room), -100.0), 100.0))
    else:
        factor = tl.full((), 1.0, tl.float32)
    return factor


@triton.jit
def no_sums(WIDTHS: tl.constexpr, LAYERS: tl.constexpr):
    """Returns zeros in the shapes of the matrices' gradients: neurons first."""
    sums = ()
    for layer in tl.static_range(LAYERS + 1):
        places = matrix_at(layer, WIDTHS, LAYERS)[0]
        if layer < LAYERS:
            places = tl.trans(places)
        sums = sums + (tl.zeros_like(places).to(tl.float32),)
    return sums


@triton.jit
def rescaled(sums, factor, wanted, LAYERS: tl.constexpr):
    """Returns sums and their factor, where the next tile's gradients want a smaller one by that."""
    if wanted < factor:
        lower = ()
        for layer in tl.static_range(LAYERS + 1):
            lower = lower + (sums[layer] * (wanted / factor),)
        sums, factor = lower, wanted
    return sums, factor


@triton.jit
def add_sums(target, sums, factor, WIDTHS: tl.constexpr, LAYERS: tl.constexpr):
    """Adds sums over their factor to a frame's flat gradient."""
    for layer in tl.static_range(LAYERS + 1):
        at, inside = matrix_at(layer, WIDTHS, LAYERS)
        if layer < LAYERS:
            at, inside = tl.trans(at), tl.trans(inside)
        tl.atomic_add(target + at, sums[layer] * (1.0 / factor), mask=inside, sem="relaxed")


@triton.jit
def led_on_columns(
    x,
    held,
    weights,
    PARTS: tl.constexpr,
    WIDTHS: tl.constexpr,
    LAYERS: tl.constexpr,
    ACTIVATION: tl.constexpr,
    OPERAND: tl.constexpr,
    EMULATES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Leads a tile, (inputs, PARTS * BLOCK), through the hidden layers.

    Returns:
        What each layer takes; products before each activation.
    """
    inputs, products = (x,), ()
    for layer in tl.static_range(LAYERS):
        matrix = tl.trans(layer_matrix(held, weights, layer, WIDTHS, LAYERS, OPERAND, EMULATES))
        product = tl.dot(matrix, x, input_precision="ieee")
        products = products + (product,)
        if PARTS > 1:
            parts = by_part(product, PARTS, BLOCK)
            outputs, slopes, _ = activated(values_of(parts, PARTS), ACTIVATION)
            led = as_columns(tl.where(is_value(PARTS), outputs, slopes * parts), PARTS, BLOCK)
        else:
            led, _, _ = activated(product, ACTIVATION)
        x = operand(led, OPERAND, EMULATES)
        inputs = inputs + (x,)
    return inputs, products


@triton.jit
def led_back(
    inputs,
    products,
    gradients,
    held,
    weights,
    sums,
    PARTS: tl.constexpr,
    WIDTHS: tl.constexpr,
    LAYERS: tl.constexpr,
    ACTIVATION: tl.constexpr,
    OPERAND: tl.constexpr,
    EMULATES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Leads a tile's gradient by the outputs, (outputs, PARTS * BLOCK), back to the first matrix.

    Of a hidden layer ``sigma(z), sigma'(z) dz`` the gradients g, dg by its outputs become
    ``g sigma'(z) + sum dg sigma''(z) dz`` and ``dg sigma'(z)``.

    Returns:
        Gradient by what the first matrix gives, and `sums` (by the others) with this tile's.
    """
    new_sums = ()
    for layer in tl.static_range(LAYERS, 0, -1):
        rounded = operand(gradients, OPERAND, EMULATES)
        new_sums = (_added(sums[layer], inputs[layer], rounded, layer == LAYERS),) + new_sums
        matrix = layer_matrix(held, weights, layer, WIDTHS, LAYERS, OPERAND, EMULATES)
        gradients = tl.dot(matrix, rounded, input_precision="ieee")
        if PARTS > 1:
            parts = by_part(products[layer - 1], PARTS, BLOCK)
            _, slopes, bends = activated(values_of(parts, PARTS), ACTIVATION)
            pulled = by_part(gradients, PARTS, BLOCK)
            bent = tl.where(is_value(PARTS), 0.0, pulled * parts)
            bent = tl.sum(bent, axis=1, keep_dims=True) * bends
            pulled = pulled * slopes + tl.where(is_value(PARTS), bent, 0.0)
            gradients = as_columns(pulled, PARTS, BLOCK)
        else:
            _, slopes, _ = activated(products[layer - 1], ACTIVATION)
            gradients = gradients * slopes
    return gradients, (sums[0],) + new_sums


@triton.jit
def _added(own_sum, inputs, gradients, IS_LAST: tl.constexpr):
    """Returns a matrix's sum with what a tile's inputs and gradients give, both operands."""
    if IS_LAST:
        own_sum = tl.dot(inputs, tl.trans(gradients), own_sum, input_precision="ieee")
    else:
        own_sum = tl.dot(gradients, tl.trans(inputs), own_sum, input_precision="ieee")
    return own_sum


@triton.jit
def led_out(
    inputs,
    gradients,
    held,
    weights,
    sums,
    WITH_JETS: tl.constexpr,
    WIDTHS: tl.constexpr,
    LAYERS: tl.constexpr,
    OPERAND: tl.constexpr,
    EMULATES: tl.constexpr,
):
    """Leads a tile's gradient through the first matrix back.

    Returns:
        Gradient by the inputs, (inputs, PARTS * BLOCK), and `sums` with this tile's.
    """
    rounded = operand(gradients, OPERAND, EMULATES)
    new_sums = (_added(sums[0], inputs[0], rounded, LAYERS == 0),)
    for layer in tl.static_range(LAYERS):
        new_sums = new_sums + (sums[layer + 1],)
    if WITH_JETS:
        matrix = layer_matrix(held, weights, 0, WIDTHS, LAYERS, OPERAND, EMULATES)
        gradients = tl.dot(matrix, rounded, input_precision="ieee")
    return gradients, new_sums
