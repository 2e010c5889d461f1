"""One mesh a frame from a reconstruction, as files with a manifest; what is there is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from .datasets.selection import select_frames
from .extraction import MeshingConfig, extract_mesh
from .frame_jobs import Made, MeshingError, Plan, check_faults, make_group, manifest_settings
from .manifest import Manifest
from .mesh_files import write_mesh
from .surfaces import FittedSurfaces
from .tracking import FrameMesh

if TYPE_CHECKING:
    from .config import Config
    from .reconstruction import Reconstruction

__all__ = ["MeshingConfig", "MeshingError", "export_meshes", "extract_mesh"]


def export_meshes(
    reconstruction: Reconstruction | FittedSurfaces,
    run: Path,
    config: MeshingConfig,
    source: str = "",
    report: Callable[[int, int], None] | None = None,
    settings: Config | None = None,
) -> list[Path]:
    """Writes ``meshes/%06d.<format>`` for each frame and ``manifest.json``; done frames are
    skipped.

    Args:
        reconstruction: What was fitted.
        run: The run folder.
        config: How.
        source: Names the weights, such as the checkpoint's step. Meshes of another source or of
            other settings are made again.
        report: Called with the number of frames done and of all frames.
        settings: All settings of a run whose folder holds what was fitted: then several processes
            open it and share the frames.

    Returns:
        The files of the frames asked for, in order of frames; the first format of each.

    Raises:
        MeshingError: Frames without a surface, or not closed where that is asked for, after all
            others were written.
        ValueError: A format that needs a texture, or frames that were not fitted.
        OSError: A file could not be written; those before it are whole.
    """
    if "usd" in config.formats:
        raise ValueError("meshing.formats: usd is written with a texture only; add --texture uv")
    frames = select_frames(config.frames, reconstruction.n_frames, "meshing.frames")
    manifest = Manifest.open(run, reconstruction, manifest_settings(source, config))
    writer = _PlainWriter(run, config)
    plan = Plan.of(frames, reconstruction.frame_numbers, config, manifest, writer.paths)
    if settings is None:
        found = (make_group(reconstruction, config, writer, job) for job in plan.jobs)
    else:
        found = _shared(plan, cast("Reconstruction", reconstruction), run, settings)
    faults = plan.carry_out(found, manifest, report)
    check_faults(faults, run, len(frames))
    return [writer.paths(reconstruction.frame_numbers[frame])[0] for frame in frames]


def _shared(
    plan: Plan, reconstruction: Reconstruction, run: Path, settings: Config
) -> Iterator[list[Made]]:
    """Yields what the jobs of a plan make, by several processes where that helps."""
    from .workers import Export, made

    writing = partial(_plain_writer, run=run, config=settings.meshing)
    return made(plan.jobs, reconstruction, Export(run, settings, writing))


def _plain_writer(reconstruction: Reconstruction, run: Path, config: MeshingConfig) -> _PlainWriter:
    return _PlainWriter(run, config)


class _PlainWriter:
    """Writes meshes with vertex colours; see `frame_jobs.FrameWriter`."""

    def __init__(self, run: Path, config: MeshingConfig) -> None:
        self._run, self._formats = run, config.formats

    def paths(self, number: int) -> list[Path]:
        """Returns a frame's files."""
        return [self._run / "meshes" / f"{number:06d}.{suffix}" for suffix in self._formats]

    def write(self, number: int, found: FrameMesh) -> list[Path]:
        """Writes a frame's files."""
        for path in self.paths(number):
            write_mesh(found.mesh, path)
        return self.paths(number)
