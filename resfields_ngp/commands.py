"""What each verb does: load settings, call one function a stage, say where the results are."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from .config import Config, load_config
from .config_tree import apply_table, nested, to_table
from .options import (
    DoctorOptions,
    EvalOptions,
    InspectOptions,
    MeshOptions,
    ReconstructOptions,
    RenderOptions,
    RunOptions,
    TrainOptions,
    UsageError,
)
from .progress import counting
from .run_folder import RunFolder

if TYPE_CHECKING:
    from .datasets.base import Capture
    from .inspection import Inspection
    from .reconstruction import Reconstruction
    from .training import Progress

Settings = Mapping[str, str]
"""Dotted name to text, from the command line."""

_CONSOLE = Console(width=None if sys.stdout.isatty() else 160)


def reconstruct(options: ReconstructOptions, settings: Settings) -> int:
    """Inspects, trains, meshes, renders and evaluates a capture."""
    config = _training_config(options, settings)
    capture = _checked_capture(config)
    inspection = _inspected(config, capture)
    run = RunFolder.create(options.out, to_table(config), options.resume, options.overwrite)
    _write_reprojection(capture, inspection, run.path)
    code, reconstruction = _train(config, capture, run, options.resume)
    if code:
        return code
    _mesh(config, reconstruction, run)
    _render(config, reconstruction, capture, run)
    _evaluate(config, capture, run)
    return 0


def train(options: TrainOptions, settings: Settings) -> int:
    """Fits a capture."""
    config = _training_config(options, settings)
    capture = _checked_capture(config)
    run = RunFolder.create(options.out, to_table(config), options.resume, options.overwrite)
    return _train(config, capture, run, options.resume)[0]


def mesh(options: MeshOptions, settings: Settings) -> int:
    """Extracts the meshes of a run."""
    run, config = _opened(options, settings)
    _mesh(config, _loaded(run, config), run)
    return 0


def render(options: RenderOptions, settings: Settings) -> int:
    """Renders the cameras of a run."""
    from .datasets import load_capture

    run, config = _opened(options, settings)
    capture = load_capture(config.capture)
    _render(config, _loaded(run, config), capture, run)
    return 0


def evaluate(options: EvalOptions, settings: Settings) -> int:
    """Computes the figures of a run."""
    from .datasets import load_capture

    run, config = _opened(options, settings)
    _evaluate(config, load_capture(config.capture), run)
    return 0


def inspect(options: InspectOptions, settings: Settings) -> int:
    """Looks at a capture before any training."""
    from .datasets import load_capture

    config = _with_path(load_config(options.scene, options.preset, nested(settings)))
    capture = load_capture(config.capture)
    inspection = _inspected(config, capture)
    if options.out is not None:
        _write_reprojection(capture, inspection, options.out)
    return 0


def doctor(options: DoctorOptions, settings: Settings) -> int:
    """Says what runs here."""
    from .backends import BackendUnavailable
    from .doctor import can_run_on_cpu, diagnose

    findings = diagnose()
    table = Table("", "verdict", "found", box=None, pad_edge=False)
    colours = {"works": "green", "missing": "red", "unneeded": "dim"}
    for each in findings:
        table.add_row(each.name, f"[{colours[each.verdict]}]{each.verdict}[/]", each.detail)
    _CONSOLE.print(table)
    for each in findings:
        if each.remedy:
            _say(f"to mend {each.name}: {each.remedy}")
    if can_run_on_cpu(findings):
        _say("Reconstruction on the CPU works here.")
        return 0
    raise BackendUnavailable("the CPU path needs what is missing above")


def _training_config(options: TrainOptions, settings: Settings) -> Config:
    """Returns the settings of a training run; a resumed one's own where no others are named.

    Raises:
        UsageError: Neither command line nor scene names a capture, or options exclude each other.
    """
    if options.resume and options.overwrite:
        raise UsageError("--resume and --overwrite exclude each other; pass one of them")
    if "training.seconds" in settings and "training.steps" in settings:
        raise UsageError("--seconds and --steps exclude each other; pass one of them")
    scene = options.scene
    stored = RunFolder(options.out).config_path
    if options.resume and scene is None and options.preset is None and stored.is_file():
        scene = stored
    if "training.seconds" in settings:
        settings = {**settings, "training.steps": "0"}
    return _with_path(load_config(scene, options.preset, nested(settings)))


def _with_path(config: Config) -> Config:
    """Returns a config whose capture has an absolute path: it can be passed back anywhere."""
    if not config.capture.path:
        raise UsageError("no capture is named; pass its folder, or a scene with capture.path")
    path = str(Path(config.capture.path).resolve())
    return dataclasses.replace(config, capture=dataclasses.replace(config.capture, path=path))


def _checked_capture(config: Config) -> Capture:
    """Returns the capture, once the device is known to be there."""
    from .backends import open_backend
    from .datasets import load_capture

    open_backend(config.training.backend, config.training.device)
    return load_capture(config.capture)


def _opened(options: RunOptions, settings: Settings) -> tuple[RunFolder, Config]:
    """Returns a run and its settings, changed as the command line says."""
    run = RunFolder.open(options.run)
    stored = apply_table(Config(), run.settings(), str(run.config_path))
    return run, apply_table(stored, nested(settings), "command line")


def _loaded(run: RunFolder, config: Config) -> Reconstruction:
    from .reconstruction import load_reconstruction, use_threads

    use_threads(config.training.threads)
    return load_reconstruction(run.path, config.training.device)


def _source(run: RunFolder) -> str:
    """Returns what names a run's weights: its latest step."""
    found = run.latest_checkpoint()
    return f"step {found[1]['step']}" if found else ""


