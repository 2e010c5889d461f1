"""The stages of a run, each with what it tells the terminal; `commands` strings them together."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console
from rich.table import Table

from .config import Config
from .progress import counting
from .run_folder import RunFolder
from .spans import spans

if TYPE_CHECKING:
    from .datasets.base import Capture
    from .exhibit import Exhibit
    from .hull import Hull
    from .inspection import Inspection
    from .reconstruction import Reconstruction
    from .schedules import ScheduleConfig
    from .tasks.base import Task
    from .training import Progress
    from .viewed_surfaces import Look

Result = TypeVar("Result")

_log = logging.getLogger(__name__)
# Wide enough for tables where standard output is a file.
_CONSOLE = Console(width=None if sys.stdout.isatty() else 160)


def inspected(config: Config, capture: Capture) -> Inspection:
    """Returns what the capture is like, and says it."""
    from .inspection import inspect_capture

    n_parameters = _parameter_count(config, capture.n_frames)
    inspection = inspect_capture(capture, config.hull, n_parameters)
    for line in inspection.lines():
        say(line)
    return inspection


def _parameter_count(config: Config, n_frames: int) -> int:
    import torch

    from .backends import open_backend
    from .field import Field

    parts = (config.encoder, config.network, config.head, config.residual)
    backend = open_backend("reference", "cpu")
    field = Field(*parts, n_frames, torch.Generator(), backend, config.motion)
    return sum(parameter.numel() for parameter in field.parameters())


def write_reprojection(capture: Capture, inspection: Inspection, folder: Path) -> None:
    """Writes ``reprojection.png``: images, masks, hull and box of a few frames over one another."""
    from .reprojection import write_reprojection_picture

    picture = folder / "reprojection.png"
    write_reprojection_picture(capture, inspection.hull, picture)
    say(f"reprojection: {picture}")


def train(
    config: Config, capture: Capture, run: RunFolder, resume: bool, hull: Hull | None = None
) -> tuple[int, Reconstruction]:
    """Trains until the budget is used or somebody asks to stop; carves the hull if there is none.

    Returns:
        The exit code, above 0 where training was stopped, and what was fitted.
    """
    from .reconstruction import train

    _say_what_begins(run, resume)

    def trained(
        report: Callable[[Progress], None], should_stop: Callable[[], bool]
    ) -> Reconstruction:
        return train(config, capture, run, report, resume, should_stop, hull)

    return _watched(run, trained)


def fit(config: ScheduleConfig, task: Task, run: RunFolder, resume: bool) -> int:
    """Trains a task; returns the exit code, above 0 where training was stopped."""
    from .trainer import Trainer
    from .training import train_task

    _say_what_begins(run, resume)
    trainer = Trainer(config, task)
    train = partial(train_task, trainer, run)
    return _watched(run, lambda report, stop: train(report, resume, stop))[0]


def _say_what_begins(run: RunFolder, resume: bool) -> None:
    if resume and not any(run.checkpoints.iterdir()):
        say(f"nothing to resume in {run.path}: training begins")


def _watched(
    run: RunFolder,
    train: Callable[[Callable[[Progress], None], Callable[[], bool]], Result],
) -> tuple[int, Result]:
    """Trains with progress shown, until done or interrupted; returns the exit code too."""
    from .interruption import stop_on_signals
    from .progress import ProgressReport, TensorBoardReport

    with stop_on_signals() as stop, ProgressReport() as line:
        curves = TensorBoardReport(run.path / "tensorboard")

        def report(progress: Progress) -> None:
            line(progress)
            curves(progress)

        result = train(report, stop)
    if stop():
        say(f"stopped and saved; go on with the same --out {run.path} and --resume")
    else:
        say(f"checkpoints: {run.checkpoints}")
    return stop.exit_code, result


def mesh(config: Config, reconstruction: Reconstruction, run: RunFolder) -> None:
    """Writes ``meshes/`` and ``manifest.json``; what is there of the same weights is kept."""
    from .meshing import export_meshes

    with _animating(config, run, "meshes", run.path), counting("meshes") as report:
        export_meshes(
            reconstruction, run.path, config.meshing, run.source(), report, settings=config
        )
    say(f"meshes: {run.path / 'meshes'}, described in {run.path / 'manifest.json'}")


def mesh_textured(config: Config, reconstruction: Reconstruction, run: RunFolder) -> None:
    """Writes ``textured/``; what is there of the same weights and settings is kept."""
    from .textured_export import export_textured
    from .texturing import FOLDER

    folder = run.path / FOLDER
    with _animating(config, run, FOLDER, folder), counting("textured meshes") as report:
        export_textured(reconstruction, run.path, config, run.source(), report)
    say(f"textured meshes: {folder}, described in {folder / 'manifest.json'}")


@contextmanager
def _animating(config: Config, run: RunFolder, name: str, folder: Path) -> Iterator[None]:
    """Joins glb files to one that plays them, where that is asked for and even if frames failed."""
    from .frame_jobs import MeshingError
    from .gltf_sequence import animate

    fault: MeshingError | None = None
    try:
        yield
    except MeshingError as error:
        fault = error
    if config.meshing.animate:
        say(animate(run.path, name, folder, config.texturing.frames_per_second))
    if fault is not None:
        raise fault


def evaluate_round_trip(capture: Capture, run: RunFolder) -> None:
    """Writes ``roundtrip.json`` and ``roundtrip.png``, and shows the scores."""
    from .round_trip import evaluate_round_trip, round_trip_table

    with counting("scores") as report:
        result = evaluate_round_trip(run.path, capture, report)
    show(round_trip_table(result))
    if result["missing"]:
        say(f"not exported, and not scored: frames {spans(result['missing'])}")
    say(f"scores: {run.path / 'roundtrip.json'}")


def render(
    config: Config, reconstruction: Reconstruction, capture: Capture, run: RunFolder
) -> None:
    """Writes ``renders/``; what is there of the same weights is kept."""
    from .imaging import write_renders

    with counting("renders") as report:
        given = (reconstruction, capture, run.path, config.imaging, run.source())
        write_renders(*given, report, config.meshing)
    say(f"renders: {run.path / 'renders'}")


def evaluate(config: Config, capture: Capture, run: RunFolder) -> None:
    """Writes ``evaluation.json`` and ``contact_sheet.png``, and shows the scores."""
    from .contact_sheet import write_contact_sheet
    from .evaluation import evaluate_run, outdated
    from .score_table import score_table

    with counting("scores") as report:
        result = evaluate_run(run.path, capture, config.evaluation, report)
    show(score_table(result, _CONSOLE))
    if result["without_subject"]:
        say(f"not scored: pictures of frames {spans(result['without_subject'])}, without subject")
    for line in outdated(result, run.source()):
        _log.warning(line)
    say(f"scores: {run.path / 'evaluation.json'}")
    sheet = write_contact_sheet(run.path, capture)
    if sheet is not None:
        say(f"contact sheet: {sheet}")


def capture_if_there(config: Config) -> Capture | None:
    """Returns a run's capture; where it cannot be loaded that is told, and there is none."""
    from .datasets import load_capture
    from .datasets.base import CaptureError

    try:
        return load_capture(config.capture)
    except (CaptureError, OSError) as error:
        _log.warning("no cameras are shown: %s (--capture FOLDER, if it was moved)", error)
        return None


def show_exhibit(
    exhibit: Exhibit, host: str, port: int, look: Look, frames_per_second: float
) -> None:
    """Serves an exhibit until somebody presses Ctrl-C, or sends SIGTERM."""
    from .interruption import stop_on_signals
    from .viewer import Viewer

    viewer = Viewer(exhibit, host, port, look, frames_per_second)
    say(f"look at it: http://{host}:{viewer.port} (Ctrl-C ends this)")
    with stop_on_signals() as stop:
        viewer.run(stop)


def write_page(exhibit: Exhibit, path: Path, look: Look, frames_per_second: float) -> None:
    """Writes an exhibit as a page that plays by itself, of the best surfaces there are."""
    from .viewer import page
    from .writing import write_whole

    source = next(iter(exhibit.surfaces))
    with counting("surfaces") as report:
        content = page(exhibit, source, look, frames_per_second, report).encode()
    write_whole(path, content)
    say(f"page: {path}, {source}, {len(content) / 1e6:.1f} MB")


def show(table: Table) -> None:
    """Prints a table."""
    _CONSOLE.print(table)


def say(text: str) -> None:
    """Prints a line as it is."""
    _CONSOLE.print(text, highlight=False, markup=False, emoji=False, soft_wrap=True)
