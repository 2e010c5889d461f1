"""The task of a capture: hull warm-up, then rendered pixels; occupancy follows the field."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..device_pixels import DevicePixels
from ..field import Field
from ..losses import LossConfig
from ..occupancy import Occupancy
from ..pixels import PixelSource
from ..recording import can_record
from ..records import StepResult
from ..rendering import render
from ..schedules import TrainingConfig
from ..step import hull_step, render_step
from ..threads import in_threads
from .base import Task, restore_field

ROOM = 1.15
"""Rows of a step of fixed size, in samples that are aimed at: frames are not all alike."""


def coefficient_pace(n_frames: int) -> float:
    """Returns how many times faster than networks a sequence's coefficients learn, 1 to 8.

    A frame of a long one has few turns in which to learn what is its own. Measured at 12 and 16
    frames, where nothing is gained, and at 100.
    """
    return min(max((n_frames / 24.0) ** 1.5, 1.0), 8.0)


class CaptureTask(Task):
    """Pixels of a multi-view capture.

    Args:
        config: Rays and warm-up.
        losses: Weights of the terms.
        field: What is learned.
        occupancy: Where it is sampled.
        source: The pixels.
        n_frames: Frames of the capture.
        test_source: Pixels of the held-out view.
        clean: From a frame's cached distances and its index to the same without floaters.
    """

    field: Field
    """What is learned."""

    def __init__(
        self,
        config: TrainingConfig,
        losses: LossConfig,
        field: Field,
        occupancy: Occupancy,
        source: PixelSource | DevicePixels,
        n_frames: int,
        test_source: PixelSource | None = None,
        clean: Callable[[np.ndarray, int], np.ndarray] | None = None,
    ) -> None:
        self.config, self.losses = config, losses
        self.field, self.occupancy, self.source = field, occupancy, source
        self.n_frames, self.test_source, self.clean = n_frames, test_source, clean
        self.coefficient_pace = coefficient_pace(n_frames)
        self.n_samples = config.samples_per_batch or field.backend.step_samples
        self.max_rays = config.max_rays or field.backend.step_samples
        self.rays_per_batch, self.draws_on = 1024.0, field.backend.device
        # Densities without masks look at what samples follow each other, padding or not.
        follows = field.head.n_tangents > 0 or occupancy.has_masks
        is_resident = isinstance(source, DevicePixels) and source.is_resident
        self.is_recordable = is_resident and follows and field.encoder.is_recordable

    def step(self, frames, step, fraction, generator):
        """See `Task.step`."""
        if self.warms_up(step, fraction):
            n_points = self.config.warmup_points
            return hull_step(self.field, self.occupancy, frames, self.losses, n_points, generator)
        result = self._render_step(frames, int(self.rays_per_batch), fraction, generator)
        self._adapt_rays(result)
        return result

    def fixed_step(self, frames, step, fraction, generator):
        """See `Task.fixed_step`."""
        if self.warms_up(step, fraction):
            return self.step(frames, step, fraction, generator)
        n_rays = int(self.rays_per_batch)
        return self._render_step(frames, n_rays, fraction, generator, self._capacity(frames))

    def kind_of_step(self, step, fraction):
        """See `Task.kind_of_step`."""
        return "warm-up" if self.warms_up(step, fraction) else "render"

    def outgrows(self, result):
        """See `Task.outgrows`; the samples that are found change as the surface sharpens."""
        if not result.n_rays:
            return False
        self._adapt_rays(result)
        # Rays without room are lost; a step that is not full is merely short.
        return not 0.9 < self.rays_per_batch / result.n_rays < 1.25

    def settle(self, frames, step, fraction, generator):
        """See `Task.settle`: narrows the occupancy now and then."""
        refreshes = step % self.occupancy.config.refresh_every == 0
        if refreshes and not self.warms_up(step, fraction):
            self.field.mark_trained(fraction)
            self.occupancy.refresh(self.field, frames, fraction, generator)

    def finish(self):
        """See `Task.finish`: what is cached is what will be seen, and it has no floaters."""
        self.occupancy.refresh(self.field, tuple(range(self.n_frames)), 1.0, None)
        if (clean := self.clean) is not None:
            grids = self.occupancy.distances.cpu().numpy()
            cleaned = in_threads(lambda frame: clean(grids[frame], frame), range(self.n_frames))
            self.occupancy.distances.copy_(torch.from_numpy(np.stack(list(cleaned))))

    def rehearse(self, frames, generator):
        """See `Task.rehearse`; what will be recorded is as large as then, so that kernels that are
        measured at their first large launch are measured here."""
        capacity = self._capacity(frames) if can_record(self) else None
        if capacity is not None:
            self.field.sdfs(self.occupancy.centres(), frames[0])
        return [
            self._render_step(frames, 256, 0.5, generator, capacity),
            hull_step(self.field, self.occupancy, frames, self.losses, 256, generator),
        ]

    def held_out_psnr(self) -> float | None:
        """See `Task.held_out_psnr`."""
        return None if self.test_source is None else held_out_psnr(self, self.test_source)

    def gauges(self, fraction):
        """See `Task.gauges`."""
        return {"sharpness": self.field.sharpness(fraction)}

    def state(self):
        """See `Task.state`."""
        tensors, scalars = super().state()
        tensors["occupancy.distances"] = self.occupancy.distances
        return tensors, scalars | {"rays_per_batch": self.rays_per_batch}

    def restore(self, tensors: dict[str, Tensor], scalars: dict[str, Any]) -> None:
        """See `Task.restore`."""
        restore_model(self.field, self.occupancy, tensors)
        self.rays_per_batch = float(scalars["rays_per_batch"])

    def warms_up(self, step: int, fraction: float) -> bool:
        """True while the shape is fitted to the hull's core; a density is not without masks."""
        early = step < self.config.warmup_steps and fraction < 0.1
        return early and (self.field.head.n_tangents > 0 or self.occupancy.has_masks)

    def _capacity(self, frames: tuple[int, ...]) -> int:
        """Returns the rows of each frame in a step of fixed size."""
        return round(self.n_samples * ROOM / len(frames))

    def _render_step(
        self,
        frames: tuple[int, ...],
        n_rays: int,
        fraction: float,
        generator: torch.Generator,
        capacity: int | None = None,
    ) -> StepResult:
        batch = self.source.draw(frames, n_rays, self.config.foreground, generator)
        parts = (self.field, self.occupancy, batch, self.losses)
        return render_step(*parts, fraction, generator, self.config.background, capacity)

    def _adapt_rays(self, result: StepResult) -> None:
        """Moves the number of rays towards the wanted number of samples."""
        wanted = self.n_samples * result.n_rays / max(result.n_samples, 1)
        mixed = 0.8 * self.rays_per_batch + 0.2 * wanted
        self.rays_per_batch = min(max(mixed, 256.0), float(self.max_rays))


def restore_model(field: Field, occupancy: Occupancy, tensors: dict[str, Tensor]) -> None:
    """Loads parameters and occupancy from a checkpoint's tensors."""
    restore_field(field, tensors)
    occupancy.distances.copy_(tensors["occupancy.distances"])


def held_out_psnr(task: CaptureTask, source: PixelSource, n_pixels: int = 4096) -> float:
    """Returns the PSNR in dB on random pixels around the subject in the held-out view.

    The pixels are seeded. Not differentiable.
    """
    frames = tuple(range(0, task.n_frames, max(1, task.n_frames // 4)))
    drawn = source.draw(frames, n_pixels, 0.5, torch.Generator().manual_seed(0))
    batch = drawn.to(task.field.backend.device)
    background = task.config.rendered_background(source.has_masks)
    rendering = render(task.field, task.occupancy, batch.rays, background)
    errors = ((rendering.rgbs - batch.rgbs) ** 2).mean(1)
    if batch.weights is not None:
        errors = errors[batch.weights > 0]
    error = float(errors.mean())
    return -10.0 * math.log10(max(error, 1e-10))
