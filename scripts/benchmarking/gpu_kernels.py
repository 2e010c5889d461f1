"""Kernels of the GPU backends: agreement with `reference`, times, and the floors beneath them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from resfields_ngp.backends import Backend, open_backend
from resfields_ngp.records import Samples

from .gpu_cases import PER_RAY, Case
from .gpu_timing import ceilings, milliseconds, recorded_milliseconds

TOLERANCES = {"triton": 5e-3, "tcnn": 6e-2}
"""Of the norm: half-precision operands; tcnn's derivatives are differences besides."""
SCATTER = 3.0
"""How many times further off the slope of a single row may be where it is a difference: what is
measured of many is their mean. One was 0.11 off, where 10,000 are 0.04."""
WORTH_RECORDING = 20.0
"""Milliseconds by turns; beyond, nothing of the host's time matters, and a replay takes minutes."""


def parity(backends: list[Backend], device: torch.device, small: bool) -> Iterator[dict[str, Any]]:
    """Yields how far each backend is from `reference` in values and gradients, by the norm."""
    reference = open_backend("reference", device.type)
    sizes = [(40, 1), (50, 3)] if small else [(1, 1), (10_000, 1), (10_001, 7), (131_073, 4)]
    for n_rows, n_frames in sizes:
        case = Case(n_rows, n_frames, device, small)
        for backend in backends:
            for n_tangents in (0, 3):
                pairs = case.kernels(backend, n_tangents), case.kernels(reference, n_tangents)
                if backend.name == "tcnn" and n_tangents:
                    del pairs[0]["hash_grid"]  # differences over half a cell are another quantity
                yield from _compared(backend, case, n_tangents, *pairs)
            pairs = case.ray_kernels(backend), case.ray_kernels(reference)
            yield from _compared(backend, case, 0, *pairs)
            yield _marched(backend, reference, case)
            yield _interpolated(backend, reference, case)


def _compared(
    backend: Backend, case: Case, n_tangents: int, kernels: dict, expected: dict
) -> Iterator[dict[str, Any]]:
    """Yields a line for each kernel of a backend: how far it is from that of `reference`."""
    for name, (kernel, inputs) in kernels.items():

        def errors(run=kernel, other=expected[name][0], given=inputs) -> dict[str, Any]:
            pairs = zip(_run(run, given), _run(other, given), strict=True)
            is_scattered = backend.name == "tcnn" and n_tangents and case.slices.n_rows == 1
            scatter = SCATTER if is_scattered else 1.0
            return _verdict(backend, [_error(*pair) for pair in pairs], scatter)

        yield guarded(_line(backend, name, case) | {"tangents": n_tangents}, errors, agrees=False)


def _marched(backend: Backend, reference: Backend, case: Case) -> dict[str, Any]:
    """Returns the line of the march: how much of a ray is sampled, by both."""

    def errors() -> dict[str, Any]:
        n_rays = case.slices.n_rows // PER_RAY
        ways = [_ways(case.march(each), n_rays) for each in (backend, reference)]
        # A step more or less at either end of the way through the band.
        off = float((ways[0] - ways[1]).abs().max()) if n_rays else 0.0
        allowed = 2.02 * case.step / TOLERANCES[backend.name]
        return _verdict(backend, [off / allowed])

    return guarded(_line(backend, "march", case) | {"tangents": 0}, errors, agrees=False)


def _interpolated(backend: Backend, reference: Backend, case: Case) -> dict[str, Any]:
    """Returns the line of the distance grids' interpolation."""

    def errors() -> dict[str, Any]:
        given = (case.distances, case.positions, case.slices)
        return _verdict(backend, [_error(*(each.interpolate(*given) for each in pair))])

    pair = (backend, reference)
    return guarded(_line(backend, "interpolate", case) | {"tangents": 0}, errors, agrees=False)


def times(
    backends: list[Backend], device: torch.device, sizes: list[tuple[int, int]], small: bool
) -> Iterator[dict[str, Any]]:
    """Yields ms of each kernel, forward and backward, on each backend, beside the floor."""
    bandwidth, rate = ceilings(device, small)
    for n_rows, n_frames in sizes:
        case = Case(n_rows, n_frames, device, small)
        for backend in backends:
            plain = case.kernels(backend, 0)["mlp"]
            kernels = case.kernels(backend, 3) | {"plain_mlp": plain} | case.ray_kernels(backend)
            for name, (kernel, inputs) in kernels.items():
                floor = _floor(case, name, bandwidth, rate)

                def both(
                    run=kernel, given=inputs, least=floor, rows=n_rows, each=backend
                ) -> dict[str, Any]:
                    # tiny-cuda-nn launches on streams of its own.
                    recordable = device.type == "cuda" and each.name != "tcnn"
                    forward, backward, recorded = _taken(run, given, device, small, recordable)
                    whole = recorded or forward + backward
                    return {
                        "forward_ms": round(forward, 4),
                        "backward_ms": round(backward, 4),
                        "recorded_ms": round(recorded, 4) if recorded else "",
                        "samples_per_second": round(1e3 * rows / whole),
                        "floor_ms": round(least, 4),
                        "part_of_floor": round(least / whole, 3),
                    }

                entry = guarded(_line(backend, name, case), both)
                yield entry | (_tiles(name, case) if backend.name == "triton" else {})

            def forward(each=backend, given=case) -> dict[str, Any]:
                taken = milliseconds(lambda: given.march(each), device, small)
                rate_ = round(1e3 * given.march(each).n_samples / taken)
                return {"forward_ms": round(taken, 4), "samples_per_second": rate_}

            yield guarded(_line(backend, "march", case), forward)


