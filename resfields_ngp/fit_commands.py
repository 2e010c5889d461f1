"""The verb ``fit``, and what other verbs do on a run that it made."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import stages
from .config import load_config
from .config_tree import apply_table, nearest, nested, to_table
from .fit_options import ExportOptions, FitOptions
from .options import RunOptions, TrainOptions, UsageError
from .progress import counting
from .run_folder import RunFolder
from .scenes import placed
from .tasks import TASKS, FitTask

Settings = Mapping[str, str]
"""Dotted name to text, from the command line."""


def fit(options: FitOptions, settings: Settings) -> int:
    """Fits a task's signal, writes its results and says where they are."""
    from .backends import open_backend
    from .reconstruction import use_threads

    kind = task_kind(options.task)
    config = _config(kind, options, settings)
    use_of_folder = (options.out, to_table(config), options.resume, options.overwrite)
    with RunFolder.reserved(*use_of_folder):
        use_threads(config.training.threads)
        backend = open_backend(config.training.backend, config.training.device)
        task = kind.open(config, backend)
        run = RunFolder.create(*use_of_folder)
        code = stages.fit(config.training, task, run, options.resume)
        if code:
            return code
        with counting("results") as report:
            lines = task.deliver(run, report)
    for line in lines:
        stages.say(line)
    return 0


def export(options: ExportOptions, settings: Settings) -> int:
    """Writes what a fitted signal can be exported as.

    Raises:
        UsageError: The run is none of the task that was named.
    """
    task_kind(options.what)
    found = RunFolder.open(options.run).settings().get("task", "reconstruct")
    if found != options.what:
        needed = f"export {options.what} needs one of fit {options.what}"
        raise UsageError(f"{options.run}: a run of {found}; {needed}")
    return revisit("export", options, settings)


def is_fit(run: Path) -> bool:
    """Returns whether a run folder was made by ``fit``."""
    return "task" in RunFolder.open(run).settings()


def revisit(verb: str, options: RunOptions | ExportOptions, settings: Settings) -> int:
    """Does what a verb means for a run of ``fit``.

    Raises:
        UsageError: It means nothing there.
    """
    from .backends import open_backend
    from .reconstruction import use_threads

    run = RunFolder.open(options.run)
    table = run.settings()
    kind = task_kind(table["task"])
    if verb not in kind.revisits:
        allowed = ", ".join(kind.revisits) or "none"
        raise UsageError(
            f"{run.path}: a run of fit {table['task']}, where {verb} has nothing to do"
            f" (verbs that have: {allowed})"
        )
    if getattr(options, "moved_capture", None) is not None:
        raise UsageError(f"{run.path}: a run of fit {table['task']} has no capture to move")
    stored = apply_table(kind.Config(), table, str(run.config_path))
    config: Any = apply_table(stored, nested(settings), "command line")
    use_threads(config.training.threads)
    backend = open_backend(config.training.backend, config.training.device)
    with counting(verb) as report:
        lines = kind.revisits[verb](run, config, backend, report)
    for line in lines:
        stages.say(line)
    return 0


def task_kind(name: str) -> type[FitTask]:
    """Returns the class of a task.

    Raises:
        UsageError: There is none of this name.
    """
    if name not in TASKS:
        raise UsageError(
            f'fit: unknown task "{name}"{nearest(name, list(TASKS))} (allowed: {", ".join(TASKS)})'
        )
    return TASKS[name]


def scene_and_settings(
    options: FitOptions | TrainOptions, settings: Settings
) -> tuple[Path | None, Settings]:
    """Returns the scene to begin with, a resumed run's own where none is named, and the settings.

    Raises:
        UsageError: Options exclude each other.
    """
    if options.resume and options.overwrite:
        raise UsageError("--resume and --overwrite exclude each other; pass one of them")
    if "training.seconds" in settings and "training.steps" in settings:
        raise UsageError("--seconds and --steps exclude each other; pass one of them")
    if "training.seconds" in settings:
        settings = {**settings, "training.steps": "0"}
    stored = RunFolder(options.out).config_path
    if options.resume and options.scene is None and stored.is_file():
        return stored, settings
    return options.scene, settings


def _config(kind: type[FitTask], options: FitOptions, settings: Settings) -> Any:
    """Returns the settings of a fit; a resumed one's own where no scene is named.

    Raises:
        UsageError: Nothing names an input, or options exclude each other.
    """
    scene, settings = scene_and_settings(options, settings)
    config: Any = load_config(scene, None, nested(settings), kind.Config())
    if not config.input.path:
        raise UsageError("nothing to fit is named; pass its path, or a scene with input.path")
    data = None if options.input is not None else options.data
    path = placed(config.input.path, data)
    return dataclasses.replace(config, input=dataclasses.replace(config.input, path=path))
