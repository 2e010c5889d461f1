"""Training steps as CUDA graphs: recorded now and then, replayed in between.

A step is over a thousand kernels, most of them done in less time than the host takes to launch one;
replayed, it is one launch. A recording holds whatever the host decided: how many rays there are,
and what follows from the fraction of training. So it is made anew when the task outgrows it, and
every two-hundredth of a long training.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable

import torch
from torch import Tensor

from .records import StepResult
from .tasks.base import Task
from .transfers import Follower, MovingFrames, collected

LEAST_REPLAYS = 16
"""Of a recording that is outgrown: to make one takes as long as ten replays."""
MANY_REPLAYS = 128
"""Of a recording that is merely old."""
SPAN = 0.005
"""Fraction of training after which a recording is old."""

_log = logging.getLogger(__name__)


def can_record(task: Task) -> bool:
    """Returns whether a task's steps can be recorded where they are computed."""
    backend = task.field.backend
    return task.is_recordable and backend.is_recordable and backend.device.type == "cuda"


class Recorder:
    """Does steps with their gradients: the first of each recording by itself, then replays.

    Args:
        task: Whose steps; see `can_record`.
        differentiate: Adds a step's gradients to those of the parameters; recorded with it.
    """

    def __init__(self, task: Task, differentiate: Callable[[StepResult], None]) -> None:
        self.task, self.differentiate = task, differentiate
        self.is_given_up, self._has_freed_memory = False, False
        self._device = task.field.backend.device
        self._generator = torch.Generator(self._device)
        # What a recording is made on shares nothing with the default stream.
        self._stream = torch.cuda.Stream(self._device)
        self._pool = torch.cuda.graph_pool_handle()
        self._n_found = Follower()
        self._recording: _Recording | None = None

    def step(self, frames: tuple[int, ...], step: int, fraction: float, seed: int) -> StepResult:
        """Returns the losses of a step, after their gradients are added up.

        Its number of samples may be that of a step or two before.

        Args:
            frames: Distinct frames, as many as ever.
            step: Steps done so far.
            fraction: Fraction of training in [0, 1].
            seed: Of the step's random draws.
        """
        self._generator.manual_seed(seed)
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            kind = self.task.kind_of_step(step, fraction)
            if self._recording is None or self._recording.is_used_up(kind, fraction):
                result = self._recorded(frames, step, fraction, kind)
            else:
                result = self._counted(self._recording.replayed(frames))
                self._recording.is_outgrown |= self.task.outgrows(result)
        current.wait_stream(self._stream)
        return result

    def _recorded(
        self, frames: tuple[int, ...], step: int, fraction: float, kind: str
    ) -> StepResult:
        """Does a step by itself, after which the host has nothing left to send, and records it."""
        last, self._recording = self._recording, None
        moving = MovingFrames(frames, self._device)

        def run() -> StepResult:
            result = self.task.fixed_step(moving, step, fraction, self._generator)
            self.differentiate(result)
            losses = {name: loss.detach() for name, loss in result.losses.items()}
            return dataclasses.replace(result, losses=losses)

        done = run()
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self._generator)
        try:
            graph.capture_begin(pool=self._pool)
            try:
                with collected() as constants:
                    result = run()
            finally:
                graph.capture_end()
            self._recording = _Recording(graph, moving, constants, result, kind, fraction)
        except torch.OutOfMemoryError as error:
            # A recording cannot have what the step itself has left in the cache.
            torch.cuda.empty_cache()
            self._give_up(error, self._has_freed_memory)
            self._has_freed_memory = True
        except RuntimeError as error:
            self._give_up(error, True)
        del last  # not before: its memory is the new one's, which is only handed on
        if done.n_found is None:
            return done
        self._n_found.known(done.n_found)
        return dataclasses.replace(done, n_samples=int(done.n_found))

    def _give_up(self, error: Exception, for_good: bool) -> None:
        """Says why a step is not recorded; for good, all others are done one by one as well."""
        # The last one may still wait for the end of its recording, and draws nothing till then.
        self._generator = torch.Generator(self._device)
        self.is_given_up = for_good
        if for_good:
            _log.warning("steps cannot be recorded here: %s", str(error).splitlines()[0])

    def _counted(self, result: StepResult) -> StepResult:
        """Returns the result with the number of its samples that are no padding, as last known."""
        if result.n_found is None:
            return result
        known = int(self._n_found.known(result.n_found))
        return dataclasses.replace(result, n_samples=known)


class _Recording:
    """A step that can be replayed."""

    def __init__(
        self,
        graph: torch.cuda.CUDAGraph,
        frames: MovingFrames,
        constants: list[Tensor],
        result: StepResult,
        kind: str,
        fraction: float,
    ) -> None:
        self._graph, self._frames, self._result = graph, frames, result
        self._constants = constants  # which the graph reads, wherever they are
        self._kind, self._end = kind, fraction + SPAN
        self._n_replays = 0
        self.is_outgrown = False

    def is_used_up(self, kind: str, fraction: float) -> bool:
        """Returns whether the next step asks for another recording."""
        if kind != self._kind:
            return True
        if self.is_outgrown and self._n_replays >= LEAST_REPLAYS:
            return True
        return fraction >= self._end and self._n_replays >= MANY_REPLAYS

    def replayed(self, frames: tuple[int, ...]) -> StepResult:
        """Does the step with other frames and draws."""
        self._frames.move(frames)
        self._graph.replay()
        self._n_replays += 1
        return self._result
