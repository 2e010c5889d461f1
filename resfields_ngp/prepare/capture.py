"""Meshes to a capture: look at all frames, place the cameras, render, in as many processes as
there are cores. What is there already is kept, so that an interrupted run goes on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..cameras import Cameras
from ..config_tree import to_table
from ..datasets.layout import CAMERA_FILE, write_cameras, write_cloud
from ..datasets.selection import select_frames
from ..options import UsageError
from ..sequences import MeshSequence, SequenceError, find_unit, open_sequence
from ..writing import write_whole
from .clouds import sample_surface
from .config import PrepareConfig
from .folder import CaptureFolder
from .pictures import render_mesh
from .raycasting import RayCaster
from .rigs import Rig, read_rig, ring, to_json, unit_sphere
from .shading import ShadedMesh
from .survey import FrameSurvey, SurveyJob, describe, survey_frame
from .workers import Report, run_jobs

CHANNELS = ("rgb", "mask", "depth")

Counting = Callable[[str], AbstractContextManager[Report]]
"""Given what is counted, shows progress while it is."""


@dataclass(frozen=True)
class Working:
    """How the work is done, which changes nothing of the result."""

    n_workers: int
    """Processes."""
    counting: Counting
    """Shows progress."""
    stop: Callable[[], object]
    """Whether somebody asked to stop."""
    say: Callable[[str], None]
    """Tells the user a line."""


@dataclass(frozen=True)
class FrameJob:
    """One frame to render from all cameras."""

    config: PrepareConfig
    """What pictures look like."""
    sequence: MeshSequence
    """Which meshes."""
    index: int
    """Position of the mesh in the sequence."""
    frame: int
    """Number of the frame in the capture."""
    metres: float
    """Metres per unit of the mesh."""
    cameras: dict[str, Cameras]
    """By name, this frame's only."""
    world_from_normalised: np.ndarray
    """(4, 4) unit sphere."""
    out: Path
    """The capture."""


def prepare_meshes(
    config: PrepareConfig, out: Path, overwrite: bool, working: Working
) -> CaptureFolder:
    """Writes the capture of a mesh sequence.

    Args:
        config: What and how.
        out: The capture's folder.
        overwrite: Delete a prepared capture that is there first.
        working: Processes and progress.

    Raises:
        SequenceError: The meshes are not usable.
        CaptureError: The rig or the selection of frames is not.
        UsageError: The folder holds something else.
        Stopped: Somebody asked to stop; the same call goes on.
        OSError: The folder is not writable or the disk is full.
    """
    CaptureFolder.check_apart(out, (config.sequence.path, config.rig.path))
    sequence = open_sequence(config.sequence)
    n_all = len(sequence.frame_numbers)
    frames = select_frames(config.sequence.frames, n_all, config.sequence.path)
    folder = CaptureFolder.open(out, _settings(config, sequence), overwrite)
    surveys = _surveys(folder, sequence, frames, working)
    working.say(f"{sequence.name}: {len(frames)} frames of {n_all}")
    heights = [each.height(config.sequence.up) for each in surveys]
    metres, sentence = find_unit(heights, config.sequence.unit, sequence.name)
    for line in (sentence, *sequence.notes, *describe(surveys)):
        working.say(line)
    boxes = metres * np.array([each.bounds for each in surveys])
    rig = _rig(config, frames, n_all, unit_sphere(boxes))
    _check_reach(rig, sequence.name)
    _write_rig(folder, rig)
    folder.add_to_record(_facts(config, sequence, metres, sentence, rig))
    jobs = _frame_jobs(config, sequence, frames, metres, rig, out)
    with working.counting("frames") as report:
        notes = run_jobs(render_frame, jobs, working.n_workers, report, working.stop)
    for note in dict.fromkeys(note for each in notes for note in each):
        working.say(note)
    return folder


def _frame_jobs(
    config: PrepareConfig,
    sequence: MeshSequence,
    frames: Sequence[int],
    metres: float,
    rig: Rig,
    out: Path,
) -> list[FrameJob]:
    return [
        FrameJob(
            config,
            sequence,
            index,
            frame,
            metres,
            {name: each.frame_subset([frame]) for name, each in rig.cameras.items()},
            rig.world_from_normalised,
            out,
        )
        for frame, index in enumerate(frames)
    ]


