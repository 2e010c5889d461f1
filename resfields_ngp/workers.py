"""Frames meshed by several processes, each with the run opened for itself.

They compute on the CPU, whatever the run was trained on. Most of a mesh is work of one core: four
processes that shared an H100 took five seconds a mesh each, two that shared a core without a GPU
3.3.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING

from .config import Config
from .environment import count_cores
from .extraction import MeshingConfig
from .frame_jobs import FrameWriter, Job, Made, make_group

if TYPE_CHECKING:
    from .reconstruction import Reconstruction

Writing = Callable[["Reconstruction"], FrameWriter]
"""Returns what writes a run's meshes; it can be sent to another process."""

WORKER_MEMORY = 3 << 29
"""Bytes of RAM that a worker is reckoned to need: 1.2 GB for 100 frames of 512 x 512."""
JOBS_EACH = 3
"""Frames that a worker must have to do: it takes as long as two of them to start."""


@dataclass(frozen=True)
class Export:
    """One export of a run, as all of its processes know it."""

    run: Path
    """The run folder."""
    config: Config
    """All settings."""
    writing: Writing
    """What writes the meshes."""


def made(
    jobs: Sequence[Job], reconstruction: Reconstruction, export: Export
) -> Iterator[list[Made]]:
    """Yields what jobs made, in their order, by several processes where that helps."""
    n_workers = count_workers(export.config, len(jobs))
    if n_workers > 1:
        yield from made_by_workers(jobs, export, n_workers)
    else:
        writer = export.writing(reconstruction)
        for job in jobs:
            yield make_group(reconstruction, export.config.meshing, writer, job)


def count_workers(config: Config, n_jobs: int) -> int:
    """Returns how many processes to use: as cores, memory and jobs allow."""
    most = config.training.threads or count_cores()
    return max(1, min(most, n_jobs // JOBS_EACH, _available_memory() // WORKER_MEMORY))


def _available_memory() -> int:
    """Returns the bytes of RAM that programs may still take, where the system says so."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def made_by_workers(jobs: Sequence[Job], export: Export, n_workers: int) -> Iterator[list[Made]]:
    """Yields what jobs made, in their order, while others are under way.

    Leaving early lets the frames that are under way finish and drops the others.
    """
    context = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(n_workers, context, _open, (export,)) as pool,
        _drop_rest(pool),
    ):
        # Ctrl-C reaches the whole group; the parent decides, and frames under way are finished.
        with deaf_to_interrupts():
            found = pool.map(_make, jobs)
        yield from found


@contextlib.contextmanager
def deaf_to_interrupts() -> Iterator[None]:
    """Holds Ctrl-C back; processes that are started meanwhile never hear it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _drop_rest(pool: ProcessPoolExecutor) -> Iterator[None]:
    try:
        yield
    except BaseException:
        pool.shutdown(wait=True, cancel_futures=True)
        raise


class _Opened:
    """What a worker process holds."""

    reconstruction: Reconstruction
    writer: FrameWriter
    meshing: MeshingConfig


def _open(export: Export) -> None:
    """Loads the run in a new worker process."""
    from .reconstruction import load_reconstruction, use_threads

    threading.Thread(target=_end_with_parent, daemon=True).start()
    use_threads(1)
    _Opened.meshing = export.config.meshing
    is_reference = export.config.training.backend == "reference"
    backend = "reference" if is_reference else "cpu"
    _Opened.reconstruction = load_reconstruction(export.run, "cpu", backend)
    _Opened.writer = export.writing(_Opened.reconstruction)


def _make(job: Job) -> list[Made]:
    return make_group(_Opened.reconstruction, _Opened.meshing, _Opened.writer, job)


def _end_with_parent() -> None:
    """Ends this process once its parent is gone: nobody would read what it makes."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
