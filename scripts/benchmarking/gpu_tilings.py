"""Ways to share a frame's rows among programs, measured: what `tilings_of` had best return.

More than a launch tries by itself; fewer registers a thread make room for more programs on a
multiprocessor, until they spill.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from resfields_ngp.backends import MlpSpec
from resfields_ngp.backends.triton import TritonBackend
from resfields_ngp.backends.triton.tilings import Tiling
from resfields_ngp.records import FrameSlices

from .gpu_kernels import guarded
from .gpu_timing import milliseconds, recorded_milliseconds

# The package gives the function of this name.
_MLP = importlib.import_module("resfields_ngp.backends.triton.mlp")

GEOMETRY, COLOUR = MlpSpec(27, 16, 64, 1), MlpSpec(15, 3, 64, 1)
"""The networks of a NeuS at its defaults."""
N_FEATURES = 24
"""Inputs of the first one that come from the grid."""
CANDIDATES = (
    Tiling(16, 4, None, 2),
    Tiling(16, 4, None, 4),
    Tiling(16, 4, 168, 3),
    Tiling(16, 4, 168, 6),
    Tiling(16, 4, 128, 8),
    Tiling(16, 4, 128, 8, holds_weights=False),
    Tiling(16, 8, 128, 4),
    Tiling(16, 8, 80, 6),
    Tiling(32, 4, None, 2),
    Tiling(32, 4, 168, 3),
    Tiling(64, 4, None, 2),
    Tiling(32, 8, None, 2),
    Tiling(32, 8, 128, 4),
    Tiling(16, 1, None, 16, is_tall=True),
    Tiling(32, 2, None, 8, is_tall=True),
    Tiling(64, 4, None, 4, is_tall=True),
    Tiling(64, 4, 168, 6, is_tall=True),
    Tiling(128, 8, None, 2, is_tall=True),
)
SIZE, FRAMES = 1 << 18, 4
"""Rows, and frames that share them."""


def tilings(device: torch.device, small: bool) -> Iterator[dict[str, Any]]:
    """Yields ms of both networks, forward and backward, for each way to share the rows."""
    backend = TritonBackend(device)
    for name, (run, leaves) in _networks(backend, device, 64 if small else SIZE).items():
        for tiling in CANDIDATES[:2] if small else CANDIDATES:

            def taken(run=run, leaves=leaves, tiling=tiling) -> dict[str, Any]:
                with mock.patch.object(_MLP, "tilings_of", lambda *_, **__: (tiling,)):
                    return _taken(run, leaves, device, small)

            yield guarded({"network": name} | asdict(tiling), taken)


def _networks(
    backend: TritonBackend, device: torch.device, n_rows: int
) -> dict[str, tuple[Callable, list[Tensor]]]:
    """Returns each network as a function of its differentiable inputs, and those."""
    generator = torch.Generator().manual_seed(0)
    slices = FrameSlices.even(tuple(range(FRAMES)), n_rows // FRAMES)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device)

    others = normal(n_rows, 4, GEOMETRY.n_inputs - N_FEATURES)

    def geometry(features: Tensor, weights: Tensor) -> tuple[Tensor, ...]:
        return backend.sloped_mlp(features, others, slices, weights, GEOMETRY)

    def colour(jets: Tensor, weights: Tensor) -> tuple[Tensor, ...]:
        return (backend.mlp(jets, slices, weights, COLOUR),)

    return {
        "geometry": (
            geometry,
            [normal(n_rows, 4, N_FEATURES), 0.1 * normal(FRAMES, GEOMETRY.n_weights)],
        ),
        "colour": (
            colour,
            [normal(n_rows, 1, COLOUR.n_inputs), 0.1 * normal(FRAMES, COLOUR.n_weights)],
        ),
    }


def _taken(
    run: Callable, inputs: list[Tensor], device: torch.device, small: bool
) -> dict[str, float]:
    """Returns ms of the forward pass, and of both; recorded where there is a device."""
    leaves = [tensor.clone().requires_grad_() for tensor in inputs]
    gradients = [torch.randn_like(each) for each in run(*leaves)]

    def forward() -> None:
        with torch.no_grad():
            run(*leaves)

    def both() -> None:
        torch.autograd.grad(run(*leaves), leaves, gradients)

    if device.type == "cuda":
        found = [recorded_milliseconds(each, device) or float("nan") for each in (forward, both)]
    else:
        found = [milliseconds(each, device, small) for each in (forward, both)]
    return {"forward_ms": round(found[0], 4), "both_ms": round(found[1], 4)}
