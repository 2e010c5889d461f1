"""The ResField MLP on a CPU: every tile of rows runs through all layers while it is in cache.

Threads share out whole tiles and meet once a call, so a busy machine does not make them wait for
each other at every matrix. Matrix products are BLAS calls, one thread each. The three tangents
travel as further rows of the same product, and the backward pass is written out: it runs each tile
forward again instead of storing hidden layers, which would cost more in memory traffic.
"""

from __future__ import annotations

from functools import cache

import numba
import numpy as np
import scipy.linalg.cython_blas  # noqa: F401 - the BLAS that numba calls; it has to be there to be limited
import torch
from numba import get_thread_id  # pyright: ignore[reportPrivateImportUsage] - documented
from threadpoolctl import threadpool_limits
from torch import Tensor

from ...records import FrameSlices
from ..specs import ACTIVATION_SHARPNESS, MlpSpec, pad_inputs
from .tiles import tiles_of

TILE_ROWS = 256
"""Rows of a tile's matrices, tangents included: with more, BLAS takes twice as long for each."""
N_CHUNKS = 16
"""Pieces of a backward pass, each with its own weight gradient; constant, so that sums are."""
ACTIVATIONS = {"relu": 0, "softplus": 1, "squareplus": 2}
_K = np.float32(ACTIVATION_SHARPNESS)


@numba.njit(inline="always", error_model="numpy")
def value_and_slopes(x, kind):
    """Returns sigma, sigma' and sigma'' at x."""
    zero, half, one, four = np.float32(0.0), np.float32(0.5), np.float32(1.0), np.float32(4.0)
    if kind == 2:
        scaled = _K * x
        squared = scaled * scaled + four
        inverse = one / np.sqrt(squared)
        value = half * (scaled + squared * inverse) / _K
        return (
            value,
            half * (one + scaled * inverse),
            np.float32(2.0) * _K * inverse * inverse * inverse,
        )
    if kind == 1:
        scaled = _K * x
        decay = np.exp(-abs(scaled))
        value = (max(scaled, zero) + np.log1p(decay)) / _K
        slope = (one if scaled > zero else decay) / (one + decay)
        return value, slope, _K * slope * (one - slope)
    step = one if x > zero else zero
    return x * step, step, zero


@numba.njit(inline="always")
def matrix(weights, shapes, offsets, layer):
    """Returns one layer's [out, in] matrix as a view of the flat weights."""
    return weights[offsets[layer] : offsets[layer + 1]].reshape(shapes[layer, 0], shapes[layer, 1])


@numba.njit(inline="always")
def transpose(across, shapes, offsets, layer):
    """Returns the [in, out] transpose from those that `transposed` returned."""
    return across[offsets[layer] : offsets[layer + 1]].reshape(shapes[layer, 1], shapes[layer, 0])


@numba.njit(error_model="numpy")
def _activate(inputs, outputs, slopes, n_jet, kind):
    # Rows n_jet * m hold values, the n_jet - 1 rows after each its tangents.
    for m in range(0, inputs.shape[0], n_jet):
        for j in range(inputs.shape[1]):
            outputs[m, j], slopes[j], _ = value_and_slopes(inputs[m, j], kind)
        for d in range(1, n_jet):
            for j in range(inputs.shape[1]):
                outputs[m + d, j] = slopes[j] * inputs[m + d, j]


@numba.njit(error_model="numpy")
def _activate_backward(inputs, grads, slopes, curvatures, n_jet, kind):
    # Turns the gradient by sigma's outputs, in place, into the gradient by its inputs.
    for m in range(0, inputs.shape[0], n_jet):
        for j in range(inputs.shape[1]):
            _, slopes[j], curvatures[j] = value_and_slopes(inputs[m, j], kind)
        for j in range(inputs.shape[1]):
            grads[m, j] *= slopes[j]
        for d in range(1, n_jet):
            for j in range(inputs.shape[1]):
                grads[m, j] += curvatures[j] * inputs[m + d, j] * grads[m + d, j]
                grads[m + d, j] *= slopes[j]


