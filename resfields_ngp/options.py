"""The options of each verb; tyro's help shows the docstring under each field."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional

SETTING_OF_OPTION = {
    "capture": "capture.path",
    "frames": "capture.frames",
    "cameras": "capture.cameras",
    "test_camera": "capture.test_camera",
    "encoder": "encoder.kind",
    "head": "head.kind",
    "motion": "motion.kind",
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
    "animate": "meshing.animate",
    "input": "input.path",
    "input_frames": "input.frames",
    "fps": "sampling.fps",
    "scale": "sampling.scale",
    "mesh": "export.mesh",
    "export_formats": "export.formats",
    "protocol": "evaluation.protocol",
    "n_frames": "synthetic.n_frames",
    "n_cameras": "synthetic.n_cameras",
    "size": "synthetic.size",
    "texture": "synthetic.texture",
}
"""Short options that stand for a setting, and the setting's dotted name."""

RENAMED = {
    "mesh_frames": "frames",
    "mesh_texture": "texture",
    "input_frames": "frames",
    "export_formats": "format",
    "moved_capture": "capture",
}
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
    data: File = None
    """Folder that the scene's own path lies in."""


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
    """Steps of training, in place of --seconds; 0 leaves it to those."""
    seed: Whole = None
    """Seed of every random draw."""
    device: Device = None
    """Where to train; auto takes the best that works."""
    threads: Whole = None
    """CPU threads; 0 takes all."""
    encoder: Text = None
    """Kind of encoder; its settings are shown for the kind that is chosen."""
    head: Text = None
    """Kind of head; its settings are shown for the kind that is chosen."""
    motion: Text = None
    """Kind of motion: none, latent, offset, se3, se3_ambient, invertible or dct."""


@dataclass(frozen=True, kw_only=True)
class SurfaceOptions:
    """What meshes are to be like."""

    resolution: Whole = None
    """Mesh cells along the longest side of model space."""
    format: Text = None
    """Mesh formats, separated by commas: ply, obj, glb and, with a texture, usd."""
    mesh_texture: Annotated[
        Text, tyro.conf.arg(name="texture", metavar="none|uv", help_behavior_hint="")
    ] = None
    """uv: a texture for each frame, baked from the training cameras' images."""
    target_faces: Annotated[Text, tyro.conf.arg(metavar="full|20k|INT", help_behavior_hint="")] = (
        None
    )
    """Triangles left of each mesh."""
    watertight: Flag = False
    """Refuse frames whose mesh is not a closed 2-manifold; sheets that touch are parted first."""
    tracking: Annotated[Text, tyro.conf.arg(metavar="none|group", help_behavior_hint="")] = None
    """group: frames in groups share connectivity and texture coordinates."""
    animate: Flag = False
    """Join glb files to one as well that plays them."""


@dataclass(frozen=True, kw_only=True)
class ReconstructOptions(SurfaceOptions, TrainOptions):
    """Inspect, train, mesh, render and evaluate a capture in one go.

    With --texture uv meshes with textures are written to OUT/textured besides.
    """

    protocol: Protocol = None
    """Figures to report: clean, or the official code's conventions beside them."""


@dataclass(frozen=True, kw_only=True)
class RunOptions(CommonOptions):
    """What works on a run that is there."""

    run: Run
    """Run folder of an earlier train or reconstruct."""
    moved_capture: Annotated[
        File, tyro.conf.arg(name="capture", metavar="FOLDER", help_behavior_hint="")
    ] = None
    """Where its capture lies now, if it was moved; the run keeps that in mind."""
    device: Device = None
    """Where to compute; auto takes the best that works."""
    threads: Whole = None
    """CPU threads; 0 takes all."""


@dataclass(frozen=True, kw_only=True)
class MeshOptions(SurfaceOptions, RunOptions):
    """Extract one mesh per frame from a run; finished frames are skipped.

    With --texture uv they are written to RUN/textured, named as Owlii's sequences are.
    """

    mesh_frames: Annotated[Text, tyro.conf.arg(name="frames")] = None
    """Frames to mesh among those fitted, as start:stop:stride."""


@dataclass(frozen=True, kw_only=True)
class RenderOptions(RunOptions):
    """Render the held-out camera and an orbit of a run; a fitted video at any size and time."""

    fps: Number = None
    """Frames per second of a fitted video, between those it was fitted to if there are more."""
    scale: Number = None
    """Size of a fitted video's frames, as a multiple of the clip's."""


@dataclass(frozen=True, kw_only=True)
class EvalOptions(RunOptions):
    """Compute the figures of a run: PSNR, SSIM, Chamfer, normal consistency, F-score."""

    protocol: Protocol = None
    """Figures to report: clean, or the official code's conventions beside them."""
    roundtrip: Flag = False
    """Render the textured export from the capture's cameras and compare with its images instead."""


@dataclass(frozen=True, kw_only=True)
class ViewOptions(RunOptions):
    """Look at a run in a web browser: its surfaces frame by frame, its cameras and their images.

    A run that is still training shows its newest checkpoint. It needs resfields-ngp[viewer].
    """

    host: str = "127.0.0.1"
    """Address to listen at; 0.0.0.0 lets other machines look, too."""
    port: int = 8080
    """Port to listen at; the next free one where it is taken."""
    html: File = None
    """Write a page that plays the frames by itself in place of serving one: a single file."""
    look: Literal["colours", "normals", "shape"] = "colours"
    """How surfaces look at first, and in the page."""
    frames_per_second: float = 12.0
    """How fast they play at first, and in the page, 1 or more."""
    cells: int = 128
    """Cells along model space's side of the surfaces of checkpoints, 16 to 1024."""


@dataclass(frozen=True, kw_only=True)
class InspectOptions(SceneOptions):
    """Check a capture before any training: counts, memory, visual hull, a reprojection picture."""

    capture: Capture = None
    """Folder or transforms.json of the capture."""
    out: File = None
    """Folder for the reprojection picture; none is written by default."""


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


@dataclass(frozen=True, kw_only=True)
class ScenesOptions(CommonOptions):
    """List the scene files: known captures, clips and meshes, and what runs them."""

    data: File = None
    """Folder of the data; whether each scene's is there is shown then."""
