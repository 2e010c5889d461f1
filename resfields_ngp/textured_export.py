"""The textured export of a run: frames in parallel, a USD sequence, flicker, and a manifest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from .config import Config
from .datasets.base import Capture, CaptureConfig, View
from .datasets.selection import select_frames
from .extras import required
from .flicker import measure_flicker
from .frame_jobs import Plan, check_faults, manifest_settings
from .manifest import Manifest, read_manifest
from .orbit import mean_up
from .texturing import FOLDER, MESH_SUFFIXES, FrameNames, TexturedWriter, axes, read_export
from .usd import require_usd, write_usd_sequence
from .workers import Export, made

if TYPE_CHECKING:
    from .reconstruction import Reconstruction


@dataclass(frozen=True)
class Texturing:
    """How a run's textured meshes are written."""

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


def textured_writer(reconstruction: Reconstruction, texturing: Texturing) -> TexturedWriter:
    """Returns what writes a run's textured meshes, its images loaded frame by frame."""

    def views(number: int) -> Sequence[View]:
        return capture_at(texturing.config.capture, number).views

    settings = texturing.config.texturing
    return TexturedWriter(reconstruction, views, texturing.names, settings, texturing.up)


def capture_at(config: CaptureConfig, number: int) -> Capture:
    """Loads one frame of a capture; nothing else is kept in memory."""
    from .datasets import load_capture

    return load_capture(replace(config, frames=f"{number}:{number + 1}"))


def export_textured(
    reconstruction: Reconstruction,
    run: Path,
    config: Config,
    source: str = "",
    report: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Writes ``textured/NAME_%08d.*`` for each frame, and ``textured/manifest.json``.

    Frames that are there, of the same weights and settings, are kept. With usd there is a
    ``NAME.usdc`` too that plays all frames.

    Args:
        reconstruction: What was fitted.
        run: The run folder; worker processes load it again.
        config: All settings of the run.
        source: Names the weights, such as the checkpoint's step.
        report: Called with the number of frames done and of all frames.

    Returns:
        The meshes of the frames asked for, in order; the first format of each.

    Raises:
        MeshingError: Frames without a surface, or not closed where that is asked for, after all
            others were written.
        ImportError: usd or draco is asked for and its package is not installed.
        CaptureError: The capture is gone or damaged.
        OSError: A file could not be written; those before it are whole.
    """
    if "usd" in config.meshing.formats:
        require_usd()
    if config.texturing.draco and "glb" in config.meshing.formats:
        required("DracoPy")
    frames = select_frames(config.meshing.frames, reconstruction.n_frames, "meshing.frames")
    numbers = [reconstruction.frame_numbers[frame] for frame in frames]
    capture = capture_at(config.capture, numbers[0])
    texturing = Texturing(
        run,
        config,
        config.texturing.name or capture.name.replace(" ", "_"),
        axes(mean_up([view.cameras for view in capture.views])),
    )
    manifest = _opened(reconstruction, texturing, source)
    paths = texturing.names.paths
    plan = Plan.of(frames, reconstruction.frame_numbers, config.meshing, manifest, paths)
    writing = partial(textured_writer, texturing=texturing)
    export = Export(run, config, writing)
    faults = plan.carry_out(made(plan.jobs, reconstruction, export), manifest, report)
    failed = {each.number for each in faults}
    done = [number for number in numbers if number not in failed]
    if plan.jobs or not _is_complete(texturing):
        _complete(texturing, manifest, done)
    check_faults(faults, run, len(frames))
    return [paths(number)[0] for number in done]


def _opened(reconstruction: Reconstruction, texturing: Texturing, source: str) -> Manifest:
    config, names = texturing.config, texturing.names
    settings = manifest_settings(source, config.meshing) | {"texturing": asdict(config.texturing)}
    facts = {
        "up": texturing.up,
        "up_from": "the mean of the cameras",
        "naming": f"{names.name}_%08d, frame number + 1",
    }
    folder = names.folder
    return Manifest.open(
        folder, reconstruction, settings, lambda number: f"{names.stem(number)}.*", facts
    )


def _sequence_path(texturing: Texturing) -> Path:
    return texturing.names.folder / f"{texturing.name}{MESH_SUFFIXES['usd']}"


def _is_complete(texturing: Texturing) -> bool:
    """Returns whether an earlier call came to what needs all frames."""
    formats = texturing.config.meshing.formats
    has_flicker = "flicker" in read_manifest(texturing.names.folder / "manifest.json")
    return has_flicker and ("usd" not in formats or _sequence_path(texturing).is_file())


def _complete(texturing: Texturing, manifest: Manifest, numbers: Sequence[int]) -> None:
    """Writes what needs all frames: the usd sequence, and how much it flickers."""
    names, formats = texturing.names, texturing.config.meshing.formats
    if "usd" in formats and numbers:
        path = _sequence_path(texturing)
        stems = [(number + 1, names.stem(number)) for number in numbers]
        files = [(code, names.folder / f"{stem}{MESH_SUFFIXES['usd']}") for code, stem in stems]
        write_usd_sequence(files, path, texturing.config.texturing.frames_per_second, texturing.up)
    if {"obj", "glb"} & set(formats) and len(numbers) > 2:
        meshes = (read_export(texturing.run, number) for number in numbers)
        manifest.state(flicker=measure_flicker(meshes))
