"""The training loop of every task: optimiser, schedules, NaN watch, checkpoints, progress."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .optimising import make_optimiser
from .recording import Recorder, can_record
from .records import StepResult
from .schedules import ScheduleConfig
from .tasks.base import Task

if TYPE_CHECKING:
    from .run_folder import RunFolder


_CHECK_EVERY = 20
"""Steps from one look at the losses to the next, where looking means waiting for the device."""

SAVING_SPACE = 50.0
"""Checkpoints are as many times as far apart as one takes to write: a step may take 7 ms."""


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
    """PSNR in dB on what is held out, when it was last taken."""
    samples_per_ray: float
    """Samples per ray of the last step; 0 for tasks without rays."""
    rays_per_second: float
    """Rays of the last step over its time."""
    samples_per_second: float = 0.0
    """Samples of the last step over its time."""


class TrainingError(RuntimeError):
    """Training cannot go on; the message names the loss term and the step."""


class Trainer:
    """The state of a run, and one step of it at a time.

    Args:
        config: How long and how fast.
        task: What is fitted: from distinct frames to losses.
    """

    def __init__(self, config: ScheduleConfig, task: Task) -> None:
        self.config, self.task = config, task
        self.generator = torch.Generator().manual_seed(config.seed)
        # Into gradients that are there a kernel adds in place, in another order than into fresh
        # ones; with them there from the start, a resumed run rounds as the uninterrupted one did.
        for parameter in task.field.parameters():
            parameter.grad = torch.zeros_like(parameter)
        self.optimiser = make_optimiser(
            task.field, config.grid_rate, config.network_rate, pace=task.coefficient_pace
        )
        self.step_count, self.seconds = 0, 0.0
        self.n_skipped = torch.zeros((), device=task.field.backend.device)
        self.queue: list[int] = []
        records = config.cuda_graphs and can_record(task)
        self.recorder = Recorder(task, differentiate) if records else None

    @property
    def fraction(self) -> float:
        """Part of the budget used, in [0, 1]."""
        if self.config.steps > 0:
            return min(1.0, self.step_count / self.config.steps)
        return min(1.0, self.seconds / self.config.seconds)

    def advance(self) -> StepResult:
        """Does one step.

        Raises:
            TrainingError: A loss term is NaN or infinite, or no gradient has been finite for long;
                parameters are as after the step before.
        """
        begun = time.perf_counter()
        fraction = self.fraction
        frames = self._next_frames()
        draws = self._draws()
        if self.recorder is None or self.recorder.is_given_up:
            with self.task.field.backend.stepping():
                result = self.task.step(frames, self.step_count, fraction, draws)
                differentiate(result)
        else:
            seed = draws.initial_seed()
            result = self.recorder.step(frames, self.step_count, fraction, seed)
        if result.losses:
            self._check_finite(result)
            self._skip_if_lost(result)
        self._set_rates(fraction)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=False)
        self.task.settle(frames, self.step_count, fraction, draws)
        self.step_count += 1
        self.seconds += time.perf_counter() - begun
        self.task.field.mark_trained(self.fraction)
        return result

    def _next_frames(self) -> tuple[int, ...]:
        """Returns the next distinct frames: every frame comes once before any comes again."""
        n_frames = self.task.n_frames
        count = self.config.frames_of_step(n_frames)
        if count == n_frames:
            return tuple(range(n_frames))
        chosen: list[int] = []
        while len(chosen) < count:
            # A frame that this step already has waits for the next one; it is not dropped.
            waiting = [frame for frame in self.queue if frame not in chosen]
            if waiting:
                self.queue.remove(waiting[0])
                chosen.append(waiting[0])
            else:
                self.queue += torch.randperm(n_frames, generator=self.generator).tolist()
        return tuple(sorted(chosen))

    def _draws(self) -> torch.Generator:
        """Returns the source of a step's random draws, where its task draws.

        On a device it is seeded by the step: a resumed run draws what the uninterrupted one did.
        """
        device = self.task.draws_on
        if device.type == "cpu":
            return self.generator
        return torch.Generator(device).manual_seed((self.config.seed << 32) + self.step_count)

    def _check_finite(self, result: StepResult) -> None:
        """Raises `TrainingError` where a loss term is not finite.

        Where reading a number means waiting, that is every `_CHECK_EVERY` steps only, and also
        where all steps since the last time had to be skipped.
        """
        if self.task.field.backend.is_asynchronous and self.step_count % _CHECK_EVERY:
            return
        found = in_numbers(result.losses | {"skipped": self.n_skipped})
        n_skipped = found.pop("skipped")
        self.n_skipped = torch.zeros_like(self.n_skipped)
        faults = [f"the {k} loss is {v}" for k, v in found.items() if not math.isfinite(v)]
        if n_skipped >= _CHECK_EVERY:
            faults.append(f"no gradient was finite for {_CHECK_EVERY} steps")
        if faults:
            raise TrainingError(
                f"step {self.step_count}: {faults[0]}; "
                "the last checkpoint is intact: resume from it with a lower training.grid_rate"
            )

    def _skip_if_lost(self, result: StepResult) -> None:
        """Tells the optimiser, on the device, to skip a step whose loss or gradient is not finite.

        A finite loss has an infinite gradient where half precision overflows on the way back.
        """
        if not self.task.field.backend.is_asynchronous:
            return
        gradients = [p.grad for p in self.task.field.parameters() if p.grad is not None]
        # At once; torch's `get_total_norm` does the same, and asks where each tensor is besides.
        norms = torch.stack(torch._foreach_norm(gradients))  # pyright: ignore - it has no stub
        is_lost = (~(norms.sum() + result.total.detach()).isfinite()).float()
        # What torch's GradScaler sets: the fused kernel then leaves the parameters alone.
        setattr(self.optimiser, "found_inf", is_lost)  # noqa: B010 - its types lack it
        self.n_skipped += is_lost

    def _set_rates(self, fraction: float) -> None:
        """Learning rates rise over the first 20 steps and decay exponentially to `final_rate`."""
        factor = min(1.0, (self.step_count + 1) / 20.0) * self.config.final_rate**fraction
        for group in self.optimiser.param_groups:
            group["lr"] = group["full_rate"] * factor

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Returns all that a resumed run needs: tensors, and scalars for JSON."""
        tensors, own = self.task.state()
        tensors["generator"] = self.generator.get_state()
        for index, moments in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{index}.{name}": value for name, value in moments.items()}
        scalars = {
            "seconds": self.seconds,
            "queue": self.queue,
            "fraction": self.fraction,
        }
        return tensors, own | scalars

    def restore(self, tensors: dict[str, Tensor], scalars: dict[str, Any]) -> None:
        """Takes up the state of an earlier run."""
        self.task.restore(tensors, scalars)
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
        self.queue = list(scalars["queue"])


