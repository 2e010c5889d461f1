"""The textured export of a run: frames in parallel, a USD sequence, flicker, and a manifest."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .config import Config
from .flicker import measure_flicker
from .frame_jobs import Plan, check_faults, make_group, manifest_settings
from .manifest import Manifest
from .meshing import selected_frames
from .orbit import mean_up
from .texturing import FOLDER, MESH_SUFFIXES, FrameNames, axes, read_export, texture_settings
from .workers import made_by_workers, textured_writer, views_at

if TYPE_CHECKING:
    from .reconstruction import Reconstruction


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
        ImportError: usd is asked for and usd-core is not installed.
        CaptureError: The capture is gone or damaged.
        OSError: A file could not be written; those before it are whole.
    """
    if "usd" in config.meshing.formats:
        from .usd import require_usd

        require_usd()
    name = config.texturing.name or Path(config.capture.path).name.replace(" ", "_")
    frames = selected_frames(config.meshing.frames, reconstruction.n_frames)
    numbers = [reconstruction.frame_numbers[frame] for frame in frames]
    names = FrameNames(run / FOLDER, name, config.meshing.formats, config.texturing.picture)
    views = views_at(config.capture, numbers[0])
    up = axes(mean_up([view.cameras for view in views]))
    manifest = _opened(reconstruction, config, source, names, up)
    plan = Plan.of(frames, reconstruction.frame_numbers, config.meshing, manifest, names.paths)
    n_workers = min(config.training.threads or os.cpu_count() or 1, len(plan.jobs))
    if n_workers > 1:
        made = made_by_workers(plan.jobs, run, config, name, n_workers)
    else:
        writer = textured_writer(reconstruction, run, config, name)
        made = (make_group(reconstruction, config.meshing, writer, job) for job in plan.jobs)
    faults = plan.carry_out(made, manifest, report)
    done = [number for number in numbers if number not in {each.number for each in faults}]
    if "usd" in config.meshing.formats and done:
        _write_sequence(names, done, config.texturing.frames_per_second, up)
    if {"obj", "glb"} & set(config.meshing.formats) and len(done) > 2:
        manifest.state(flicker=measure_flicker(read_export(run, number) for number in done))
    check_faults(faults, run, len(frames))
    return [names.paths(number)[0] for number in done]


def _opened(
    reconstruction: Reconstruction, config: Config, source: str, names: FrameNames, up: str
) -> Manifest:
    settings = manifest_settings(source, config.meshing)
    facts: dict[str, Any] = {
        "up": up,
        "up_from": "the mean of the cameras",
        "naming": f"{names.name}_%08d, frame number + 1",
    }
    return Manifest.open(
        names.folder,
        reconstruction,
        texture_settings(source, settings, config.texturing),
        lambda number: f"{names.stem(number)}.*",
        facts,
    )


def _write_sequence(names: FrameNames, numbers: list[int], speed: float, up: str) -> None:
    from .usd import write_usd_sequence

    suffix = MESH_SUFFIXES["usd"]
    files = [(number + 1, names.base(number).with_suffix(suffix)) for number in numbers]
    path = names.folder / f"{names.name}{suffix}"
    write_usd_sequence(files, path, speed, "Z" if up.endswith("z") else "Y")
