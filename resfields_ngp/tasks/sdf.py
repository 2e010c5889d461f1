"""The task of a moving surface: the signed distance to the meshes of a sequence."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch

from ..backends import Backend
from ..datasets.meshes import MeshesConfig, MeshSequence, load_meshes
from ..encoders import EncoderConfig, HashGridConfig
from ..field import NetworkConfig, SurfaceField
from ..gltf_sequence import animate
from ..heads import SdfConfig
from ..losses import distance_loss
from ..meshing import MeshingConfig, export_meshes
from ..model_space import ModelSpace
from ..records import StepResult
from ..resfield import ResFieldConfig
from ..run_folder import RunFolder
from ..schedules import ScheduleConfig
from ..signed_distances import MeshDistance
from ..surface_evaluation import SurfaceScoresConfig, evaluate_surfaces
from ..surface_pictures import write_surface_comparison
from ..surface_points import PointConfig, SurfacePoints
from ..surfaces import FittedSurfaces
from ..transfers import sent
from .base import FitTask, Report, restore_field

MARGIN = 0.04
"""Empty part of the box on either side of the surface."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DistanceLossConfig:
    """How errors of the distance count."""

    kind: Literal["mape", "l1"] = "mape"
    """mape: relative to the distance, as the paper's; l1."""
    epsilon: float = 0.01
    """What mape adds to the distance it divides by, normalised units."""

    def __post_init__(self) -> None:
        if self.epsilon <= 0.0:
            raise ValueError(f"losses.epsilon is {self.epsilon}; allowed: above 0")


@dataclass(frozen=True)
class SdfFitConfig:
    """Every setting of ``fit sdf``."""

    task: Literal["sdf"] = "sdf"
    """Which task this is."""
    input: MeshesConfig = field(default_factory=MeshesConfig)
    """Which meshes."""
    points: PointConfig = field(default_factory=PointConfig)
    """Where the distance is sampled."""
    # Every frame is seen from all sides here, and learns faster for itself.
    encoder: EncoderConfig = field(default_factory=lambda: HashGridConfig(smooth_from=0))
    """From positions to features."""
    network: NetworkConfig = field(default_factory=lambda: NetworkConfig(n_hidden_layers=2))
    """From features to distances."""
    residual: ResFieldConfig = field(default_factory=ResFieldConfig)
    """How the network's weights change over time."""
    losses: DistanceLossConfig = field(default_factory=DistanceLossConfig)
    """What is minimised."""
    training: ScheduleConfig = field(
        default_factory=lambda: ScheduleConfig(
            seconds=60.0, frames_per_batch=12, samples_per_batch=16384
        )
    )
    """How long, how fast, on what."""
    meshing: MeshingConfig = field(default_factory=lambda: MeshingConfig(colours=False))
    """Surfaces."""
    evaluation: SurfaceScoresConfig = field(default_factory=SurfaceScoresConfig)
    """Scores."""


class SdfTask(FitTask):
    """Signed distances of a sequence of meshes.

    Args:
        config: All settings.
        sequence: The meshes.
        backend: Kernels.
    """

    Config = SdfFitConfig
    field: SurfaceField
    """The signed distance."""
    unit: float
    """Normalised units per model unit."""

    def __init__(self, config: SdfFitConfig, sequence: MeshSequence, backend: Backend) -> None:
        self.config, self.sequence = config, sequence
        self.n_frames = sequence.n_frames
        self.space = model_space(sequence)
        self.world_from_normalised = normalisation(sequence)
        self.unit = self.space.scale / self.world_from_normalised[0, 0]
        self.field = _fresh_field(config, self.n_frames, backend)
        generator = torch.Generator().manual_seed(config.training.seed)
        distances = [MeshDistance(mesh) for mesh in sequence.meshes]
        _tell_signs(sequence, distances)
        self.points = SurfacePoints(distances, self.space, config.points, self.unit, generator)

    @classmethod
    def open(cls, config: SdfFitConfig, backend: Backend) -> SdfTask:
        """See `FitTask.open`."""
        return cls(config, load_meshes(config.input), backend)

    def step(self, frames, step, fraction, generator):
        """See `Task.step`."""
        n_points = self.config.training.samples_per_batch or self.field.backend.step_samples
        positions, targets, slices = self.points.draw(frames, n_points, generator)
        device = self.field.backend.device
        positions, targets = sent(positions, device), sent(targets, device)
        sdfs = self.field.query(positions, slices, fraction, 0)[:, 0, 0]
        losses = self.config.losses
        epsilon = losses.epsilon / self.unit if losses.kind == "mape" else None
        return StepResult({"distance": distance_loss(sdfs, targets, epsilon)}, len(targets))

    def deliver(self, run: RunFolder, report: Report) -> list[str]:
        """See `FitTask.deliver`: meshes and scores."""
        surfaces = FittedSurfaces(
            self.field, self.space, self.sequence.frame_numbers, self.world_from_normalised
        )
        return _export(surfaces, self.config, run, report) + _score(
            surfaces, self.sequence, self.config, run, report
        )


