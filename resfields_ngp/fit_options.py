"""The options of the verb ``fit``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import Positional

from .options import CommonOptions, Device, File, Flag, Number, Run, Text, Whole


@dataclass(frozen=True, kw_only=True)
class FitOptions(CommonOptions):
    """Fit a signal that changes over time: video, signed distances of meshes, scene flow."""

    task: Annotated[Positional[str], tyro.conf.arg(metavar="video|sdf|flow")]
    """What to fit; its settings are shown with its name, as in ``fit video --help``."""
    input: Annotated[
        Positional[str | None], tyro.conf.arg(metavar="INPUT", help_behavior_hint="")
    ] = None
    """Clip or meshes; may be left out with --scene or --resume."""
    out: Path
    """Run folder to write."""
    resume: Flag = False
    """Go on with the run in --out, with its settings, from its latest checkpoint."""
    overwrite: Flag = False
    """Delete the run in --out first."""
    scene: File = None
    """Scene TOML, or the config.json of an earlier run."""
    data: File = None
    """Folder that the scene's own path lies in."""
    input_frames: Annotated[Text, tyro.conf.arg(name="frames")] = None
    """Frames of the input, as start:stop:stride; all by default."""
    seconds: Number = None
    """Wall time of training, seconds; every schedule is stretched to fit it."""
    steps: Whole = None
    """Steps of training, in place of --seconds; 0 leaves it to those."""
    seed: Whole = None
    """Seed of every random draw."""
    device: Device = None
    """Where to train; auto takes the best that works."""
    threads: Whole = None
    """CPU threads; 0 takes all."""
    encoder: Text = None
    """Kind of encoder; its settings are shown for the kind that is chosen."""
    motion: Text = None
    """Kind of motion of a flow: offset, se3, invertible or dct."""


@dataclass(frozen=True, kw_only=True)
class ExportOptions(CommonOptions):
    """Lead a mesh through the sequence by a fitted flow: one file a frame, one connectivity."""

    what: Annotated[Positional[str], tyro.conf.arg(metavar="flow")]
    """What to export: flow."""
    run: Run
    """Run folder of an earlier fit."""
    device: Device = None
    """Where to compute; auto takes the best that works."""
    threads: Whole = None
    """CPU threads; 0 takes all."""
    mesh: Text = None
    """Mesh file in the place and units of the first frame; its own mesh by default."""
    export_formats: Annotated[Text, tyro.conf.arg(name="format")] = None
    """Mesh formats, separated by commas: ply, obj, glb."""