@numba.njit(error_model="numpy")
def _forward_tile(rows, n_jet, kind, across, shapes, offsets, scratch, outputs):
    # Not in place: LLVM computes on vectors only where arrays do not overlap.
    last, hidden = shapes.shape[0] - 1, rows
    pre, after = scratch[0][: rows.shape[0]], scratch[1][: rows.shape[0]]
    for layer in range(last):
        np.dot(hidden, transpose(across, shapes, offsets, layer), pre)
        _activate(pre, after, scratch[2][0], n_jet, kind)
        hidden = after
    np.dot(hidden, transpose(across, shapes, offsets, last), outputs)


@numba.njit(inline="always")
def _add(total, offset, values):
    # A loop: `+=` between arrays compiles, every time, the formatting of its errors.
    for m in range(values.shape[0]):
        for j in range(values.shape[1]):
            total[offset + m * values.shape[1] + j] += values[m, j]


@numba.njit(error_model="numpy")
def backward_tile(
    rows, n_jet, kind, weights, across, shapes, offsets, scratch, grads, grad_weights, grad_rows
):
    # scratch: two rows of slopes, then the inputs and the outputs of each activation
    last, n_rows, slopes = shapes.shape[0] - 1, rows.shape[0], scratch[0]
    hidden = rows
    for layer in range(last):
        pre = scratch[1 + layer][:n_rows]
        np.dot(hidden, transpose(across, shapes, offsets, layer), pre)
        hidden = scratch[1 + last + layer][:n_rows]
        _activate(pre, hidden, slopes[0], n_jet, kind)
    for layer in range(last, -1, -1):
        inputs = rows if layer == 0 else scratch[last + layer][:n_rows]
        _add(grad_weights, offsets[layer], np.dot(grads.T, inputs))
        if layer > 0:
            # The layer's input has served; its gradient takes its place.
            np.dot(grads, matrix(weights, shapes, offsets, layer), inputs)
            grads = inputs
            _activate_backward(scratch[layer][:n_rows], grads, slopes[0], slopes[1], n_jet, kind)
        elif grad_rows.shape[0] > 0:
            np.dot(grads, matrix(weights, shapes, offsets, 0), grad_rows)


@cache
def _forward_kernel(kind: int):
    """Returns the kernel for one activation.

    Its kind is a constant, so that what others would compute is neither compiled nor called.
    """

    @numba.njit(parallel=True, cache=True, error_model="numpy")
    def forward(rows, n_jet, tiles, weights, across, shapes, offsets, scratch, outputs):
        # rows (N * n_jet, in); tiles (n, 3): distinct frame, begin, end; weights and across (T, P)
        for k in numba.prange(tiles.shape[0]):
            begin, end = tiles[k, 1] * n_jet, tiles[k, 2] * n_jet
            own = scratch[get_thread_id()]
            _forward_tile(
                rows[begin:end],
                n_jet,
                kind,
                across[tiles[k, 0]],
                shapes,
                offsets,
                own,
                outputs[begin:end],
            )

    return forward


@cache
def _backward_kernel(kind: int):
    """Returns the kernel for one activation."""

    @numba.njit(parallel=True, cache=True, error_model="numpy")
    def backward(
        rows,
        n_jet,
        tiles,
        weights,
        across,
        shapes,
        offsets,
        scratch,
        grad_outputs,
        grad_weights,
        grad_rows,
    ):
        # grad_weights (N_CHUNKS, T, P); grad_rows as rows, or empty where it is not wanted
        for chunk in numba.prange(grad_weights.shape[0]):
            own = scratch[get_thread_id()]
            for k in range(chunk, tiles.shape[0], grad_weights.shape[0]):
                i, begin, end = tiles[k, 0], tiles[k, 1] * n_jet, tiles[k, 2] * n_jet
                backward_tile(
                    rows[begin:end],
                    n_jet,
                    kind,
                    weights[i],
                    across[i],
                    shapes,
                    offsets,
                    own,
                    grad_outputs[begin:end],
                    grad_weights[chunk, i],
                    grad_rows[begin:end],
                )

    return backward


