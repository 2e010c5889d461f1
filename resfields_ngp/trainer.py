"""The state of a run and one step of it: optimiser, learning rates, NaN watch, what is resumed."""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from torch import Tensor

from .optimising import make_optimiser
from .recording import Recorder, can_record
from .records import StepResult
from .schedules import ScheduleConfig
from .tasks.base import Task

_CHECK_EVERY = 20
"""Steps from one look at the losses to the next, where looking means waiting for the device."""


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
