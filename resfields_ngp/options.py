"""The options of each verb, and settings given as ``--table.name value``.

Options are parsed by tyro, whose help shows the docstring under each field. Settings with a dot in
their name are taken out first and checked against the config dataclasses, so that a mistake on
the command line and one in a scene file read the same.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro
from tyro.conf import Positional

from .config_tree import nearest

Options = TypeVar("Options")

SETTING_OF_OPTION = {
    "capture": "capture.path",
    "frames": "capture.frames",
    "cameras": "capture.cameras",
    "test_camera": "capture.test_camera",
    "encoder": "encoder.kind",
    "head": "head.kind",
    "seconds": "training.seconds",
    "steps": "training.steps",
    "seed": "training.seed",
    "device": "training.device",
    "threads": "training.threads",
    "resolution": "meshing.resolution",
    "format": "meshing.formats",
    "mesh_frames": "meshing.frames",
    "mesh_texture": "texturing.kind",
    "target_faces": "meshing.target_faces",
    "watertight": "meshing.watertight",
    "tracking": "meshing.tracking",
    "protocol": "evaluation.protocol",
    "n_frames": "synthetic.n_frames",
    "n_cameras": "synthetic.n_cameras",
    "size": "synthetic.size",
    "texture": "synthetic.texture",
}
"""Short options that stand for a setting, and the setting's dotted name."""

RENAMED = {"mesh_frames": "frames", "mesh_texture": "texture"}
"""Options whose name on the command line is not their field's."""

Text = Annotated[str | None, tyro.conf.arg(metavar="TEXT", help_behavior_hint="")]
Whole = Annotated[str | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")]
Number = Annotated[str | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint="")]
File = Annotated[Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="")]
Capture = Annotated[Positional[str | None], tyro.conf.arg(metavar="CAPTURE", help_behavior_hint="")]
Run = Annotated[Positional[Path], tyro.conf.arg(metavar="RUN")]
Preset = Annotated[
    str | None, tyro.conf.arg(metavar="preview|standard|paper", help_behavior_hint="")
]
Device = Annotated[str | None, tyro.conf.arg(metavar="auto|cpu|cuda", help_behavior_hint="")]
Protocol = Annotated[str | None, tyro.conf.arg(metavar="clean|resfields", help_behavior_hint="")]
Flag = Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help_behavior_hint="")]


class UsageError(ValueError):
    """The command line is not understood; the message says what is."""


@dataclass(frozen=True, kw_only=True)
class CommonOptions:
    """What every verb takes."""

    debug: Flag = False
    """Show the traceback of an error; so does RESFIELDS_NGP_DEBUG=1."""


@dataclass(frozen=True, kw_only=True)
class SceneOptions(CommonOptions):
    """Which settings to begin with."""

    scene: File = None
    """Scene TOML, or the config.json of an earlier run."""
    preset: Preset = None
    """Settings for a quick look, for everyday use, or the paper's."""
    frames: Text = None
    """Frames of the capture, as start:stop:stride; all by default."""
    cameras: Text = None
    """Training cameras by name, separated by commas; all but the test camera by default."""
    test_camera: Text = None
    """Camera held out for evaluation."""


@dataclass(frozen=True, kw_only=True)
class TrainOptions(SceneOptions):
    """Fit a capture and write checkpoints."""

    capture: Capture = None
    """Folder or transforms.json of the capture; may be left out with --scene or --resume."""
    out: Path
    """Run folder to write."""
    resume: Flag = False
    """Go on with the run in --out, with its settings, from its latest checkpoint."""
    overwrite: Flag = False
    """Delete the run in --out first."""
    seconds: Number = None
    """Wall time of training, seconds; every schedule is stretched to fit it."""
    steps: Whole = None
    """Steps of training, in place of --seconds."""
    seed: Whole = None
    """Seed of every random draw."""
    device: Device = None
    """Where to train; auto takes the best that works."""
    threads: Whole = None
    """CPU threads."""
    encoder: Text = None
    """Kind of encoder; its settings are shown for the kind that is chosen."""
    head: Text = None
    """Kind of head; its settings are shown for the kind that is chosen."""


@dataclass(frozen=True, kw_only=True)
class ReconstructOptions(TrainOptions):
    """Inspect, train, mesh, render and evaluate a capture in one go."""

    resolution: Whole = None
    """Mesh cells along the longest side of model space."""
    format: Text = None
    """Mesh formats, separated by commas: ply, obj, glb."""
    protocol: Protocol = None
    """Figures to report: clean, or the official code's conventions beside them."""


@dataclass(frozen=True, kw_only=True)
class RunOptions(CommonOptions):
    """What works on a run that is there."""

    run: Run
    """Run folder of an earlier train or reconstruct."""
    device: Device = None
    """Where to compute; auto takes the best that works."""
    threads: Whole = None
    """CPU threads."""


@dataclass(frozen=True, kw_only=True)
class MeshOptions(RunOptions):
    """Extract one mesh per frame from a run; finished frames are skipped.

    With --texture uv they are written to RUN/textured, named as Owlii's sequences are.
    """

    mesh_frames: Annotated[Text, tyro.conf.arg(name="frames")] = None
    """Frames to mesh among those fitted, as start:stop:stride."""
    resolution: Whole = None
    """Mesh cells along the longest side of model space."""
    format: Text = None
    """Mesh formats, separated by commas: ply, obj, glb and, with a texture, usd."""
    mesh_texture: Annotated[
        Text, tyro.conf.arg(name="texture", metavar="none|uv", help_behavior_hint="")
    ] = None
    """uv: a texture for each frame, baked from the training cameras' images."""
    target_faces: Annotated[
        Text, tyro.conf.arg(metavar="20k|40k|100k|full|INT", help_behavior_hint="")
    ] = None
    """Triangles left of each mesh."""
    watertight: Flag = False
    """Refuse frames whose mesh is not a closed 2-manifold; sheets that touch are parted first."""
    tracking: Annotated[Text, tyro.conf.arg(metavar="none|group", help_behavior_hint="")] = None
    """group: frames in groups share connectivity and texture coordinates."""