def render_frame(job: FrameJob) -> list[str]:
    """Writes a frame's pictures and cloud, but for those that are there.

    Returns:
        What the pictures do not show as the files say.

    Raises:
        SequenceError: The mesh cannot be read.
        OSError: The folder is not writable or the disk is full.
    """
    folder = CaptureFolder(job.out)
    missing = [name for name in job.cameras if not folder.has(name, job.frame, CHANNELS)]
    n_points = job.config.clouds.points
    needs_cloud = n_points > 0 and not folder.cloud(job.frame).is_file()
    if not missing and not needs_cloud:
        return []
    mesh = job.sequence.read(job.index)
    mesh = dataclasses.replace(mesh, vertices=job.metres * mesh.vertices)
    picture_config = job.config.picture
    shaded = ShadedMesh(mesh, picture_config.lamp_direction, picture_config.ambient)
    caster = RayCaster(mesh.vertices, mesh.faces)
    for name in missing:
        picture = render_mesh(shaded, caster, job.cameras[name], 0, picture_config.samples)
        image = picture.image(picture_config)
        folder.write(name, job.frame, image, picture.mask, picture.depths)
    if needs_cloud:
        _write_cloud(job, folder, shaded, caster)
    n_bare = shaded.n_without_uv
    number = job.sequence.frame_numbers[job.index]
    bare = f"frame {number}: {n_bare} faces have no place in the texture and show its mean colour"
    return [bare] if n_bare else []


def _write_cloud(
    job: FrameJob, folder: CaptureFolder, shaded: ShadedMesh, caster: RayCaster
) -> None:
    clouds, matrix = job.config.clouds, job.world_from_normalised
    random = np.random.default_rng((clouds.seed, job.frame))
    points, normals = sample_surface(
        shaded, caster, clouds.points, clouds.surface == "visible", random
    )
    write_cloud(folder.cloud(job.frame), (points - matrix[:3, 3]) / matrix[0, 0], normals)


def _settings(config: PrepareConfig, sequence: MeshSequence) -> dict[str, Any]:
    """Returns what decides the result; where the files lie does not."""
    table = to_table(config)
    del table["sequence"]["path"], table["rig"]["path"]
    return {**table, "files": sequence.stamp(), "version": __version__}


def _surveys(
    folder: CaptureFolder, sequence: MeshSequence, frames: Sequence[int], working: Working
) -> list[FrameSurvey]:
    """Returns what each frame is like, from an earlier run's record where there is one."""
    stored = folder.record().get("meshes")
    if stored is not None:
        return [FrameSurvey.from_table(table) for table in stored]
    jobs = [SurveyJob(sequence, index) for index in frames]
    with working.counting("meshes") as report:
        surveys = run_jobs(survey_frame, jobs, working.n_workers, report, working.stop)
    folder.add_to_record({"meshes": [each.to_table() for each in surveys]})
    return surveys


def _rig(config: PrepareConfig, frames: Sequence[int], n_all: int, sphere: np.ndarray) -> Rig:
    if config.rig.path:
        return read_rig(Path(config.rig.path), frames, n_all, sphere)
    return ring(config.rig, len(frames), sphere, config.sequence.up)


def _check_reach(rig: Rig, where: str) -> None:
    """Checks that depth images hold all distances.

    Raises:
        SequenceError: They do not: the unit is not metres.
    """
    centre, radius = rig.world_from_normalised[:3, 3], rig.world_from_normalised[0, 0]
    for name, cameras in rig.cameras.items():
        reach = np.linalg.norm(cameras.world_from_camera[:, :3, 3] - centre, axis=1).max() + radius
        if reach > 65.5:
            raise SequenceError(
                f"{where}: {name} sees as far as {reach:.0f} m, where depth images reach 65.5; "
                "check the unit: --unit auto|m|dm|cm|mm, or metres per unit"
            )


def _write_rig(folder: CaptureFolder, rig: Rig) -> None:
    """Writes the cameras.

    Raises:
        UsageError: The folder was begun with others.
    """
    path, content = folder.path / "rig.json", to_json(rig)
    if path.is_file() and path.read_bytes() != content:
        raise UsageError(f"{path}: prepared with other cameras; pass --overwrite")
    for name, cameras in rig.cameras.items():
        write_cameras(folder.path / name / CAMERA_FILE, cameras, rig.world_from_normalised)
    write_whole(path, content)


def _facts(
    config: PrepareConfig, sequence: MeshSequence, metres: float, sentence: str, rig: Rig
) -> dict[str, Any]:
    """Returns what ``capture.json`` tells its readers."""
    return {
        "source": sequence.name,
        "units": "metres",
        "source_unit": sentence,
        "metres_per_source_unit": metres,
        "up": f"+{config.sequence.up}",
        "cameras": list(rig.cameras),
        "depth": "distance along the ray through the pixel's centre, metres x 1000; 0: none",
        "mask": "255 where half of the pixel or more is covered",
        "notes": list(sequence.notes),
    }
