"""How training is going: a live line on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import contextlib
import importlib.util
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

if TYPE_CHECKING:
    from .training import Progress as TrainingProgress

PLAIN_SECONDS = 5.0
"""Seconds between two plain lines."""
BEFOREHAND = "getting ready; a first run compiles its kernels, for about a minute"
"""What is said until the first report."""


class _BarAboveLine(Progress):
    """A bar, and below it a line of any length: a narrow terminal wraps it and cuts neither."""

    def get_renderables(self) -> Iterable[RenderableType]:
        """Yields what is drawn, from above."""
        yield from super().get_renderables()
        yield from (Text(task.fields["line"]) for task in self.tasks)


class ProgressReport:
    """Shows what training reports; a context manager, called with each report.

    Args:
        console: Where to; standard error by default, so that standard output stays for results.
        clock: Seconds since any moment, for tests.
    """

    def __init__(
        self, console: Console | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = console or Console(stderr=True)
        self._clock = clock
        self._last_plain = -PLAIN_SECONDS
        self._live: Progress | None = None
        self._task = TaskID(0)

    def __enter__(self) -> ProgressReport:
        """Starts the live line where there is a terminal, and says what comes first."""
        if self._console.is_terminal:
            columns = (BarColumn(24), TaskProgressColumn(), TimeElapsedColumn())
            self._live = _BarAboveLine(*columns, console=self._console, transient=False)
            self._task = self._live.add_task("training", total=1.0, line=BEFOREHAND)
            self._live.start()
        else:
            self._print(BEFOREHAND)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leaves the last line standing."""
        if self._live is not None:
            self._live.stop()

    def __call__(self, progress: TrainingProgress) -> None:
        """Shows a report, or lets it pass where the last line is fresh and nobody watches."""
        if self._live is not None:
            self._live.update(self._task, completed=progress.fraction, line=line(progress))
            return
        now = self._clock()
        if now - self._last_plain >= PLAIN_SECONDS or progress.fraction >= 1.0:
            self._last_plain = now
            self._print(line(progress))

    def _print(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True, emoji=False)


class TensorBoardReport:
    """Writes what training reports as TensorBoard curves where that is installed; else nothing.

    Args:
        folder: Where the event files go.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._writer = folder, None
        self._is_there = importlib.util.find_spec("tensorboard") is not None

    def __call__(self, progress: TrainingProgress) -> None:
        """Adds a point to each curve."""
        if not self._is_there:
            return
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            # A resumed run does some steps again: TensorBoard then hides what they were before.
            self._writer = SummaryWriter(str(self._folder), purge_step=progress.step)
        values = {f"losses/{name}": value for name, value in progress.losses.items()}
        values |= {
            "samples_per_ray": progress.samples_per_ray,
            "rays_per_second": progress.rays_per_second,
            "samples_per_second": progress.samples_per_second,
        }
        if progress.test_psnr is not None:
            values["held_out_psnr"] = progress.test_psnr
        for name, value in values.items():
            self._writer.add_scalar(name, value, progress.step)


@contextlib.contextmanager
def counting(
    what: str,
    console: Console | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Callable[[int, int], None]]:
    """Gives a function to call with the number done and of all: a bar, or lines seconds apart.

    Args:
        what: What is counted.
        console: Where to; standard error by default.
        clock: Seconds since any moment, for tests.
    """
    console = console or Console(stderr=True)
    if not console.is_terminal:
        yield _plain_count(what, console, clock)
        return
    columns = (TextColumn(what), BarColumn(24), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as live:
        task = live.add_task(what, total=None)
        yield lambda done, of: live.update(task, completed=done, total=of)


def _plain_count(
    what: str, console: Console, clock: Callable[[], float]
) -> Callable[[int, int], None]:
    """Returns a function that prints a count where the last line, or the start, is seconds old."""
    last = clock()

    def report(done: int, of: int) -> None:
        nonlocal last
        if clock() - last >= PLAIN_SECONDS:
            last = clock()
            console.print(f"{what} {done}/{of}", highlight=False)

    return report


def line(progress: TrainingProgress) -> str:
    """Returns a report as one line: step, speed, time left, losses, held-out PSNR, samples."""
    speed = progress.step / progress.seconds if progress.seconds > 0 else 0.0
    parts = [
        f"step {progress.step}/{progress.n_steps}",
        f"{speed:.1f} steps/s",
        f"{_time_left(progress)} left",
        *(f"{name} {value:.4f}" for name, value in progress.losses.items()),
    ]
    if progress.test_psnr is not None:
        parts.append(f"held-out {progress.test_psnr:.2f} dB")
    if progress.samples_per_ray:
        parts.append(f"{progress.samples_per_ray:.1f} samples/ray")
        parts.append(f"{progress.rays_per_second:.0f} rays/s")
    else:
        parts.append(f"{progress.samples_per_second:.0f} samples/s")
    return "  ".join(parts)


def _time_left(progress: TrainingProgress) -> str:
    """Returns minutes and seconds until the fraction reaches 1 at the speed so far."""
    if progress.fraction <= 0.0:
        return "-:--"
    seconds = round(progress.seconds * (1.0 / progress.fraction - 1.0))
    return f"{seconds // 60}:{seconds % 60:02d}"
