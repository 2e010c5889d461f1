"""What each verb does: load settings, call one function a stage, say where the results are."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from . import stages
from .config import Config, SynthConfig, load_config
from .config_tree import apply_table, nested, to_table
from .extraction import MeshingConfig
from .extras import required
from .fit_commands import is_fit, revisit, scene_and_settings
from .options import (
    DoctorOptions,
    EvalOptions,
    InspectOptions,
    MeshOptions,
    ReconstructOptions,
    RenderOptions,
    RunOptions,
    ScenesOptions,
    SynthOptions,
    TrainOptions,
    UsageError,
    ViewOptions,
)
from .progress import counting
from .run_folder import RunFolder
from .scenes import placed

if TYPE_CHECKING:
    from .datasets.base import Capture
    from .reconstruction import Reconstruction

Settings = Mapping[str, str]
"""Dotted name to text, from the command line."""


def reconstruct(options: ReconstructOptions, settings: Settings) -> int:
    """Inspects, trains, meshes, renders and evaluates a capture.

    Frames without a surface are an error, told once everything else is done.
    """
    config = _training_config(options, settings)
    with _reserved(options, config):
        return _reconstructed(config, options, settings)


def _reconstructed(config: Config, options: ReconstructOptions, settings: Settings) -> int:
    from .meshing import MeshingError
    from .reconstruction import use_threads

    use_threads(config.training.threads)
    capture = _checked_capture(config)
    inspection = stages.inspected(config, capture)
    run = RunFolder.create(options.out, to_table(config), options.resume, options.overwrite)
    stages.write_reprojection(capture, inspection, run.path)
    given = (config, capture, run, options.resume, inspection.hull)
    code, reconstruction = stages.train(*given)
    if code:
        return code
    fault: MeshingError | None = None
    try:
        stages.mesh(_with_plain_formats(config), reconstruction, run)
        if config.texturing.kind == "uv":
            stages.mesh_textured(_with_textured_formats(config, settings), reconstruction, run)
    except MeshingError as error:
        fault = error
    stages.render(config, reconstruction, capture, run)
    stages.evaluate(config, capture, run)
    if fault is not None:
        raise fault
    return 0


def train(options: TrainOptions, settings: Settings) -> int:
    """Fits a capture."""
    config = _training_config(options, settings)
    with _reserved(options, config):
        capture = _checked_capture(config)
        run = RunFolder.create(options.out, to_table(config), options.resume, options.overwrite)
        return stages.train(config, capture, run, options.resume)[0]


def _reserved(options: TrainOptions, config: Config) -> AbstractContextManager[None]:
    """Returns what checks and keeps the run folder before anything takes time."""
    return RunFolder.reserved(options.out, to_table(config), options.resume, options.overwrite)


def mesh(options: MeshOptions, settings: Settings) -> int:
    """Extracts the meshes of a run."""
    if is_fit(options.run):
        return revisit("mesh", options, settings)
    run, config = _opened(options, settings)
    if config.texturing.kind == "uv":
        stages.mesh_textured(_with_textured_formats(config, settings), _loaded(run, config), run)
    else:
        stages.mesh(config, _loaded(run, config), run)
    return 0


def render(options: RenderOptions, settings: Settings) -> int:
    """Renders the cameras of a run."""
    if is_fit(options.run):
        return revisit("render", options, settings)
    from .datasets import load_capture

    run, config = _opened(options, settings)
    capture = load_capture(config.capture)
    stages.render(config, _loaded(run, config), capture, run)
    return 0


def evaluate(options: EvalOptions, settings: Settings) -> int:
    """Computes the figures of a run."""
    if is_fit(options.run):
        return revisit("eval", options, settings)
    from .datasets import load_capture

    run, config = _opened(options, settings)
    capture = load_capture(config.capture)
    if options.roundtrip:
        stages.evaluate_round_trip(capture, run)
    else:
        stages.evaluate(config, capture, run)
    return 0


def view(options: ViewOptions, settings: Settings) -> int:
    """Shows a run in a web browser, or writes a page that does."""
    from .exhibit import Exhibit
    from .reconstruction import use_threads

    required("viser")
    if options.frames_per_second < 1:
        raise UsageError(f"--frames-per-second is {options.frames_per_second}; allowed: 1 or more")
    run, capture = RunFolder.open(options.run), None
    if not is_fit(options.run):
        run, config = _opened(options, settings)
        use_threads(config.training.threads)
        capture = stages.capture_if_there(config)
    elif not (run.path / "manifest.json").is_file():
        raise UsageError(f"{run.path}: a run of fit without meshes, where view has nothing to show")
    exhibit = Exhibit.of(run, capture, options.device or "cpu", options.cells)
    if options.html is not None:
        stages.write_page(exhibit, options.html, options.look, options.frames_per_second)
    else:
        stages.show_exhibit(
            exhibit, options.host, options.port, options.look, options.frames_per_second
        )
    return 0


def inspect(options: InspectOptions, settings: Settings) -> int:
    """Looks at a capture before any training."""
    from .datasets import load_capture

    data = None if options.capture is not None else options.data
    config = _with_path(load_config(options.scene, options.preset, nested(settings)), data)
    capture = load_capture(config.capture)
    inspection = stages.inspected(config, capture)
    if options.out is not None:
        stages.write_reprojection(capture, inspection, options.out)
    return 0


def synth(options: SynthOptions, settings: Settings) -> int:
    """Writes the synthetic capture."""
    from .datasets.synthetic_capture import write_synthetic

    config = apply_table(SynthConfig(), nested(settings), "command line").synthetic
    if options.out.exists() and any(options.out.iterdir()):
        _clear_capture(options.out, options.overwrite)
    with counting("images") as report:
        write_synthetic(config, options.out, report)
    stages.say(f"capture: {options.out}")
    return 0


def scenes(options: ScenesOptions, settings: Settings) -> int:
    """Lists the scene files, and says which of their data is there."""
    from .scenes import known_scenes

    table = Table("scene", "run with", "data", "", box=None, pad_edge=False)
    for scene in known_scenes():
        data = scene.data or "named on the command line"
        if options.data is not None and scene.data:
            is_there = (options.data / scene.data).exists()
            data = f"{data} ({'there' if is_there else 'missing'})"
        table.add_row(scene.path.name, scene.verb, data, scene.about)
    stages.show(table)
    return 0


def doctor(options: DoctorOptions, settings: Settings) -> int:
    """Says what runs here."""
    from .doctor import tell

    return tell()


def _clear_capture(folder: Path, overwrite: bool) -> None:
    """Removes an earlier synthetic capture; any other folder is left alone.

    Raises:
        UsageError: The folder holds something else, or nobody asked to overwrite it.
    """
    try:
        is_synthetic = "texture" in json.loads((folder / "capture.json").read_text())
    except (OSError, ValueError):
        is_synthetic = False
    if not is_synthetic:
        raise UsageError(f"{folder}: not empty and no synthetic capture; choose another folder")
    if not overwrite:
        raise UsageError(f"{folder}: already written; pass --overwrite, or choose another folder")
    shutil.rmtree(folder)


def _training_config(options: TrainOptions, settings: Settings) -> Config:
    """Returns the settings of a training run; a resumed one's own where no others are named.

    Raises:
        UsageError: Neither command line nor scene names a capture, or options exclude each other.
    """
    scene, settings = scene_and_settings(options, settings)
    if options.preset is not None:
        scene = options.scene
    data = None if options.capture is not None else options.data
    return _with_path(load_config(scene, options.preset, nested(settings)), data)


def _with_path(config: Config, data: Path | None) -> Config:
    """Returns a config whose capture has an absolute path: it can be passed back anywhere."""
    if not config.capture.path:
        raise UsageError("no capture is named; pass its folder, or a scene with capture.path")
    path = placed(config.capture.path, data)
    return dataclasses.replace(config, capture=dataclasses.replace(config.capture, path=path))


def _with_plain_formats(config: Config) -> Config:
    """Returns a config for meshes without a texture, which usd files need."""
    if config.texturing.kind == "none":
        return config
    formats = tuple(each for each in config.meshing.formats if each != "usd") or ("ply",)
    return _with_formats(config, formats)


def _with_textured_formats(config: Config, settings: Settings) -> Config:
    """Returns a config for meshes with a texture: GLB where nobody asked for a format.

    Few programs show the texture of a PLY file.
    """
    is_asked = "meshing.formats" in settings or config.meshing.formats != MeshingConfig().formats
    return config if is_asked else _with_formats(config, ("glb",))


def _with_formats(config: Config, formats: tuple[Any, ...]) -> Config:
    meshing = dataclasses.replace(config.meshing, formats=formats)
    return dataclasses.replace(config, meshing=meshing)


def _checked_capture(config: Config) -> Capture:
    """Returns the capture, once the device is known to be there."""
    from .backends import open_backend
    from .datasets import load_capture

    open_backend(config.training.backend, config.training.device)
    return load_capture(config.capture)


def _opened(options: RunOptions, settings: Settings) -> tuple[RunFolder, Config]:
    """Returns a run and its settings, changed as the command line says."""
    run = RunFolder.open(options.run)
    if foreign := [name for name in settings if name.startswith("sampling.")]:
        raise UsageError(
            f"{run.path}: a run of a capture has no {', '.join(foreign)}; --fps, --scale and "
            "--sampling.* are for videos of fit video"
        )
    if options.moved_capture is not None:
        run.move_capture(options.moved_capture)
    stored = apply_table(Config(), run.settings(), str(run.config_path))
    return run, apply_table(stored, nested(settings), "command line")


def _loaded(run: RunFolder, config: Config) -> Reconstruction:
    from .reconstruction import load_reconstruction, use_threads

    use_threads(config.training.threads)
    return load_reconstruction(run.path, config.training.device)