class _Mlp(torch.autograd.Function):
    """Forward keeps nothing but its input."""

    @staticmethod
    def forward(ctx, jets: Tensor, weights: Tensor, slices: FrameSlices, spec: MlpSpec) -> Tensor:
        ctx.save_for_backward(jets, weights)
        ctx.slices, ctx.spec = slices, spec
        return _infer(jets, weights, slices, spec)

    @staticmethod
    def backward(ctx, grad_outputs: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        jets, weights = ctx.saved_tensors
        # A torch tensor, not an array: MKL's rounding depends on alignment, and torch aligns alike.
        grad_weights = weights.new_zeros(N_CHUNKS, *weights.shape)
        grad_jets = torch.empty_like(jets if ctx.needs_input_grad[0] else jets[:0])
        _backward_kernel(ACTIVATIONS[ctx.spec.activation])(
            *_arguments(jets, weights, ctx.slices, ctx.spec),
            _rows(grad_outputs.contiguous()),
            grad_weights.numpy(),
            _rows(grad_jets),
        )
        grads = grad_weights.sum(0)
        return grad_jets if ctx.needs_input_grad[0] else None, grads, None, None


def mlp(
    jets: Tensor,  # (N, 1 + D, n_inputs)
    slices: FrameSlices,
    weights: Tensor,  # (T, P)
    spec: MlpSpec,
) -> Tensor:
    """See `Backend.mlp`."""
    padded = pad_inputs(jets, spec.shapes[0][1]).contiguous()
    outputs: Tensor = _Mlp.apply(padded, weights.contiguous(), slices, spec)  # pyright: ignore
    return outputs[:, :, : spec.n_outputs]


def use_single_threaded_blas() -> None:
    """Makes BLAS calls run on the thread that makes them; the kernels bring their own threads."""
    threadpool_limits(1, "blas")


def _infer(jets: Tensor, weights: Tensor, slices: FrameSlices, spec: MlpSpec) -> Tensor:
    outputs = jets.new_empty(jets.shape[0], jets.shape[1], spec.shapes[-1][0])
    kernel = _forward_kernel(ACTIVATIONS[spec.activation])
    kernel(*_arguments(jets, weights, slices, spec), _rows(outputs))
    return outputs


def _arguments(jets: Tensor, weights: Tensor, slices: FrameSlices, spec: MlpSpec):
    """Returns what both kernels take first."""
    return (
        _rows(jets),
        jets.shape[1],
        tiles_of(slices, TILE_ROWS // jets.shape[1]),
        weights.detach().numpy(),
        transposed(weights, spec),
        np.asarray(spec.shapes, np.int64),
        np.asarray(spec.offsets, np.int64),
        scratch_of(
            "hidden",
            numba.get_num_threads(),
            3 + 2 * spec.n_hidden_layers,
            TILE_ROWS,
            spec.n_neurons,
        ),
    )


def transposed(weights: Tensor, spec: MlpSpec) -> np.ndarray:  # (T, P)
    """Returns the weights with every matrix transposed: BLAS is slow to do so in thin products."""
    matrices = zip(weights.detach().split(spec.sizes, dim=1), spec.shapes, strict=True)
    across = [part.unflatten(1, shape).mT.flatten(1) for part, shape in matrices]
    return torch.cat(across, dim=1).numpy()


@cache
def scratch_of(purpose: str, *shape: int) -> np.ndarray:
    """Returns working memory that is kept: fresh pages cost more than the arithmetic in them."""
    return np.empty(shape, np.float32)


def _rows(jets: Tensor) -> np.ndarray:
    """Returns (N, 1 + D, F) as rows of one matrix."""
    return jets.detach().view(-1, jets.shape[-1]).numpy()
