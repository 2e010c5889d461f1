"""Frames made by several processes, each with the run opened for itself and one frame's images."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING

from .config import Config
from .datasets.base import Capture, CaptureConfig, View
from .extraction import MeshingConfig
from .frame_jobs import Job, Made, make_group
from .texturing import FOLDER, FrameNames, TexturedWriter

if TYPE_CHECKING:
    from .reconstruction import Reconstruction


@dataclass(frozen=True)
class Export:
    """One textured export of a run."""

    run: Path
    """The run folder."""
    config: Config
    """All settings."""
    name: str
    """What the files' names begin with."""
    up: str
    """Which axis is up."""

    @property
    def names(self) -> FrameNames:
        """Where the files lie."""
        formats, picture = self.config.meshing.formats, self.config.texturing.picture
        return FrameNames(self.run / FOLDER, self.name, formats, picture)


def capture_at(config: CaptureConfig, number: int) -> Capture:
    """Loads one frame of a capture; nothing else is kept in memory."""
    from .datasets import load_capture

    return load_capture(replace(config, frames=f"{number}:{number + 1}"))


def textured_writer(reconstruction: Reconstruction, export: Export) -> TexturedWriter:
    """Returns what writes a run's textured meshes, its images loaded frame by frame."""

    def views(number: int) -> Sequence[View]:
        return capture_at(export.config.capture, number).views

    texturing = export.config.texturing
    return TexturedWriter(reconstruction, views, export.names, texturing, export.up)


def made_by_workers(jobs: Sequence[Job], export: Export, n_workers: int) -> Iterator[list[Made]]:
    """Yields what jobs made, in their order, while others are under way.

    Leaving early lets the frames that are under way finish and drops the others.
    """
    context = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(n_workers, context, _open, (export,)) as pool,
        _drop_rest(pool),
    ):
        yield from pool.map(_make, jobs)


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
    writer: TexturedWriter
    meshing: MeshingConfig


def _open(export: Export) -> None:
    """Loads the run in a new worker process."""
    from .reconstruction import load_reconstruction, use_threads

    # Ctrl-C reaches the whole group; the parent decides, and this frame is finished first.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    use_threads(1)
    _Opened.meshing = export.config.meshing
    training = export.config.training
    _Opened.reconstruction = load_reconstruction(export.run, training.device, training.backend)
    _Opened.writer = textured_writer(_Opened.reconstruction, export)


def _make(job: Job) -> list[Made]:
    return make_group(_Opened.reconstruction, _Opened.meshing, _Opened.writer, job)


def _end_with_parent() -> None:
    """Ends this process once its parent is gone: nobody would read what it makes."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
