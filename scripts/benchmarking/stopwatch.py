"""Where a training step spends its time, found by wrapping what it is made of.

Stages may lie within one another; each counts its own time only, so that they add up. The backward
pass of a kernel is timed between two identities, one on either side of it: autograd runs first what
was made last, so nothing else comes between them.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from resfields_ngp import step, surface_losses
from resfields_ngp.backends import Backend
from resfields_ngp.resfield import ResidualWeights
from resfields_ngp.tasks.capture import CaptureTask
from resfields_ngp.trainer import Trainer

REFRESH = "occupancy refresh"
"""A stage that takes in all that lies within it."""
REST_FORWARD = "glue, forward"
"""What a step does besides all other stages."""
REST_BACKWARD = "losses, alphas and glue, backward"
"""What the backward pass does besides the kernels."""

STAGES = (
    "draw rays",
    "march",
    "residual weights, forward",
    "hash grid, forward",
    "geometry network, forward",
    "alphas, forward",
    "colour network, forward",
    "compositing, forward",
    "losses, forward",
    REST_FORWARD,
    "hash grid, backward",
    "geometry network, backward",
    "colour network, backward",
    "compositing, backward",
    REST_BACKWARD,
    "optimiser",
    REFRESH,
)
"""All stages, in the order of a step."""


class Stopwatch:
    """Seconds spent in each stage."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._open: list[str] = []
        self._last = 0.0

    def enter(self, stage: str) -> None:
        """Begins a stage within the one that is under way."""
        self._book()
        self._open.append(REFRESH if REFRESH in self._open else stage)

    def leave(self) -> None:
        """Ends the latest stage."""
        self._book()
        self._open.pop()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times a block."""
        self.enter(name)
        try:
            yield
        finally:
            self.leave()

    def _book(self) -> None:
        now = time.perf_counter()
        if self._open:
            self.seconds[self._open[-1]] += now - self._last
        self._last = now


class TimedBackend(Backend):
    """A backend whose kernels are timed, forward and backward, wherever gradients are wanted."""

    def __init__(self, backend: Backend, watch: Stopwatch) -> None:
        self.backend, self.watch = backend, watch
        self.name, self.device = backend.name, backend.device
        self.is_asynchronous = backend.is_asynchronous
        self.step_samples = backend.step_samples

    def stepping(self):
        """See `Backend.stepping`."""
        return self.backend.stepping()

    def hash_grid(self, positions, slices, coefficients, slots, table, spec, n_tangents):
        """See `Backend.hash_grid`."""
        if not coefficients.requires_grad:
            # Without residuals only the table is trained, and that has to stay a leaf.
            coefficients = coefficients.detach().requires_grad_(torch.is_grad_enabled())
        with self._timed("hash grid", coefficients) as (begin, inputs):
            arguments = (positions, slices, inputs[0], slots, table, spec, n_tangents)
            return begin(self.backend.hash_grid(*arguments))

    def mlp(self, jets, slices, weights, spec):
        """See `Backend.mlp`."""
        name = "colour network" if spec.n_outputs == 3 else "geometry network"
        with self._timed(name, jets, weights) as (begin, inputs):
            return begin(self.backend.mlp(inputs[0], slices, inputs[1], spec))

    def sloped_mlp(self, features, others, slices, weights, spec):
        """See `Backend.sloped_mlp`."""
        with self._timed("geometry network", features, weights) as (begin, inputs):
            found = self.backend.sloped_mlp(inputs[0], others, slices, inputs[1], spec)
            return begin(*found)

    def march(self, rays, distances, band, step, stretch, jitter, capacity=None):
        """See `Backend.march`."""
        with self.watch.stage("march"):
            return self.backend.march(rays, distances, band, step, stretch, jitter, capacity)

    def interpolate(self, grids, positions, slices):
        """See `Backend.interpolate`."""
        return self.backend.interpolate(grids, positions, slices)

    def composite(self, alphas, samples, n_rays):
        """See `Backend.composite`."""
        with self._timed("compositing", alphas) as (begin, inputs):
            return begin(self.backend.composite(inputs[0], samples, n_rays))

    def accumulate(self, weights, values, ray_indices, n_rays, packing=None):
        """See `Backend.accumulate`."""
        with self._timed("compositing", weights, values) as (begin, inputs):
            found = self.backend.accumulate(inputs[0], inputs[1], ray_indices, n_rays, packing)
            return begin(found)

    @contextmanager
    def _timed(self, name: str, *inputs: Tensor) -> Iterator[tuple[Any, Any]]:
        """Yields what marks a kernel's output, and its marked inputs."""
        if not torch.is_grad_enabled() or not any(each.requires_grad for each in inputs):
            yield (lambda *outputs: outputs if len(outputs) > 1 else outputs[0]), inputs
            return

        def begin(*outputs: Tensor) -> Any:
            marked = _Mark.apply(self.watch, f"{name}, backward", *outputs)
            return marked if len(outputs) > 1 else marked[0]

        with self.watch.stage(f"{name}, forward"):
            yield begin, _Mark.apply(self.watch, None, *inputs)


@contextmanager
def timed_steps(trainer: Trainer, watch: Stopwatch) -> Iterator[None]:
    """Times the steps that a trainer with a `TimedBackend` takes meanwhile."""
    task = trainer.task
    assert isinstance(task, CaptureTask), task
    head, occupancy = task.field.head, task.occupancy
    modules = (step, surface_losses)
    losses = [(m, name) for m in modules for name in vars(m) if name.endswith("_loss")]
    targets = [
        (trainer, "advance", REST_FORWARD),
        (task.source, "draw", "draw rays"),
        (trainer.optimiser, "step", "optimiser"),
        (Tensor, "backward", REST_BACKWARD),
        (ResidualWeights, "forward", "residual weights, forward"),
        (head, "alphas", "alphas, forward"),
        (occupancy, "hull_distances", "losses, forward"),
        (occupancy, "refresh", REFRESH),
        *((module, name, "losses, forward") for module, name in losses),
    ]
    with ExitStack() as stack:
        for owner, name, stage in targets:
            timed = _timed(getattr(owner, name), stage, watch)
            stack.enter_context(mock.patch.object(owner, name, timed))
        yield


def _timed(function: Callable[..., Any], stage: str, watch: Stopwatch) -> Callable[..., Any]:
    def timed(*arguments: Any, **named: Any) -> Any:
        with watch.stage(stage):
            return function(*arguments, **named)

    return timed


class _Mark(torch.autograd.Function):
    """Identity that begins a stage in the backward pass, or ends the one under way."""

    @staticmethod
    def forward(ctx, watch: Stopwatch, stage: str | None, *values: Tensor) -> tuple[Tensor, ...]:
        ctx.watch, ctx.stage = watch, stage
        return tuple(value.view_as(value) for value in values)

    @staticmethod
    def backward(ctx, *gradients: Tensor) -> tuple[Any, ...]:  # pyright: ignore
        if ctx.stage is None:
            ctx.watch.leave()
        else:
            ctx.watch.enter(ctx.stage)
        return None, None, *gradients
