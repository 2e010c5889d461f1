"""The training loop: hull warm-up, rendering steps, optimiser, schedules, checkpoints, progress."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from .field import Field
from .losses import LossConfig
from .occupancy import Occupancy
from .optimising import make_optimiser
from .pixels import PixelSource
from .records import Batch
from .rendering import render
from .step import StepResult, hull_step, render_step

if TYPE_CHECKING:
    from .run_folder import RunFolder


@dataclass(frozen=True)
class TrainingConfig:
    """How long, how fast, on what."""

    seconds: float = 180.0
    """Wall-clock budget of the training loop in seconds; every schedule is stretched to fit it.
    0: use `steps`."""
    steps: int = 0
    """Training steps; takes the place of the time budget when above 0, and is then reproducible."""
    frames_per_batch: int = 4
    """Distinct frames of a step; network weights are composed once for each."""
    samples_per_batch: int = 8192
    """Samples of a step; the number of rays follows."""
    max_rays: int = 8192
    """Most rays of a step."""
    foreground: float = 0.7
    """Part of the rays drawn on the subject, where masks exist."""
    warmup_steps: int = 100
    """Steps that first fit the distance to the hull's core; at most a tenth of the budget."""
    warmup_points: int = 4096
    """Points of a warm-up step."""
    grid_rate: float = 0.005
    """Adam's learning rate of the encoder's table."""
    network_rate: float = 0.003
    """Adam's learning rate of networks and coefficients."""
    final_rate: float = 0.05
    """Learning rates end at this part of their start, decaying exponentially."""
    checkpoint_every: int = 500
    """Steps between checkpoints; one is always written at the end."""
    seed: int = 0
    """Seed of every random draw."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto takes the best that works."""
    backend: str = "auto"
    """Kernels: auto, cpu or reference."""
    threads: int = 0
    """CPU threads; 0 takes all."""

    def __post_init__(self) -> None:
        if self.seconds <= 0.0 and self.steps <= 0:
            raise ValueError("training.seconds and training.steps are both 0; give one of them")
        for name in ("frames_per_batch", "samples_per_batch", "max_rays", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"training.{name} is {getattr(self, name)}; allowed: 1 or more")


@dataclass(frozen=True)
class Progress:
    """How training is going."""

    step: int
    """Steps done."""
    n_steps: int
    """Steps in all; an estimate under a time budget."""
    fraction: float
    """Part of the budget used, 0 to 1."""
    seconds: float
    """Wall-clock seconds of training so far."""
    losses: dict[str, float]
    """Weighted loss terms of the last step."""
    test_psnr: float | None
    """PSNR in dB on random pixels of the held-out camera, when it was last taken."""
    samples_per_ray: float
    """Samples per ray of the last step."""
    rays_per_second: float
    """Rays of the last step over its time."""


class TrainingError(RuntimeError):
    """Training cannot go on; the message names the loss term and the step."""


