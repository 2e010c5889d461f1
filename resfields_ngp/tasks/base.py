"""What a task supplies to the training loop: losses of a few frames, and the state beside them.

The `Trainer` owns the optimiser, the schedules, the random numbers, checkpoints and the watch for
NaN; a task owns the data and the field, and turns distinct frames into losses.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from ..backends import Backend
from ..field import TimeField
from ..records import StepResult

if TYPE_CHECKING:
    from ..run_folder import RunFolder

Report = Callable[[int, int], None]
"""Takes the number done and the number of all."""
Revisit = Callable[["RunFolder", Any, Backend, Report], list[str]]
"""Takes a run, its config, a backend and a report; returns lines that say what was written."""


class Task(ABC):
    """Something to fit, frame by frame."""

    field: TimeField
    """Everything that is learned; parameters named ``table`` take `grid_rate`, the rest
    `network_rate`."""
    n_frames: int
    """Frames of the sequence; a step draws from a few of them."""
    draws_on: torch.device = torch.device("cpu")
    """Where the generator that a step is given draws."""
    coefficient_pace: float = 1.0
    """How many times faster the residual's coefficients learn than `coefficient_rate` says."""
    is_recordable: bool = False
    """Whether there is a `fixed_step`."""

    @abstractmethod
    def step(
        self, frames: tuple[int, ...], step: int, fraction: float, generator: torch.Generator
    ) -> StepResult:
        """Draws a batch and returns its losses, differentiable in the field's parameters.

        Args:
            frames: Distinct frames, ascending.
            step: Steps done so far.
            fraction: Fraction of training in [0, 1].
            generator: Source of every random draw.
        """

    def fixed_step(
        self, frames: tuple[int, ...], step: int, fraction: float, generator: torch.Generator
    ) -> StepResult:
        """Does what `step` does by kernels whose number and sizes no value decides.

        What is recorded of it on a device can be replayed with other frames and draws.
        """
        raise NotImplementedError(f"{type(self).__name__} records no steps")

    def kind_of_step(self, step: int, fraction: float) -> str:
        """Returns a name of what `fixed_step` does then; other arguments as those of `step`."""
        return "step"

    def outgrows(self, result: StepResult) -> bool:
        """Takes the result of a `fixed_step`; returns whether the next had better have other sizes.

        Args:
            result: Its `n_samples` are those that are no padding.
        """
        return False

    def settle(  # noqa: B027 - most tasks have nothing to do then
        self, frames: tuple[int, ...], step: int, fraction: float, generator: torch.Generator
    ) -> None:
        """Follows the optimiser's step; arguments as those of `step`."""

    def finish(self) -> None:  # noqa: B027
        """Follows the last step of a budget that was used."""

    def rehearse(self, frames: tuple[int, ...], generator: torch.Generator) -> list[StepResult]:
        """Returns a step of each kind, so that kernels compile before the clock starts."""
        return [self.step(frames, 0, 0.5, generator)]

    def held_out_psnr(self) -> float | None:
        """Returns the PSNR in dB on what is held out; None where nothing is."""
        return None

    def gauges(self, fraction: float) -> dict[str, float]:
        """Returns further figures for ``metrics.jsonl``."""
        return {}

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Returns what a checkpoint keeps: tensors, and scalars for JSON."""
        tensors = self.field.state_dict()
        return {f"field.{name}": value for name, value in tensors.items()}, {}

    def restore(self, tensors: dict[str, Tensor], scalars: dict[str, Any]) -> None:
        """Takes up what `state` returned."""
        restore_field(self.field, tensors)


class FitTask(Task):
    """A task of the verb ``fit``: it reads an input and leaves results in the run folder."""

    Config: ClassVar[type]
    """Frozen dataclass of its settings: `task` is its name, `input.path` what the verb is given,
    `training` a `ScheduleConfig`; the rest is its own."""
    revisits: ClassVar[Mapping[str, Revisit]] = {}
    """Verbs (render, mesh, eval, export) that work on a finished run, to what they do."""

    @classmethod
    @abstractmethod
    def open(cls, config: Any, backend: Backend) -> FitTask:
        """Reads the input and builds a fresh field.

        Raises:
            ValueError: The input is not usable; one line that names the file.
        """

    @abstractmethod
    def deliver(self, run: RunFolder, report: Report) -> list[str]:
        """Writes the results of a finished training; returns lines that say what and where."""


def restore_field(field: TimeField, tensors: dict[str, Tensor]) -> None:
    """Loads a field's parameters from a checkpoint's tensors."""
    prefix = "field."
    own = {name.removeprefix(prefix): v for name, v in tensors.items() if name.startswith(prefix)}
    field.load_state_dict(own)
