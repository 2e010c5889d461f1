"""The ResField MLP on a CPU: torch's matrix products on tiles that stay in cache, fused activations in numba.

The three tangents travel as further rows of the same matrix product, and the backward pass is written out:
nothing of autograd's bookkeeping, and every intermediate is touched once while it is warm. Each thread takes whole
tiles through all layers, so threads meet once per call and not once per matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numba
import numpy as np
import torch
from torch import Tensor

from ...records import FrameSlices
from ..base import ACTIVATION_SHARPNESS, MlpSpec, pad_inputs

TILE_ROWS = 1024
"""Rows per tile: 1024 x 4 x 64 floats are 1 MiB, half of a level-2 cache."""
Tile = tuple[int, int, int]
_ACTIVATIONS = {"relu": 0, "softplus": 1, "squareplus": 2}
_K = np.float32(ACTIVATION_SHARPNESS)


@numba.njit(inline="always", fastmath=True)
def _value_and_slopes(x, kind):
    """Returns sigma, sigma' and sigma'' at x."""
    zero, half, one, four = np.float32(0.0), np.float32(0.5), np.float32(1.0), np.float32(4.0)
    if kind == 2:
        scaled = _K * x
        squared = scaled * scaled + four
        inverse = one / np.sqrt(squared)
        value = half * (scaled + squared * inverse) / _K
        return value, half * (one + scaled * inverse), np.float32(2.0) * _K * inverse * inverse * inverse
    if kind == 1:
        scaled = _K * x
        decay = np.exp(-abs(scaled))
        value = (max(scaled, zero) + np.log1p(decay)) / _K
        slope = (one if scaled > zero else decay) / (one + decay)
        return value, slope, _K * slope * (one - slope)
    step = one if x > zero else zero
    return x * step, step, zero


@numba.njit(nogil=True, fastmath=True, cache=True)
def _activate(inputs, outputs, kind):
    # inputs, outputs (M, 1 + D, W)
    for m in range(inputs.shape[0]):
        for j in range(inputs.shape[2]):
            value, slope, _ = _value_and_slopes(inputs[m, 0, j], kind)
            outputs[m, 0, j] = value
            for d in range(1, inputs.shape[1]):
                outputs[m, d, j] = slope * inputs[m, d, j]


@numba.njit(nogil=True, fastmath=True, cache=True)
def _activate_backward(inputs, grads, kind):
    # Turns the gradient by sigma's outputs, in place, into the gradient by its inputs.
    for m in range(inputs.shape[0]):
        for j in range(inputs.shape[2]):
            _, slope, curvature = _value_and_slopes(inputs[m, 0, j], kind)
            gradient = slope * grads[m, 0, j]
            for d in range(1, inputs.shape[1]):
                gradient += curvature * inputs[m, d, j] * grads[m, d, j]
                grads[m, d, j] *= slope
            grads[m, 0, j] = gradient