def mesh_run(run: RunFolder, config: SdfFitConfig, backend: Backend, report: Report) -> list[str]:
    """Extracts the meshes of a finished run again, as ``mesh RUN``."""
    sequence = load_meshes(config.input)
    return _export(_loaded(run, config, sequence, backend), config, run, report)


def eval_run(run: RunFolder, config: SdfFitConfig, backend: Backend, report: Report) -> list[str]:
    """Scores a finished run again, as ``eval RUN``."""
    sequence = load_meshes(config.input)
    return _score(_loaded(run, config, sequence, backend), sequence, config, run, report)


SdfTask.revisits = {"mesh": mesh_run, "eval": eval_run}


def _loaded(
    run: RunFolder, config: SdfFitConfig, sequence: MeshSequence, backend: Backend
) -> FittedSurfaces:
    """Returns what a run has fitted."""
    model = _fresh_field(config, sequence.n_frames, backend)
    restore_field(model, run.trained()[0])
    placement = (sequence.frame_numbers, normalisation(sequence))
    return FittedSurfaces(model, model_space(sequence), *placement)


def _fresh_field(config: SdfFitConfig, n_frames: int, backend: Backend) -> SurfaceField:
    generator = torch.Generator().manual_seed(config.training.seed)
    parts = (config.encoder, config.network, SdfConfig(), config.residual)
    return SurfaceField(*parts, n_frames, generator, backend).to(backend.device)


def _export(
    surfaces: FittedSurfaces, config: SdfFitConfig, run: RunFolder, report: Report
) -> list[str]:
    meshing = replace(config.meshing, colours=False)
    export_meshes(surfaces, run.path, meshing, run.source(), report)
    lines = [f"meshes: {run.path / 'meshes'}, described in {run.path / 'manifest.json'}"]
    if meshing.animate:
        lines.append(animate(run.path, "meshes", run.path))
    return lines


def _score(
    surfaces: FittedSurfaces,
    sequence: MeshSequence,
    config: SdfFitConfig,
    run: RunFolder,
    report: Report,
) -> list[str]:
    result = evaluate_surfaces(surfaces, sequence, run.path, config.evaluation, report)
    figures = ", ".join(f"{name} {value:.4g}" for name, value in result["mean"].items())
    lines = [
        f"mean of {surfaces.n_frames} frames: {figures}",
        f"scores: {run.path / 'evaluation.json'}",
    ]
    picture = write_surface_comparison(sequence, run.path)
    return [*lines, f"comparison: {picture}"] if picture else lines


def normalisation(sequence: MeshSequence) -> np.ndarray:
    """Returns the (4, 4) that takes [-1, 1]^3 to a cube around the whole sequence."""
    low = np.min([mesh.vertices.min(0) for mesh in sequence.meshes], axis=0)
    high = np.max([mesh.vertices.max(0) for mesh in sequence.meshes], axis=0)
    matrix = np.eye(4)
    matrix[:3, :3] *= float((high - low).max()) / 2.0
    matrix[:3, 3] = (low + high) / 2.0
    return matrix


def model_space(sequence: MeshSequence) -> ModelSpace:
    """Returns a box that follows each frame's own bounds, and is as large as the largest needs."""
    bounds = np.array([[mesh.vertices.min(0), mesh.vertices.max(0)] for mesh in sequence.meshes])
    side = float((bounds[:, 1] - bounds[:, 0]).max()) / (1.0 - 2.0 * MARGIN)
    centres = bounds.mean(1)
    matrix = np.eye(4)
    matrix[:3, :3] *= side
    matrix[:3, 3] = centres[0] - side / 2.0
    return ModelSpace(matrix, (centres - centres[0]) / side)


def _tell_signs(sequence: MeshSequence, distances: list[MeshDistance]) -> None:
    """Says in the log where the sign is not that of a closed surface."""
    numbers = sequence.frame_numbers
    open_frames = [n for n, d in zip(numbers, distances, strict=True) if not d.is_watertight]
    if open_frames:
        _log.warning(
            "%s: not watertight in %d of %d frames (frame %d the first):"
            " inside is where the winding number exceeds one half",
            sequence.name,
            len(open_frames),
            sequence.n_frames,
            open_frames[0],
        )
    inverted = [n for n, d in zip(numbers, distances, strict=True) if d.faces_inwards]
    if inverted:
        _log.warning(
            "%s: triangles face inwards in %d frames (frame %d the first); taken the other way",
            sequence.name,
            len(inverted),
            inverted[0],
        )
