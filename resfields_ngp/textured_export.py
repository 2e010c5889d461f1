"""The textured export of a run: frames in parallel, a USD sequence, flicker, and a manifest."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from .config import Config
from .datasets.selection import select_frames
from .draco import require_draco
from .flicker import measure_flicker
from .frame_jobs import Made, Plan, check_faults, make_group, manifest_settings
from .manifest import Manifest, read_manifest
from .orbit import mean_up
from .texturing import MESH_SUFFIXES, axes, read_export
from .usd import require_usd, write_usd_sequence
from .workers import Export, capture_at, made_by_workers, textured_writer

if TYPE_CHECKING:
    from .reconstruction import Reconstruction

GPU_WORKERS = 2
"""Processes that share a GPU, each with a context of its own there."""


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
        require_draco()
    frames = select_frames(config.meshing.frames, reconstruction.n_frames, "meshing.frames")
    numbers = [reconstruction.frame_numbers[frame] for frame in frames]
    capture = capture_at(config.capture, numbers[0])
    export = Export(
        run,
        _as_opened(config, reconstruction),
        config.texturing.name or capture.name.replace(" ", "_"),
        axes(mean_up([view.cameras for view in capture.views])),
    )
    manifest = _opened(reconstruction, export, source)
    paths = export.names.paths
    plan = Plan.of(frames, reconstruction.frame_numbers, config.meshing, manifest, paths)
    faults = plan.carry_out(_made(plan, reconstruction, export), manifest, report)
    failed = {each.number for each in faults}
    done = [number for number in numbers if number not in failed]
    if plan.jobs or not _is_complete(export):
        _complete(export, manifest, done)
    check_faults(faults, run, len(frames))
    return [paths(number)[0] for number in done]


def _made(plan: Plan, reconstruction: Reconstruction, export: Export) -> Iterator[list[Made]]:
    """Yields what the jobs of a plan make, by several processes where that helps."""
    config = export.config
    n_workers = min(config.training.threads or os.cpu_count() or 1, len(plan.jobs))
    if config.training.device == "cuda":
        n_workers = min(n_workers, GPU_WORKERS)
    if n_workers > 1:
        yield from made_by_workers(plan.jobs, export, n_workers)
    else:
        writer = textured_writer(reconstruction, export)
        for job in plan.jobs:
            yield make_group(reconstruction, config.meshing, writer, job)


def _as_opened(config: Config, reconstruction: Reconstruction) -> Config:
    """Returns settings with the device and backend that were chosen: workers choose no others."""
    backend = reconstruction.field.backend
    chosen = replace(config.training, device=backend.device.type, backend=backend.name)
    return replace(config, training=chosen)


def _opened(reconstruction: Reconstruction, export: Export, source: str) -> Manifest:
    config, names = export.config, export.names
    settings = manifest_settings(source, config.meshing) | {"texturing": asdict(config.texturing)}
    facts = {
        "up": export.up,
        "up_from": "the mean of the cameras",
        "naming": f"{names.name}_%08d, frame number + 1",
    }
    folder = names.folder
    return Manifest.open(
        folder, reconstruction, settings, lambda number: f"{names.stem(number)}.*", facts
    )


def _sequence_path(export: Export) -> Path:
    return export.names.folder / f"{export.name}{MESH_SUFFIXES['usd']}"


def _is_complete(export: Export) -> bool:
    """Returns whether an earlier call came to what needs all frames."""
    formats = export.config.meshing.formats
    has_flicker = "flicker" in read_manifest(export.names.folder / "manifest.json")
    return has_flicker and ("usd" not in formats or _sequence_path(export).is_file())


def _complete(export: Export, manifest: Manifest, numbers: Sequence[int]) -> None:
    """Writes what needs all frames: the usd sequence, and how much it flickers."""
    names, formats = export.names, export.config.meshing.formats
    if "usd" in formats and numbers:
        path = _sequence_path(export)
        stems = [(number + 1, names.stem(number)) for number in numbers]
        files = [(code, names.folder / f"{stem}{MESH_SUFFIXES['usd']}") for code, stem in stems]
        write_usd_sequence(files, path, export.config.texturing.frames_per_second, export.up)
    if {"obj", "glb"} & set(formats) and len(numbers) > 2:
        meshes = (read_export(export.run, number) for number in numbers)
        manifest.state(flicker=measure_flicker(meshes))