class _Mlp(torch.autograd.Function):
    """Forward and backward of all frames' networks, tile by tile."""

    @staticmethod
    def forward(ctx, jets: Tensor, weights: Tensor, slices: FrameSlices, spec: MlpSpec) -> Tensor:
        n_rows, n_jet = jets.shape[:2]
        kind = _ACTIVATIONS[spec.activation]
        outputs = jets.new_empty(n_rows, n_jet, spec.shapes[-1][0])
        saved = [jets.new_empty(n_rows, n_jet, shape[0]) for shape in spec.shapes[:-1]]
        hiddens = [torch.empty_like(pre) for pre in saved]

        def run(worker: int, tile: Tile) -> None:
            i, begin, end = tile
            matrices = _matrices(weights[i], spec)
            rows = jets[begin:end]
            for layer, matrix in enumerate(matrices[:-1]):
                pre, hidden = saved[layer][begin:end], hiddens[layer][begin:end]
                torch.mm(_flat(rows), matrix.T, out=_flat(pre))
                _activate(pre.numpy(), hidden.numpy(), kind)
                rows = hidden
            torch.mm(_flat(rows), matrices[-1].T, out=_flat(outputs[begin:end]))

        _share_out(slices, run)
        ctx.save_for_backward(jets, weights, *saved, *hiddens)
        ctx.slices, ctx.spec = slices, spec
        return outputs

    @staticmethod
    def backward(ctx, grad_outputs: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        jets, weights, *rest = ctx.saved_tensors
        spec, n_hidden = ctx.spec, ctx.spec.n_hidden_layers
        saved, hiddens = rest[:n_hidden], rest[n_hidden:]
        kind = _ACTIVATIONS[spec.activation]
        grad_outputs = grad_outputs.contiguous()
        # One gradient a thread, added up in order, so that the result does not depend on timing.
        grad_weights = weights.new_zeros(torch.get_num_threads(), *weights.shape)
        grad_jets = torch.empty_like(jets) if ctx.needs_input_grad[0] else None

        def run(worker: int, tile: Tile) -> None:
            i, begin, end = tile
            matrices, grad_matrices = _matrices(weights[i], spec), _matrices(grad_weights[worker, i], spec)
            grads = grad_outputs[begin:end]
            for layer in range(n_hidden, 0, -1):
                grad_matrices[layer].addmm_(_flat(grads).T, _flat(hiddens[layer - 1][begin:end]))
                pre = saved[layer - 1][begin:end]
                grads = torch.mm(_flat(grads), matrices[layer]).view(pre.shape)
                _activate_backward(pre.numpy(), grads.numpy(), kind)
            grad_matrices[0].addmm_(_flat(grads).T, _flat(jets[begin:end]))
            if grad_jets is not None:
                torch.mm(_flat(grads), matrices[0], out=_flat(grad_jets[begin:end]))

        _share_out(ctx.slices, run)
        return grad_jets, grad_weights.sum(0), None, None


def mlp(
    jets: Tensor,  # (N, 1 + D, n_inputs)
    slices: FrameSlices,
    weights: Tensor,  # (T, P)
    spec: MlpSpec,
) -> Tensor:
    """See `Backend.mlp`."""
    padded = pad_inputs(jets, spec.shapes[0][1]).contiguous()
    if torch.is_grad_enabled() and (padded.requires_grad or weights.requires_grad):
        outputs: Tensor = _Mlp.apply(padded, weights.contiguous(), slices, spec)  # pyright: ignore
    else:
        outputs = _infer(padded, weights.detach(), slices, spec)
    return outputs[:, :, : spec.n_outputs]


def _infer(jets: Tensor, weights: Tensor, slices: FrameSlices, spec: MlpSpec) -> Tensor:
    """The forward pass alone, in two reused buffers a tile."""
    kind = _ACTIVATIONS[spec.activation]
    outputs = jets.new_empty(jets.shape[0], jets.shape[1], spec.shapes[-1][0])
    jets = jets.detach()

    def run(worker: int, tile: Tile) -> None:
        i, begin, end = tile
        matrices = _matrices(weights[i], spec)
        rows = jets[begin:end]
        for matrix in matrices[:-1]:
            rows = torch.mm(_flat(rows), matrix.T).view(end - begin, jets.shape[1], -1)
            _activate(rows.numpy(), rows.numpy(), kind)
        torch.mm(_flat(rows), matrices[-1].T, out=_flat(outputs[begin:end]))

    _share_out(slices, run)
    return outputs


@cache
def _pool(n_threads: int) -> ThreadPoolExecutor:
    """Threads whose own matrix products are single-threaded."""
    return ThreadPoolExecutor(n_threads, initializer=torch.set_num_threads, initargs=(1,))


def _share_out(slices: FrameSlices, run: Callable[[int, Tile], None]) -> None:
    """Calls ``run(worker, tile)`` for every tile; worker w of W takes tiles w, w + W, .. in order."""
    tiles, n_workers = list(_tiles(slices)), torch.get_num_threads()

    def work(worker: int) -> None:
        with torch.no_grad():
            for tile in tiles[worker::n_workers]:
                run(worker, tile)

    if n_workers == 1 or len(tiles) < 2:
        for k, tile in enumerate(tiles):
            run(k % n_workers, tile)
    else:
        list(_pool(n_workers).map(work, range(n_workers)))


def _tiles(slices: FrameSlices):
    """Yields ``(i, begin, end)`` of tiles of at most `TILE_ROWS` rows of one frame."""
    for i, begin, end in slices:
        for start in range(begin, end, TILE_ROWS):
            yield i, start, min(start + TILE_ROWS, end)


def _matrices(weights: Tensor, spec: MlpSpec) -> list[Tensor]:
    """Returns the layers' matrices as views of one flat vector."""
    offsets = spec.offsets
    return [weights[offsets[k] : offsets[k + 1]].view(shape) for k, shape in enumerate(spec.shapes)]


def _flat(jets: Tensor) -> Tensor:
    """Returns (N, 1 + D, F) as rows of one matrix."""
    return jets.view(-1, jets.shape[-1])