def _inspected(config: Config, capture: Capture) -> Inspection:
    """Returns what the capture is like, and says it."""
    from .inspection import inspect_capture

    n_parameters = _parameter_count(config, capture.n_frames)
    inspection = inspect_capture(capture, config.hull, n_parameters)
    for line in inspection.lines():
        _say(line)
    return inspection


def _parameter_count(config: Config, n_frames: int) -> int:
    import torch

    from .backends import open_backend
    from .field import Field

    parts = (config.encoder, config.network, config.head, config.residual)
    field = Field(*parts, n_frames, torch.Generator(), open_backend("reference", "cpu"))
    return sum(parameter.numel() for parameter in field.parameters())


def _write_reprojection(capture: Capture, inspection: Inspection, folder: Path) -> None:
    from .reprojection import write_reprojection_picture

    picture = folder / "reprojection.png"
    write_reprojection_picture(capture, inspection.hull, picture)
    _say(f"reprojection: {picture}")


def _train(
    config: Config, capture: Capture, run: RunFolder, resume: bool
) -> tuple[int, Reconstruction]:
    """Trains until the budget is used or somebody asks to stop.

    Returns:
        The exit code, above 0 where training was stopped, and what was fitted.
    """
    from .interruption import stop_on_signals
    from .progress import ProgressReport, TensorBoardReport
    from .reconstruction import train

    with stop_on_signals() as stop, ProgressReport() as line:
        curves = TensorBoardReport(run.path / "tensorboard")

        def report(progress: Progress) -> None:
            line(progress)
            curves(progress)

        reconstruction = train(config, capture, run, report, resume, stop)
    if stop():
        _say(f"stopped and saved; go on with: resfields-ngp train --out {run.path} --resume")
    else:
        _say(f"checkpoints: {run.checkpoints}")
    return stop.exit_code, reconstruction


def _mesh(config: Config, reconstruction: Reconstruction, run: RunFolder) -> None:
    from .meshing import export_meshes

    with counting("meshes") as report:
        export_meshes(reconstruction, run.path, config.meshing, _source(run), report)
    _say(f"meshes: {run.path / 'meshes'}, described in {run.path / 'manifest.json'}")


def _render(
    config: Config, reconstruction: Reconstruction, capture: Capture, run: RunFolder
) -> None:
    from .imaging import write_renders

    with counting("renders") as report:
        write_renders(reconstruction, capture, run.path, config.imaging, _source(run), report)
    _say(f"renders: {run.path / 'renders'}")


def _evaluate(config: Config, capture: Capture, run: RunFolder) -> None:
    from .contact_sheet import write_contact_sheet
    from .evaluation import evaluate_run, score_table

    with counting("scores") as report:
        result = evaluate_run(run.path, capture, config.evaluation, report)
    _CONSOLE.print(score_table(result))
    _say(f"scores: {run.path / 'evaluation.json'}")
    sheet = write_contact_sheet(run.path, capture)
    if sheet is not None:
        _say(f"contact sheet: {sheet}")


def _say(text: str) -> None:
    _CONSOLE.print(text, highlight=False, markup=False, emoji=False, soft_wrap=True)