def guarded(
    line: dict[str, Any], measure: Callable[[], dict[str, Any]], **failed: Any
) -> dict[str, Any]:
    """Returns a line with what was measured, or with the error: the next line is still wanted.

    Args:
        line: What is measured.
        measure: Returns the rest of the line.
        failed: What the line has besides the error.
    """
    try:
        return line | measure()
    except torch.OutOfMemoryError:
        return line | {"forward_ms": "out of memory"} | failed
    except Exception as error:
        text = (str(error).strip().splitlines() or [""])[0]
        return line | failed | {"error": f"{type(error).__name__}: {text}"}


def _taken(
    kernel: Callable, inputs: list[Tensor], device: torch.device, small: bool, recordable: bool
) -> tuple[float, float, float | None]:
    """Returns the ms of a kernel forward and backward, and of both where they can be recorded."""
    gradients = [torch.randn_like(each) for each in _several(kernel(*inputs))]

    def leaves() -> list[Tensor]:
        return [tensor.clone().requires_grad_() for tensor in inputs]

    def by_turns() -> tuple[float, float]:
        own = leaves()
        outputs = _several(kernel(*own))

        def backward() -> tuple[Tensor, ...]:
            return torch.autograd.grad(outputs, own, gradients, retain_graph=True)

        return (
            milliseconds(lambda: kernel(*own), device, small),
            milliseconds(backward, device, small),
        )

    # Leaves of its own: those of a graph on another stream, that one must not wait for in between.
    recorded_on = leaves()

    def whole() -> tuple[Tensor, ...]:
        return torch.autograd.grad(_several(kernel(*recorded_on)), recorded_on, gradients)

    forward, backward = by_turns()
    recordable = recordable and forward + backward < WORTH_RECORDING
    return forward, backward, recorded_milliseconds(whole, device) if recordable else None


def _tiles(name: str, case: Case) -> dict[str, str]:
    """Returns how a network's kernels share their rows, where launches were large enough to try."""
    from resfields_ngp.backends.triton.tilings import CHOICES

    networks = {"mlp": ("mlp", 3), "plain_mlp": ("mlp", 0), "sloped_mlp": ("sloped", None)}
    found = {}
    for kind, choice in CHOICES.items():
        stem, way = kind.kernel.rsplit("_", 1)
        of_case = (stem, dict(kind.constants).get("D")) == networks.get(name)
        if of_case and kind.spec == case.network:
            found[way] = str(choice.taken)
    return {"tiles": "; ".join(f"{way}: {tiling}" for way, tiling in found.items())}


def _error(found: Tensor, expected: Tensor) -> float:
    """Returns the norm of a difference, relative to that of what is expected."""
    return float((found - expected).norm() / expected.norm().clamp(min=1e-20))


def _ways(samples: Samples, n_rays: int) -> Tensor:
    """Returns (R,) how much of each ray is sampled, model units."""
    return torch.zeros(n_rays, device=samples.t_starts.device).index_add(
        0, samples.ray_indices, samples.lengths
    )


def _line(backend: Backend, kernel: str, case: Case) -> dict[str, Any]:
    """Returns what a line is about."""
    rows, frames = case.slices.n_rows, len(case.slices.frames)
    return {"backend": backend.name, "kernel": kernel, "rows": rows, "frames": frames}


def _verdict(backend: Backend, errors: list[float], scatter: float = 1.0) -> dict[str, Any]:
    """Returns errors and whether they are small enough."""
    agrees = all(error <= scatter * TOLERANCES[backend.name] for error in errors)  # NaN is not
    return {"errors": [float(f"{error:.2e}") for error in errors], "agrees": agrees}


def _floor(case: Case, name: str, bandwidth: float, rate: float) -> float:
    """Returns the ms below which forward and backward cannot go: bytes or operations.

    Inputs are read twice, outputs written once, gradients of outputs read once and of inputs
    written once; a table counts once as it is read and once as its gradient is written.
    """
    n_rows = case.slices.n_rows
    if name == "composite":
        return 4 * 6 * n_rows / bandwidth
    if name == "accumulate":
        return 4 * 4 * n_rows * case.values.shape[1] / bandwidth
    if name == "hash_grid":
        features = 4 * case.grid.n_features
        floats = n_rows * (2 * 3 + 2 * features) + 2 * case.table.numel()
        return 4 * floats / bandwidth
    inputs, outputs = case.network.n_inputs, case.network.n_outputs
    # Forward, again in the backward pass, by inputs and by weights: of four parts or of one, or
    # down as well as up and then of two.
    n_parts = 1 if name == "plain_mlp" else 4
    floats, sweeps = n_rows * n_parts * (3 * inputs + 2 * outputs), 4 * n_parts
    if name == "sloped_mlp":
        floats, sweeps = n_rows * (4 * 3 * inputs + 2 * (outputs + 3)), 2 + 2 * 3
    operations = 2 * sweeps * n_rows * case.network.n_weights
    return max(4 * floats / bandwidth, operations / rate)


def _run(kernel: Callable, inputs: list[Tensor]) -> list[Tensor]:
    """Returns a kernel's outputs and the gradients of a random projection of them."""
    leaves = [tensor.clone().requires_grad_() for tensor in inputs]
    outputs = _several(kernel(*leaves))
    generator = torch.Generator().manual_seed(1)
    projections = [torch.randn(each.shape, generator=generator).to(each) for each in outputs]
    gradients = torch.autograd.grad(outputs, leaves, projections)
    return [*(each.detach() for each in outputs), *gradients]


def _several(outputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Returns a kernel's outputs, one or more."""
    return (outputs,) if isinstance(outputs, Tensor) else outputs
