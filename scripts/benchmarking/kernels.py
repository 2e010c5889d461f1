"""Kernels of two backends in turn on the same inputs: forward and backward, as in training."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor

from resfields_ngp.backends import Backend, MlpSpec, open_backend
from resfields_ngp.config import Config
from resfields_ngp.encoders.hash_grid import HashGrid, HashGridConfig
from resfields_ngp.records import FrameSlices

from .results import Row, machine_line, markdown_table

BACKENDS = ("cpu", "reference")
N_FRAMES = 4
"""Distinct frames among the points, as in a training step."""

Kernel = Callable[[Backend], Tensor]


def hash_grid_kernel(n_points: int, n_tangents: int) -> Kernel:
    """Returns the default 3-D hash grid with residuals at random points, all inputs fixed."""
    generator = torch.Generator().manual_seed(0)
    grid = HashGrid(HashGridConfig(), N_FRAMES, generator)
    shape = (N_FRAMES, grid.spec.n_levels, grid.spec.n_channels)
    coefficients = torch.randn(shape, generator=generator).requires_grad_()
    positions = torch.rand((n_points, 3), generator=generator)
    slices = _even_slices(n_points)
    # A training step adds to gradients that are there.
    grid.table.grad = torch.zeros_like(grid.table)

    def run(backend: Backend) -> Tensor:
        inputs = (positions, slices, coefficients, None, grid.table, grid.spec, n_tangents)
        return backend.hash_grid(*inputs)

    return run


def mlp_kernel(n_points: int, n_tangents: int) -> Kernel:
    """Returns the default geometry network, another one for each frame, at random inputs."""
    config = Config()
    generator = torch.Generator().manual_seed(0)
    encoder = HashGrid(HashGridConfig(), N_FRAMES, generator)
    network = config.network
    spec = MlpSpec(encoder.n_features + 3, 16, network.n_neurons, network.n_hidden_layers)
    shape = (n_points, 1 + n_tangents, spec.n_inputs)
    jets = torch.randn(shape, generator=generator).requires_grad_()
    weights = (0.2 * torch.randn((N_FRAMES, spec.n_weights), generator=generator)).requires_grad_()
    slices = _even_slices(n_points)
    return lambda backend: backend.mlp(jets, slices, weights, spec)


KERNELS = {"hash_grid": hash_grid_kernel, "mlp": mlp_kernel}
"""Name to what makes the kernel for a number of points and of tangents."""


def compare(name: str, n_points: int, n_tangents: int, repeats: int) -> Row:
    """Times a kernel on both backends, one after the other, `repeats` times.

    Returns:
        Medians in ms and their ratios, reference over cpu; each backend runs once before.
    """
    kernel = KERNELS[name](n_points, n_tangents)
    backends = {each: open_backend(each, "cpu") for each in BACKENDS}
    times: dict[str, list[tuple[float, float]]] = {each: [] for each in BACKENDS}
    for _ in range(repeats + 1):
        for each, backend in backends.items():
            times[each].append(_forward_and_backward(kernel, backend))
    row: Row = {"kernel": name, "points": n_points, "tangents": n_tangents, "repeats": repeats}
    for index, direction in enumerate(("forward", "backward")):
        fast, slow = (median(run[index] for run in times[each][1:]) for each in BACKENDS)
        row |= {f"{direction}_cpu_ms": round(1e3 * fast, 3)}
        row |= {f"{direction}_reference_ms": round(1e3 * slow, 3)}
        row |= {f"{direction}_ratio": round(slow / fast, 2)}
    return row


def describe_kernels(rows: list[Row]) -> str:
    """Returns the Markdown of the newest comparison of each kernel, size and thread count."""
    figures = [
        f"{d}_{f}" for d in ("forward", "backward") for f in ("cpu_ms", "reference_ms", "ratio")
    ]
    keys = ("kernel", "points", "tangents", "torch_threads", "numba_threads")
    newest = {tuple(row[key] for key in keys): row for row in rows}
    header = ["kernel", "points", "tangents", "torch threads", "numba threads"]
    header += [figure.replace("_", " ") for figure in figures]
    lines = [[*key, *(row[figure] for figure in figures)] for key, row in newest.items()]
    about = (
        "Medians; ratio: reference / cpu. Inputs as in training: gradients of table and weights.\n"
    )
    return "\n".join(["# Kernels\n", about, markdown_table(header, lines), machine_line(rows[-1])])


def _forward_and_backward(kernel: Kernel, backend: Backend) -> tuple[float, float]:
    """Returns the seconds that a kernel takes each way."""
    begun = time.perf_counter()
    outputs = kernel(backend)
    forward = time.perf_counter() - begun
    gradients = torch.ones_like(outputs)
    begun = time.perf_counter()
    outputs.backward(gradients)
    return forward, time.perf_counter() - begun


def _even_slices(n_points: int) -> FrameSlices:
    bounds = tuple(n_points * i // N_FRAMES for i in range(N_FRAMES + 1))
    return FrameSlices(tuple(range(N_FRAMES)), bounds)