def differentiate(result: StepResult) -> None:
    """Adds the gradient of a step's losses to those of the parameters."""
    if result.losses:
        result.total.backward()


def in_numbers(losses: dict[str, Tensor]) -> dict[str, float]:
    """Returns loss terms as numbers, fetched from the device at once."""
    if not losses:
        return {}
    values = torch.stack([value.detach() for value in losses.values()]).tolist()
    return dict(zip(losses, values, strict=True))


def compile_kernels(trainer: Trainer) -> None:
    """Runs each kind of step once and discards it: compiling is not charged to the time budget."""
    count = trainer.config.frames_of_step(trainer.task.n_frames)
    generator = torch.Generator(trainer.task.draws_on).manual_seed(0)
    for result in trainer.task.rehearse(tuple(range(count)), generator):
        differentiate(result)
    trainer.optimiser.zero_grad(set_to_none=False)


def train_task(
    trainer: Trainer,
    run: RunFolder,
    report: Callable[[Progress], None] | None = None,
    resume: bool = False,
    should_stop: Callable[[], bool] | None = None,
) -> bool:
    """Takes up the run's latest checkpoint where asked, compiles, and trains; see `fit`."""
    if resume and (found := run.latest_checkpoint()):
        trainer.restore(*found)
        run.drop_metrics_after(trainer.step_count)
    compile_kernels(trainer)
    return fit(trainer, run, report, should_stop)


def fit(
    trainer: Trainer,
    run: RunFolder,
    report: Callable[[Progress], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> bool:
    """Trains until the budget is used or somebody asks to stop; a checkpoint is left either way.

    Returns:
        True where the budget was used.

    Raises:
        TrainingError: A loss term is NaN or infinite; the checkpoints before it are kept.
    """
    test_psnr, next_test, result, seconds = None, 0.1, None, 0.0
    next_save = 0.0
    while trainer.fraction < 1.0 and not (should_stop and should_stop()):
        before = trainer.seconds
        result = trainer.advance()
        seconds = trainer.seconds - before
        begun = time.perf_counter()
        is_last = trainer.fraction >= 1.0
        if trainer.fraction >= next_test and not is_last:
            test_psnr = trainer.task.held_out_psnr()
            next_test = trainer.fraction + 0.1
        if trainer.step_count % 20 == 0 and not is_last:
            _tell(trainer, run, result, seconds, test_psnr, report)
        is_due = trainer.step_count % trainer.config.checkpoint_every == 0
        if is_due and trainer.seconds >= next_save and not is_last:
            saving = time.perf_counter()
            run.save_checkpoint(trainer.step_count, *trainer.state())
            next_save = trainer.seconds + SAVING_SPACE * (time.perf_counter() - saving)
        trainer.seconds += time.perf_counter() - begun
    # Out here, since what surrounds a step may have used up the budget too.
    if result is not None and trainer.fraction >= 1.0:
        begun = time.perf_counter()
        _tell(trainer, run, result, seconds, trainer.task.held_out_psnr(), report)
        trainer.seconds += time.perf_counter() - begun
    if trainer.fraction >= 1.0:
        trainer.task.finish()
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
    losses = {name: round(value, 6) for name, value in in_numbers(result.losses).items()}
    samples_per_ray = result.n_samples / result.n_rays if result.n_rays else 0.0
    progress = Progress(
        trainer.step_count,
        n_steps,
        fraction,
        trainer.seconds,
        losses,
        test_psnr,
        samples_per_ray,
        result.n_rays / max(seconds, 1e-9),
        result.n_samples / max(seconds, 1e-9),
    )
    run.append_metrics(vars(progress) | trainer.task.gauges(fraction) | {"losses": losses})
    if report is not None:
        report(progress)