@dataclass(frozen=True, kw_only=True)
class RenderOptions(RunOptions):
    """Render the held-out camera, the training cameras and an orbit of a run."""


@dataclass(frozen=True, kw_only=True)
class EvalOptions(RunOptions):
    """Compute the figures of a run: PSNR, SSIM, Chamfer, normal consistency, F-score."""

    protocol: Protocol = None
    """Figures to report: clean, or the official code's conventions beside them."""
    roundtrip: Flag = False
    """Render the textured export from the capture's cameras and compare with its images instead."""


@dataclass(frozen=True, kw_only=True)
class InspectOptions(SceneOptions):
    """Check a capture before any training: counts, memory, visual hull, a reprojection picture."""

    capture: Capture = None
    """Folder or transforms.json of the capture."""
    out: File = None
    """Folder for the report and the reprojection picture; none is written by default."""


@dataclass(frozen=True, kw_only=True)
class SynthOptions(CommonOptions):
    """Write the synthetic capture: a textured figure that walks and waves, with exact truth."""

    out: Annotated[Positional[Path], tyro.conf.arg(metavar="FOLDER")]
    """Folder to write, in the ResFields layout."""
    overwrite: Flag = False
    """Delete the synthetic capture that is there first."""
    n_frames: Whole = None
    """Frames in the sequence."""
    n_cameras: Whole = None
    """Training cameras."""
    size: Whole = None
    """Width and height of the images, pixels."""
    texture: Annotated[str | None, tyro.conf.arg(metavar="cloth|white", help_behavior_hint="")] = (
        None
    )
    """What the figure wears."""


@dataclass(frozen=True, kw_only=True)
class DoctorOptions(CommonOptions):
    """Say what can run on this machine, and the line that mends what cannot."""


def split_settings(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Takes ``--table.name value`` and ``--table.name=value`` out of a command line.

    A setting followed by another option, or by nothing, is a switch that is turned on.

    Returns:
        The other arguments, and dotted name to text.

    >>> split_settings(["in", "--encoder.n-levels", "14", "--out", "run", "--hull.stabilise"])
    (['in', '--out', 'run'], {'encoder.n_levels': '14', 'hull.stabilise': 'true'})
    """
    others: list[str] = []
    settings: dict[str, str] = {}
    rest = list(arguments)
    while rest:
        token = rest.pop(0)
        name, has_value, value = token.partition("=")
        if not (name.startswith("--") and "." in name):
            others.append(token)
            continue
        if not has_value:
            value = rest.pop(0) if rest and not rest[0].startswith("--") else "true"
        settings[name[2:].replace("-", "_")] = value
    return others, settings


def parse_options(kind: type[Options], verb: str, arguments: Sequence[str]) -> Options:
    """Returns a verb's options.

    Raises:
        UsageError: An option is unknown, or one that is needed is missing.
    """
    _check_names(kind, verb, arguments)
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(kind, prog=f"resfields-ngp {verb}", args=list(arguments))
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UsageError(_one_line(complaint.getvalue())) from None


def print_help(kind: type, verb: str, config: Any) -> None:
    """Prints a verb's options and, where it takes settings, those of a config with their values.

    Args:
        kind: The verb's options class.
        verb: Its name.
        config: A dataclass of tables, or None.
    """
    shown: Any = kind
    if config is not None:
        settings = Annotated[
            type(config),
            tyro.conf.arg(name=""),
            tyro.conf.AvoidSubcommands,
            tyro.conf.FlagConversionOff,
        ]
        shown = dataclasses.make_dataclass(
            kind.__name__, [("settings", settings, config)], bases=(kind,), frozen=True
        )
        shown.__doc__ = kind.__doc__
    about = kind.__doc__ or ""
    if config is not None:
        about += "\n\nItems of a list are separated by commas: --table.name a,b"
    with contextlib.suppress(SystemExit):
        tyro.cli(shown, prog=f"resfields-ngp {verb}", description=about, args=["--help"])
    sys.stdout.flush()


def named_settings(options: Any) -> dict[str, str]:
    """Returns the settings, dotted name to text, that a verb's short options stand for."""
    given = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
    return {
        SETTING_OF_OPTION[name]: "true" if value is True else value
        for name, value in given.items()
        if name in SETTING_OF_OPTION and value is not None and value is not False
    }


def _check_names(kind: type, verb: str, arguments: Sequence[str]) -> None:
    fields = [field.name for field in dataclasses.fields(kind)]
    names = [RENAMED.get(name, name) for name in fields]
    for token in arguments:
        name = token.partition("=")[0][2:].replace("-", "_")
        if token.startswith("--") and name not in (*names, "help", ""):
            hint = nearest(name, names).replace('"', '"--', 1).replace("_", "-")
            raise UsageError(
                f'unknown option "{token.partition("=")[0]}"{hint}'
                f" (see resfields-ngp {verb} --help)"
            )


def _one_line(box: str) -> str:
    """Returns the text of a message drawn in a box."""
    text = " ".join(re.sub(r"[\u2500-\u257f\u2022]", " ", box).split())
    return text.partition(" For full helptext")[0]