class Trainer:
    """The state of a run, and one step of it at a time."""

    def __init__(
        self,
        config: TrainingConfig,
        losses: LossConfig,
        field: Field,
        occupancy: Occupancy,
        source: PixelSource,
        n_frames: int,
    ) -> None:
        self.config, self.losses = config, losses
        self.field, self.occupancy, self.source = field, occupancy, source
        self.n_frames = n_frames
        self.generator = torch.Generator().manual_seed(config.seed)
        # Into gradients that are there a kernel adds in place, in another order than into fresh
        # ones; with them there from the start, a resumed run rounds as the uninterrupted one did.
        for parameter in field.parameters():
            parameter.grad = torch.zeros_like(parameter)
        self.optimiser = make_optimiser(field, config.grid_rate, config.network_rate)
        self.step_count, self.seconds = 0, 0.0
        self.rays_per_batch = 1024.0
        self.queue: list[int] = []

    @property
    def fraction(self) -> float:
        """Part of the budget used, in [0, 1]."""
        if self.config.steps > 0:
            return min(1.0, self.step_count / self.config.steps)
        return min(1.0, self.seconds / self.config.seconds)

    def advance(self) -> StepResult:
        """Does one step.

        Raises:
            TrainingError: A loss term is NaN or infinite; parameters are as after the step before.
        """
        begun = time.perf_counter()
        fraction = self.fraction
        frames = self._next_frames()
        warms_up = self._warms_up(fraction)
        if warms_up:
            n_points = self.config.warmup_points
            result = hull_step(
                self.field, self.occupancy, frames, self.losses, n_points, self.generator
            )
        else:
            n_rays = int(self.rays_per_batch)
            batch = self.source.draw(frames, n_rays, self.config.foreground, self.generator)
            result = render_step(
                self.field, self.occupancy, batch, self.losses, fraction, self.generator
            )
            self._adapt_rays(result)
        self._check_finite(result)
        self._set_rates(fraction)
        if result.losses:
            torch.stack(list(result.losses.values())).sum().backward()
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=False)
        if not warms_up and self.step_count % self.occupancy.config.refresh_every == 0:
            self.field.trained.fill_(fraction)
            self.occupancy.refresh(self.field, frames, fraction, self.generator)
        self.step_count += 1
        self.seconds += time.perf_counter() - begun
        self.field.trained.fill_(self.fraction)
        return result

    def _warms_up(self, fraction: float) -> bool:
        """True while the distance is fitted to the hull's core; heads without one never do."""
        early = self.step_count < self.config.warmup_steps and fraction < 0.1
        return early and self.field.head.n_tangents > 0

    def _next_frames(self) -> tuple[int, ...]:
        """Returns the next distinct frames: every frame comes once before any comes again."""
        count = min(self.config.frames_per_batch, self.n_frames)
        chosen: list[int] = []
        while len(chosen) < count:
            # A frame that this step already has waits for the next one; it is not dropped.
            waiting = [frame for frame in self.queue if frame not in chosen]
            if waiting:
                self.queue.remove(waiting[0])
                chosen.append(waiting[0])
            else:
                self.queue += torch.randperm(self.n_frames, generator=self.generator).tolist()
        return tuple(sorted(chosen))

    def _adapt_rays(self, result: StepResult) -> None:
        """Moves the number of rays towards the wanted number of samples."""
        wanted = self.config.samples_per_batch * result.n_rays / max(result.n_samples, 1)
        mixed = 0.8 * self.rays_per_batch + 0.2 * wanted
        self.rays_per_batch = min(max(mixed, 256.0), float(self.config.max_rays))

    def _check_finite(self, result: StepResult) -> None:
        for name, value in result.losses.items():
            if not math.isfinite(float(value.detach())):
                raise TrainingError(
                    f"step {self.step_count}: the {name} loss is {float(value.detach())}; "
                    "the last checkpoint is intact: resume from it with a lower training.grid_rate"
                )

    def _set_rates(self, fraction: float) -> None:
        """Learning rates rise over the first 20 steps and decay exponentially to `final_rate`."""
        factor = min(1.0, (self.step_count + 1) / 20.0) * self.config.final_rate**fraction
        for group in self.optimiser.param_groups:
            group["lr"] = group["full_rate"] * factor

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Returns all that a resumed run needs: tensors, and scalars for JSON."""
        tensors = {f"field.{name}": value for name, value in self.field.state_dict().items()}
        tensors["occupancy.distances"] = self.occupancy.distances
        tensors["generator"] = self.generator.get_state()
        for index, moments in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{index}.{name}": value for name, value in moments.items()}
        scalars = {
            "seconds": self.seconds,
            "rays_per_batch": self.rays_per_batch,
            "queue": self.queue,
            "fraction": self.fraction,
        }
        return tensors, scalars

    def restore(self, tensors: dict[str, Tensor], scalars: dict[str, Any]) -> None:
        """Takes up the state of an earlier run."""
        restore_model(self.field, self.occupancy, tensors)
        self.generator.set_state(tensors["generator"])
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("optimiser."):
                _, index, key = name.split(".")
                moments.setdefault(int(index), {})[key] = value
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": moments, "param_groups": groups})
        self.step_count = int(scalars["step"])
        self.seconds = float(scalars["seconds"])
        self.rays_per_batch = float(scalars["rays_per_batch"])
        self.queue = list(scalars["queue"])


def compile_kernels(trainer: Trainer) -> None:
    """Runs each kind of step once and discards it: compiling is not charged to the time budget."""
    generator = torch.Generator().manual_seed(0)
    frames = tuple(range(min(trainer.config.frames_per_batch, trainer.n_frames)))
    field, occupancy, losses = trainer.field, trainer.occupancy, trainer.losses
    batch = trainer.source.draw(frames, 256, trainer.config.foreground, generator)
    results = [render_step(field, occupancy, batch, losses, 0.5, generator)]
    if field.head.n_tangents:
        results.append(hull_step(field, occupancy, frames, losses, 256, generator))
    for result in results:
        torch.stack(list(result.losses.values())).sum().backward()
    trainer.optimiser.zero_grad(set_to_none=False)


def restore_model(field: Field, occupancy: Occupancy, tensors: dict[str, Tensor]) -> None:
    """Loads parameters and occupancy from a checkpoint's tensors."""
    own = {
        name.removeprefix("field."): value
        for name, value in tensors.items()
        if name.startswith("field.")
    }
    field.load_state_dict(own)
    occupancy.distances.copy_(tensors["occupancy.distances"])


