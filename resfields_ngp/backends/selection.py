"""Which GPU backend is the faster here: a short measurement decides, not a name."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import cache

import torch

from ..records import FrameSlices
from .base import Backend, BackendUnavailable
from .specs import GridSpec, MlpSpec

N_ROWS, N_FRAMES, N_TANGENTS = 1 << 17, 4, 3
"""What is measured: the kernels of a training step of this size."""
_WARM_RUNS, _RUNS = 2, 5

_log = logging.getLogger(__name__)


@cache
def fastest(opened: Callable[[str], Backend], names: tuple[str, ...]) -> Backend:
    """Returns the backend that does forward and backward soonest; measured once a process.

    Args:
        opened: Returns a backend by name, or raises `BackendUnavailable`.
        names: Candidates.

    Raises:
        BackendUnavailable: None of them can run; the message has each one's reason.
    """
    found, reasons = {}, []
    for name in names:
        try:
            backend = opened(name)
            found[name] = (measure(backend), backend)
        except BackendUnavailable as error:
            reasons.append(str(error))
        except Exception as error:
            # A kernel that does not build or launch here: each compiler has errors of its own.
            reasons.append(
                f"{name}: {(str(error).strip() or type(error).__name__).splitlines()[0]}"
            )
    if not found:
        raise BackendUnavailable("; ".join(reasons))
    chosen = min(found, key=lambda name: found[name][0])
    taken = [f"{name} {1e3 * seconds:.1f} ms" for name, (seconds, _) in found.items()]
    _log.info("backend %s (%s)", chosen, "; ".join(taken + reasons))
    return found[chosen][1]


def measure(backend: Backend) -> float:
    """Returns the seconds of the grid's and the network's kernels, forward and backward."""
    run = workload(backend, N_ROWS)
    for _ in range(_WARM_RUNS):
        run()
    _wait(backend.device)
    begun = time.perf_counter()
    for _ in range(_RUNS):
        run()
    _wait(backend.device)
    return (time.perf_counter() - begun) / _RUNS


def workload(backend: Backend, n_rows: int) -> Callable[[], None]:
    """Returns a function that runs one forward and backward pass over random rows."""
    device, generator = backend.device, torch.Generator().manual_seed(0)
    grid = GridSpec(12, 2, 4, 15, 8, 1.35)
    network = MlpSpec(grid.n_features + 3, 16, 64, 1)
    bounds = tuple(n_rows * i // N_FRAMES for i in range(N_FRAMES + 1))
    slices = FrameSlices(tuple(range(N_FRAMES)), bounds)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=generator).to(device)

    positions = drawn(n_rows, 3)
    places = torch.cat([positions[:, None], torch.eye(3).to(device).expand(n_rows, 3, 3)], dim=1)
    coefficients = drawn(N_FRAMES, grid.n_levels, grid.n_channels).requires_grad_()
    table = drawn(*grid.table_shape).sub_(0.5).requires_grad_()
    weights = drawn(N_FRAMES, network.n_weights).sub_(0.5).mul_(0.2).requires_grad_()

    def run() -> None:
        arguments = (positions, slices, coefficients, None, table, grid, N_TANGENTS)
        features = backend.hash_grid(*arguments)
        outputs, slopes = backend.sloped_mlp(features, places, slices, weights, network)
        (outputs.sum() + slopes.sum()).backward()

    return run


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
