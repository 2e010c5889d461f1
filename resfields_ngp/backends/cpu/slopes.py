"""The ResField MLP with the derivatives of its first output only, in half the arithmetic of jets.

One gradient takes a sweep down the network (reverse mode) where its three components would take
three sweeps up. Of a loss on that gradient g, with dL/dg = u, the derivative is that of the first
output's derivative along ``J u``, J being the inputs' Jacobian: one tangent, whatever u is. So the
backward pass is the one of jets with a single tangent.
"""

from __future__ import annotations

from functools import cache

import numba
import numpy as np
import torch
from numba import get_thread_id  # pyright: ignore[reportPrivateImportUsage] - documented
from torch import Tensor

from ...records import FrameSlices
from ..specs import MlpSpec
from .mlp import (
    ACTIVATIONS,
    N_CHUNKS,
    TILE_ROWS,
    backward_tile,
    matrix,
    scratch_of,
    transpose,
    transposed,
    value_and_slopes,
)
from .tiles import tiles_of


@numba.njit(inline="always")
def _gather(features, others, begin, every, rows):
    # Writes the samples' input values, padded with 1, to every so many rows.
    n_features, n_others = features.shape[2], others.shape[2]
    for m in range(rows.shape[0] // every):
        for j in range(n_features):
            rows[every * m, j] = features[begin + m, 0, j]
        for j in range(n_others):
            rows[every * m, n_features + j] = others[begin + m, 0, j]
        for j in range(n_features + n_others, rows.shape[1]):
            rows[every * m, j] = np.float32(1.0)


@numba.njit(inline="always")
def _contracted(jets, n, slopes, column, x, y, z):
    # Adds a sample's Jacobian times the slopes by its inputs.
    for j in range(jets.shape[2]):
        slope = slopes[column + j]
        x += jets[n, 1, j] * slope
        y += jets[n, 2, j] * slope
        z += jets[n, 3, j] * slope
    return x, y, z


@numba.njit(error_model="numpy")
def _activate(inputs, outputs, kind):
    # Turns the inputs, in place, into the slopes there.
    for m in range(inputs.shape[0]):
        for j in range(inputs.shape[1]):
            outputs[m, j], inputs[m, j], _ = value_and_slopes(inputs[m, j], kind)


@numba.njit(inline="always")
def _scale(rows, factors):
    # A loop: assignments between arrays compile, every time, the formatting of their errors.
    for m in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            rows[m, j] *= factors[m, j]


@numba.njit(inline="always")
def _scale_columns(rows, factors):
    for m in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            rows[m, j] *= factors[j]


@numba.njit(inline="always")
def _repeat(rows, row):
    for m in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            rows[m, j] = row[j]


@numba.njit(error_model="numpy")
def _slope_rows(kind, rows, weights, across, shapes, offsets, scratch, outputs, slopes):
    # Writes the outputs, and to slopes the gradient of the first one by the inputs.
    last, n_rows, hidden = shapes.shape[0] - 1, rows.shape[0], rows
    for layer in range(last):
        pre, after = scratch[layer][:n_rows], scratch[last + layer % 2][:n_rows]
        np.dot(hidden, transpose(across, shapes, offsets, layer), pre)
        _activate(pre, after, kind)
        hidden = after
    final = matrix(weights, shapes, offsets, last)
    np.dot(hidden, transpose(across, shapes, offsets, last), outputs)
    if last == 0:
        _repeat(slopes, final[0])
        return
    _scale_columns(scratch[last - 1][:n_rows], final[0])
    for layer in range(last - 1, 0, -1):
        down = scratch[last][:n_rows]
        np.dot(scratch[layer][:n_rows], matrix(weights, shapes, offsets, layer), down)
        _scale(scratch[layer - 1][:n_rows], down)
    np.dot(scratch[0][:n_rows], matrix(weights, shapes, offsets, 0), slopes)


@cache
def _forward_kernel(kind: int):
    """Returns the kernel for one activation."""

    @numba.njit(parallel=True, cache=True, error_model="numpy")
    def forward(
        features,
        others,
        tiles,
        weights,
        across,
        shapes,
        offsets,
        scratch,
        row_scratch,
        outputs,
        gradients,
    ):
        # As `Backend.sloped_mlp`: jets, and outputs (N, out) with gradients (N, D).
        n_features = features.shape[2]
        for k in numba.prange(tiles.shape[0]):
            begin, end, thread = tiles[k, 1], tiles[k, 2], get_thread_id()
            rows = row_scratch[thread, 0][: end - begin]
            slopes = row_scratch[thread, 1][: end - begin]
            _gather(features, others, begin, 1, rows)
            _slope_rows(
                kind,
                rows,
                weights[tiles[k, 0]],
                across[tiles[k, 0]],
                shapes,
                offsets,
                scratch[thread],
                outputs[begin:end],
                slopes,
            )
            for n in range(begin, end):
                row, zero = slopes[n - begin], np.float32(0.0)
                x, y, z = _contracted(features, n, row, 0, zero, zero, zero)
                x, y, z = _contracted(others, n, row, n_features, x, y, z)
                gradients[n, 0], gradients[n, 1], gradients[n, 2] = x, y, z

    return forward


@numba.njit(inline="always")
def _along(jets, n, pulls, row, column):
    # Writes the derivative of a sample's inputs along its pull.
    x, y, z = pulls[n, 0], pulls[n, 1], pulls[n, 2]
    for j in range(jets.shape[2]):
        row[column + j] = x * jets[n, 1, j] + y * jets[n, 2, j] + z * jets[n, 3, j]


@numba.njit(inline="always")
def _spread(grad_jets, n, pulls, value_row, slope_row, column):
    # The gradient by a sample's jets: by the value, and the pull times the slopes.
    x, y, z = pulls[n, 0], pulls[n, 1], pulls[n, 2]
    for j in range(grad_jets.shape[2]):
        slope = slope_row[column + j]
        grad_jets[n, 0, j] = value_row[column + j]
        grad_jets[n, 1, j], grad_jets[n, 2, j], grad_jets[n, 3, j] = x * slope, y * slope, z * slope


@cache
def _backward_kernel(kind: int):
    """Returns the kernel for one activation."""

    @numba.njit(parallel=True, cache=True, error_model="numpy")
    def backward(
        features,
        others,
        tiles,
        weights,
        across,
        shapes,
        offsets,
        scratch,
        row_scratch,
        grad_scratch,
        grad_outputs,
        pulls,
        grad_weights,
        grad_features,
        grad_others,
    ):
        # grad_weights (N_CHUNKS, T, P); grad_features and grad_others empty where not wanted
        n_features, n_outputs = features.shape[2], grad_outputs.shape[1]
        for chunk in numba.prange(grad_weights.shape[0]):
            thread = get_thread_id()
            for k in range(chunk, tiles.shape[0], grad_weights.shape[0]):
                i, begin, end = tiles[k, 0], tiles[k, 1], tiles[k, 2]
                rows = row_scratch[thread, 0][: 2 * (end - begin)]
                grad_rows = row_scratch[thread, 1][: 2 * (end - begin)]
                grads = grad_scratch[thread][: 2 * (end - begin)]
                _gather(features, others, begin, 2, rows)
                for n in range(begin, end):
                    m = 2 * (n - begin)
                    rows[m + 1] = np.float32(0.0)
                    _along(features, n, pulls, rows[m + 1], 0)
                    _along(others, n, pulls, rows[m + 1], n_features)
                    for j in range(grads.shape[1]):
                        grads[m, j] = grad_outputs[n, j] if j < n_outputs else np.float32(0.0)
                        grads[m + 1, j] = np.float32(0.0)
                    grads[m + 1, 0] = np.float32(1.0)
                backward_tile(
                    rows,
                    2,
                    kind,
                    weights[i],
                    across[i],
                    shapes,
                    offsets,
                    scratch[thread],
                    grads,
                    grad_weights[chunk, i],
                    grad_rows,
                )
                for n in range(begin, end):
                    m = 2 * (n - begin)
                    if grad_features.shape[0] > 0:
                        _spread(grad_features, n, pulls, grad_rows[m], grad_rows[m + 1], 0)
                    if grad_others.shape[0] > 0:
                        _spread(grad_others, n, pulls, grad_rows[m], grad_rows[m + 1], n_features)

    return backward


class SlopedMlp(torch.autograd.Function):
    """Forward keeps nothing but its inputs."""

    @staticmethod
    def forward(ctx, features, others, weights, slices, spec):
        arguments = _arguments(features, others, weights, slices, spec, 1)
        outputs = features.new_empty(features.shape[0], spec.shapes[-1][0])
        gradients = features.new_empty(features.shape[0], features.shape[1] - 1)
        kernel = _forward_kernel(ACTIVATIONS[spec.activation])
        kernel(*arguments, outputs.numpy(), gradients.numpy())
        ctx.save_for_backward(features, others, weights)
        ctx.slices, ctx.spec = slices, spec
        return outputs[:, : spec.n_outputs], gradients

    @staticmethod
    def backward(ctx, grad_outputs, pulls):  # pyright: ignore[reportIncompatibleMethodOverride]
        features, others, weights = ctx.saved_tensors
        arguments = _arguments(features, others, weights, ctx.slices, ctx.spec, 2)
        grad_weights = weights.new_zeros(N_CHUNKS, *weights.shape)
        by_inputs = [
            torch.empty_like(jets if is_wanted else jets[:0])
            for jets, is_wanted in zip((features, others), ctx.needs_input_grad, strict=False)
        ]
        _backward_kernel(ACTIVATIONS[ctx.spec.activation])(
            *arguments,
            scratch_of("grads", len(arguments[-1]), arguments[-1].shape[2], ctx.spec.shapes[-1][0]),
            grad_outputs.contiguous().numpy(),
            pulls.contiguous().numpy(),
            grad_weights.numpy(),
            *(jets.numpy() for jets in by_inputs),
        )
        wanted = zip(by_inputs, ctx.needs_input_grad, strict=False)
        by_features, by_others = (jets if is_wanted else None for jets, is_wanted in wanted)
        return by_features, by_others, grad_weights.sum(0), None, None


def _arguments(
    features: Tensor,
    others: Tensor,
    weights: Tensor,
    slices: FrameSlices,
    spec: MlpSpec,
    n_jet: int,
):
    """Returns what both kernels take first."""
    n_threads, n_hidden = numba.get_num_threads(), 3 + 2 * spec.n_hidden_layers
    return (
        features.detach().contiguous().numpy(),
        others.detach().contiguous().numpy(),
        tiles_of(slices, TILE_ROWS // n_jet),
        weights.detach().contiguous().numpy(),
        transposed(weights, spec),
        np.asarray(spec.shapes, np.int64),
        np.asarray(spec.offsets, np.int64),
        scratch_of("hidden", n_threads, n_hidden, TILE_ROWS, spec.n_neurons),
        scratch_of("rows", n_threads, 2, TILE_ROWS, spec.shapes[0][1]),
    )