def fit(
    trainer: Trainer,
    run: RunFolder,
    test_source: PixelSource | None = None,
    report: Callable[[Progress], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> bool:
    """Trains until the budget is used or somebody asks to stop; a checkpoint is left either way.

    Returns:
        True where the budget was used.

    Raises:
        TrainingError: A loss term is NaN or infinite; the checkpoints before it are kept.
    """
    test_psnr, next_test = None, 0.1
    while trainer.fraction < 1.0 and not (should_stop and should_stop()):
        before = trainer.seconds
        result = trainer.advance()
        begun = time.perf_counter()
        done = trainer.fraction >= 1.0
        if test_source is not None and (trainer.fraction >= next_test or done):
            test_psnr = held_out_psnr(trainer, test_source)
            next_test = trainer.fraction + 0.1
        if trainer.step_count % 20 == 0 or done:
            _tell(trainer, run, result, trainer.seconds - before, test_psnr, report)
        if trainer.step_count % trainer.config.checkpoint_every == 0 and not done:
            run.save_checkpoint(trainer.step_count, *trainer.state())
        trainer.seconds += time.perf_counter() - begun
    if trainer.fraction >= 1.0:
        trainer.occupancy.refresh(trainer.field, tuple(range(trainer.n_frames)), 1.0, None)
    run.save_checkpoint(trainer.step_count, *trainer.state())
    return trainer.fraction >= 1.0


def _tell(
    trainer: Trainer,
    run: RunFolder,
    result: StepResult,
    seconds: float,
    test_psnr: float | None,
    report: Callable[[Progress], None] | None,
) -> None:
    """Writes a line of metrics and reports it."""
    fraction = trainer.fraction
    n_steps = trainer.config.steps or round(trainer.step_count / max(fraction, 1e-6))
    losses = {name: round(value.item(), 6) for name, value in result.losses.items()}
    samples_per_ray = result.n_samples / max(result.n_rays, 1)
    progress = Progress(
        trainer.step_count,
        n_steps,
        fraction,
        trainer.seconds,
        losses,
        test_psnr,
        samples_per_ray,
        result.n_rays / max(seconds, 1e-9),
    )
    with torch.no_grad():
        sharpness = float(trainer.field.head.sharpness(fraction))
    run.append_metrics(vars(progress) | {"sharpness": sharpness, "losses": losses})
    if report is not None:
        report(progress)


def held_out_psnr(trainer: Trainer, source: PixelSource, n_pixels: int = 4096) -> float:
    """Returns the PSNR in dB on random pixels around the subject in the held-out view.

    The pixels are seeded. Not differentiable.
    """
    frames = tuple(range(0, trainer.n_frames, max(1, trainer.n_frames // 4)))
    batch: Batch = source.draw(frames, n_pixels, 0.5, torch.Generator().manual_seed(0))
    rendering = render(trainer.field, trainer.occupancy, batch.rays)
    error = float(((rendering.rgbs - batch.rgbs) ** 2).mean())
    return -10.0 * math.log10(max(error, 1e-10))
