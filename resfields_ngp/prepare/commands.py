"""What ``prepare owlii``, ``prepare meshes`` and ``prepare video`` do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from .. import stages
from ..config_tree import apply_table, nested
from ..interruption import stop_on_signals
from ..options import UsageError
from ..progress import counting
from .capture import Working
from .capture import prepare_meshes as render_capture
from .config import PrepareConfig, PrepareVideoConfig
from .footage import prepare_video as write_footage
from .workers import Stopped, count_workers

if TYPE_CHECKING:
    from pathlib import Path

    from .folder import CaptureFolder
    from .options import (
        PrepareMeshesOptions,
        PrepareOptions,
        PrepareOwliiOptions,
        PrepareVideoOptions,
    )

Settings = Mapping[str, str]
"""Dotted name to text, from the command line."""
Tree = TypeVar("Tree", PrepareConfig, PrepareVideoConfig)
Stage = Callable[[Any, "Path", bool, Working], "CaptureFolder"]


def prepare_owlii(options: PrepareOwliiOptions, settings: Settings) -> int:
    """Renders a raw Owlii sequence as a capture."""
    named = {"sequence.path": str(options.sequence), "sequence.naming": "owlii"}
    return _prepared(render_capture, PrepareConfig(), options, {**settings, **named})


def prepare_meshes(options: PrepareMeshesOptions, settings: Settings) -> int:
    """Renders a sequence of meshes as a capture."""
    named = {"sequence.path": str(options.sequence)}
    return _prepared(render_capture, PrepareConfig(), options, {**settings, **named})


def prepare_video(options: PrepareVideoOptions, settings: Settings) -> int:
    """Brings calibrated footage into the capture layout."""
    named = {"footage.path": str(options.footage)}
    return _prepared(write_footage, PrepareVideoConfig(), options, {**settings, **named})


def _prepared(stage: Stage, config: Tree, options: PrepareOptions, settings: Settings) -> int:
    """Runs a stage with progress and a polite stop; returns the exit code.

    Raises:
        UsageError: A rig is given, and settings of the ring that it replaces.
    """
    of_ring = [name for name in settings if name.startswith("rig.") and name != "rig.path"]
    if settings.get("rig.path") and of_ring:
        raise UsageError(f"--rig brings cameras of its own; leave out {', '.join(of_ring)}")
    config = apply_table(config, nested(settings), "command line")
    with stop_on_signals() as stop:
        n_workers = count_workers(options.workers)
        working = Working(n_workers, counting, stop, stages.say)
        try:
            folder = stage(config, options.out, options.overwrite, working)
        except Stopped:
            stages.say(f"stopped; the same command goes on with {options.out}")
            return stop.exit_code
    stages.say(f"capture: {folder.path}; look at it with resfields-ngp inspect {folder.path}")
    return 0
