"""The training loop of every task: checkpoints, what is held out, progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from .records import StepResult
from .trainer import Trainer, differentiate, in_numbers

if TYPE_CHECKING:
    from .run_folder import RunFolder

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
    """Of the steps since the last report."""
    samples_per_second: float = 0.0
    """Of the same steps."""


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
    test_psnr, next_test, result, next_save = None, 0.1, None, 0.0
    pace = _Pace()
    while trainer.fraction < 1.0 and not (should_stop and should_stop()):
        result = trainer.advance()
        pace.count(result)
        begun = time.perf_counter()
        is_last = trainer.fraction >= 1.0
        if trainer.fraction >= next_test and not is_last:
            with pace.paused():
                test_psnr = trainer.task.held_out_psnr()
            next_test = trainer.fraction + 0.1
        if trainer.step_count % 20 == 0 and not is_last:
            _tell(trainer, run, result, pace, test_psnr, report)
        is_due = trainer.step_count % trainer.config.checkpoint_every == 0
        if is_due and trainer.seconds >= next_save and not is_last:
            saving = time.perf_counter()
            with pace.paused():
                run.save_checkpoint(trainer.step_count, *trainer.state())
            next_save = trainer.seconds + SAVING_SPACE * (time.perf_counter() - saving)
        trainer.seconds += time.perf_counter() - begun
    # Out here, since what surrounds a step may have used up the budget too.
    if result is not None and trainer.fraction >= 1.0:
        begun = time.perf_counter()
        with pace.paused():
            test_psnr = trainer.task.held_out_psnr()
        _tell(trainer, run, result, pace, test_psnr, report)
        trainer.seconds += time.perf_counter() - begun
    if trainer.fraction >= 1.0:
        trainer.task.finish()
    run.save_checkpoint(trainer.step_count, *trainer.state())
    return trainer.fraction >= 1.0


class _Pace:
    """What steps have done since it was last asked, over the time that they took.

    A step that a device does is only asked for in its own time, and done in that of others.
    """

    def __init__(self) -> None:
        self._begin()

    def count(self, result: StepResult) -> None:
        """Adds a step."""
        self._n_rays += result.n_rays
        self._n_samples += result.n_samples

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves out the time of something else."""
        begun = time.perf_counter()
        yield
        self._begun += time.perf_counter() - begun

    def per_second(self) -> tuple[float, float]:
        """Returns rays and samples a second, and begins anew."""
        seconds = max(time.perf_counter() - self._begun, 1e-9)
        found = self._n_rays / seconds, self._n_samples / seconds
        self._begin()
        return found

    def _begin(self) -> None:
        self._n_rays, self._n_samples, self._begun = 0, 0, time.perf_counter()


def _tell(
    trainer: Trainer,
    run: RunFolder,
    result: StepResult,
    pace: _Pace,
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
        *pace.per_second(),
    )
    run.append_metrics(vars(progress) | trainer.task.gauges(fraction) | {"losses": losses})
    if report is not None:
        report(progress)
