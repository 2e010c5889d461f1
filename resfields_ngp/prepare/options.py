"""The options of ``prepare owlii``, ``prepare meshes`` and ``prepare video``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import tyro
from tyro.conf import Positional

from ..options import CommonOptions, Flag, Number, Text, Whole

Sequence = Annotated[Positional[Path], tyro.conf.arg(metavar="SEQUENCE")]
Footage = Annotated[Positional[Path], tyro.conf.arg(metavar="FOOTAGE")]
Lighting = Annotated[str | None, tyro.conf.arg(metavar="none|lambert", help_behavior_hint="")]


@dataclass(frozen=True, kw_only=True)
class PrepareOptions(CommonOptions):
    """What every kind of ``prepare`` takes."""

    out: Path
    """Folder of the capture to write; one that was interrupted is gone on with."""
    overwrite: Flag = False
    """Delete the prepared capture in --out first."""
    frames: Text = None
    """Frames to use, as start:stop:stride over the files in the order of their numbers."""
    workers: int = 0
    """Processes; 0 takes all cores."""


@dataclass(frozen=True, kw_only=True)
class PrepareMeshesOptions(PrepareOptions):
    """Render a sequence of meshes (OBJ, PLY, GLB) or an animated GLB as a multi-view capture."""

    SETTING_OF_OPTION: ClassVar[dict[str, str]] = {
        "frames": "sequence.frames",
        "unit": "sequence.unit",
        "animation": "sequence.animation",
        "fps": "sequence.fps",
        "rig": "rig.path",
        "views": "rig.views",
        "size": "rig.size",
        "fov": "rig.fov",
        "samples": "picture.samples",
        "lighting": "picture.lighting",
        "background": "picture.background",
    }

    sequence: Sequence
    """Folder with one file a frame, or an animated .glb or .gltf."""
    unit: Text = None
    """auto finds it from the figure's height; or m, dm, cm, mm, or a number, metres per unit."""
    rig: Text = None
    """A rig.json, or a capture whose cameras are taken, in place of a ring."""
    views: Whole = None
    """Training cameras in the ring: 4, 8, 10 or any number."""
    size: Whole = None
    """Width and height of the images, pixels."""
    fov: Number = None
    """Field of view of the ring's cameras, degrees."""
    samples: Whole = None
    """Rays a pixel: 1, 4, 9, 16, ..."""
    lighting: Lighting = None
    """none: the texture's own colours; lambert: shaded by a lamp."""
    background: Text = None
    """Colour behind the figure, three numbers from 0 to 1 separated by commas."""
    animation: Text = None
    """Animation of a glTF file, by name; the first by default."""
    fps: Number = None
    """Frames per second of an animation."""


@dataclass(frozen=True, kw_only=True)
class PrepareOwliiOptions(PrepareMeshesOptions):
    """Render a raw Owlii sequence (OBJ, MTL and PNG a frame) as a multi-view capture."""

    sequence: Sequence
    """Folder with NAME_%08d.obj, as published, or NAME_fr%04d.obj, as in MPEG's test sets."""


@dataclass(frozen=True, kw_only=True)
class PrepareVideoOptions(PrepareOptions):
    """Bring calibrated multi-view footage into the capture layout, with masks."""

    SETTING_OF_OPTION: ClassVar[dict[str, str]] = {
        "frames": "footage.frames",
        "cameras": "footage.cameras",
        "test_camera": "footage.test_camera",
        "longest": "footage.longest",
        "plates": "matting.plates",
    }

    footage: Footage
    """Folder with calibration.csv (ActorsHQ), intri.yml and extri.yml (EasyVolcap),
    transform_<frame>.json (NeuS2), sparse/0 (COLMAP) or poses_bounds.npy (Neural 3D Video)."""
    cameras: Text = None
    """Training cameras by name, separated by commas; all but the held-out one by default."""
    test_camera: Text = None
    """Camera to hold out, written as cam_test."""
    longest: Whole = None
    """Longer side of the written images, pixels."""
    plates: Text = None
    """Folder with a picture of the empty stage for each camera: masks are the difference."""
