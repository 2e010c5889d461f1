"""Frames made in groups, restartably: what is missing, who writes it, and which frames failed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .extraction import MeshingConfig
from .manifest import Manifest
from .manifold import is_watertight
from .mesh import statistics
from .spans import spans
from .tracking import FrameMesh, frame_groups, group_meshes

if TYPE_CHECKING:
    from .reconstruction import Reconstruction
    from .surfaces import FittedSurfaces


class MeshingError(ValueError):
    """Some frames have no surface, or none that is closed; the message names them."""


class FrameWriter(Protocol):
    """Turns a frame's mesh into files."""

    def paths(self, number: int) -> list[Path]:
        """Returns the files that a frame has once it is done."""
        ...

    def write(self, number: int, found: FrameMesh) -> list[Path]:
        """Writes and returns them."""
        ...


@dataclass(frozen=True)
class Job:
    """Frames to be meshed together."""

    frames: tuple[int, ...]
    """All frames of the group, indices among those fitted."""
    missing: tuple[int, ...]
    """Those whose files are not there yet."""


@dataclass(frozen=True)
class Made:
    """What became of a frame."""

    number: int
    """The capture's own number."""
    paths: tuple[Path, ...]
    """Its files; none where it failed."""
    row: dict[str, Any]
    """What the manifest says of it."""
    fault: str = ""
    """Why it failed: empty or open."""


@dataclass(frozen=True)
class Plan:
    """The groups that have something missing."""

    jobs: tuple[Job, ...]
    """In order of frames."""
    n_frames: int
    """Frames asked for."""

    @staticmethod
    def of(
        frames: Sequence[int],
        numbers: Sequence[int],
        config: MeshingConfig,
        manifest: Manifest,
        paths: Callable[[int], list[Path]],
    ) -> Plan:
        """Finds what is missing, and removes what other weights or settings made of it.

        Args:
            frames: Indices among those fitted.
            numbers: The capture's own number of each frame fitted.
            config: How frames are grouped.
            manifest: What is there.
            paths: The files of a frame by its number.
        """
        jobs = []
        for group in frame_groups(frames, config):
            missing = [f for f in group if not manifest.has(numbers[f], paths(numbers[f]))]
            for frame in missing:
                manifest.drop_outdated(numbers[frame])
            if missing:
                jobs.append(Job(tuple(group), tuple(missing)))
        return Plan(tuple(jobs), len(frames))

    def carry_out(
        self,
        made: Iterable[Sequence[Made]],
        manifest: Manifest,
        report: Callable[[int, int], None] | None = None,
    ) -> list[Made]:
        """Lists what the jobs made, as it comes, and returns the frames that failed."""
        done = self.n_frames - sum(len(job.missing) for job in self.jobs)
        faults = []
        if report is not None:
            report(done, self.n_frames)
        for rows in made:
            for each in rows:
                if each.fault:
                    faults.append(each)
                else:
                    manifest.add(each.number, each.paths, each.row)
            done += len(rows)
            if report is not None:
                report(done, self.n_frames)
        return faults


def make_group(
    reconstruction: Reconstruction | FittedSurfaces,
    config: MeshingConfig,
    writer: FrameWriter,
    job: Job,
) -> list[Made]:
    """Meshes a group of frames and writes those that are missing."""
    made = []
    for found in group_meshes(reconstruction, job.frames, config):
        if found.frame not in job.missing:
            continue
        number = reconstruction.frame_numbers[found.frame]
        row = described(found, reconstruction)
        fault = "empty" if found.mesh.n_faces == 0 else ""
        if config.watertight and not fault and not row["watertight"]:
            fault = "open"
        paths = () if fault else tuple(writer.write(number, found))
        made.append(Made(number, paths, row, fault))
        if len(made) == len(job.missing):
            break
    return made


def described(found: FrameMesh, reconstruction: Reconstruction | FittedSurfaces) -> dict[str, Any]:
    """Returns what the manifest says of a frame's mesh."""
    row = asdict(statistics(found.mesh)) | {"watertight": is_watertight(found.mesh)}
    row["model_offset"] = np.asarray(reconstruction.space.offsets[found.frame]).tolist()
    if found.is_tracked:
        row["key"] = reconstruction.frame_numbers[found.key]
        row |= {"flips": found.flips, "residual": found.residual}
    return row


def manifest_settings(source: str, config: MeshingConfig) -> dict[str, Any]:
    """Returns what meshes depend on, for the manifest's header."""
    settings = {"source": source, **asdict(config)}
    for irrelevant in ("frames", "formats", "animate"):
        del settings[irrelevant]
    return settings


def check_faults(faults: Sequence[Made], run: Path, n_frames: int) -> None:
    """Raises where frames failed.

    Raises:
        MeshingError: Names them and what helps.
    """
    for fault, problem, remedy in _FAULTS:
        found = [each.number for each in faults if each.fault == fault]
        if found:
            others = "" if len(found) == n_frames else ", the others were meshed"
            raise MeshingError(
                f"{run}: {problem} in frames {spans(found)} ({len(found)} of {n_frames}){others}; "
                f"{remedy}"
            )


_FAULTS = (
    (
        "empty",
        "no surface",
        "train for longer, look at these frames' masks with `inspect`, or, without masks, take "
        "--head nerf",
    ),
    (
        "open",
        "the mesh is not a closed 2-manifold",
        "choose another meshing.resolution or more target_faces, or leave out --watertight",
    ),
)
