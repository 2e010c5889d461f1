"""The task of scene flow: points that ride on a mesh sequence, led to the first frame and back."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from ..backends import Backend
from ..datasets.meshes import MeshesConfig, MeshSequence, MeshSequenceError, load_meshes
from ..flow import FlowField, advected_mesh, draw_points, flow_space, with_network
from ..flow_scores import flow_table, score_flow
from ..mesh import Mesh, face_areas
from ..mesh_files import FORMATS, read_mesh, write_mesh
from ..motion import MotionConfig, MotionNetworkConfig, OffsetConfig
from ..records import FrameSlices, StepResult
from ..resfield import ResFieldConfig
from ..run_folder import RunFolder
from ..schedules import ScheduleConfig
from ..transfers import sent
from ..writing import write_whole
from .base import FitTask, Report

SPLIT_SEED = 42
"""Seed of the split into triangles to train on and held-out ones."""


@dataclass(frozen=True)
class FlowLossConfig:
    """What is minimised, and on which part of the surface."""

    forward: float = 1.0
    """Weight of the L1 error from the first frame to the others."""
    backward: float = 1.0
    """Weight of the L1 error from the others to the first frame."""
    held_out: float = 0.1
    """Part of the triangles that is never trained on and scored apart, 0 to 0.5."""
    points: int = 20_000
    """Points that are scored, 1 or more."""

    def __post_init__(self) -> None:
        if self.forward < 0.0 or self.backward < 0.0:
            raise ValueError(
                f"flow.forward is {self.forward} and backward {self.backward}; allowed: 0 or more"
            )
        if not 0.0 <= self.held_out <= 0.5:
            raise ValueError(f"flow.held_out is {self.held_out}; allowed: 0 to 0.5")
        if self.points < 1:
            raise ValueError(f"flow.points is {self.points}; allowed: 1 or more")


@dataclass(frozen=True)
class ExportConfig:
    """Which mesh is advected through the sequence, and how it is written."""

    mesh: str = ""
    """Mesh file in the place and units of the first frame; empty takes the first frame's own."""
    formats: tuple[Literal["ply", "obj", "glb"], ...] = ("ply",)
    """File formats to write, any of ply, obj and glb."""

    def __post_init__(self) -> None:
        if not self.formats:
            raise ValueError(f"export.formats is empty; give at least one of {', '.join(FORMATS)}")


@dataclass(frozen=True)
class FlowFitConfig:
    """Every setting of ``fit flow``."""

    task: Literal["flow"] = "flow"
    """Which task this is."""
    input: MeshesConfig = field(default_factory=MeshesConfig)
    """Which meshes; they share vertices and triangles."""
    motion: MotionConfig = field(default_factory=OffsetConfig)
    """How points move: offset, se3, invertible or dct; its own network's settings are not used."""
    network: MotionNetworkConfig = field(default_factory=lambda: MotionNetworkConfig(n_levels=6))
    """The motion's network, of whichever kind."""
    residual: ResFieldConfig = field(default_factory=ResFieldConfig)
    """How the motion network's weights change over time."""
    flow: FlowLossConfig = field(default_factory=FlowLossConfig)
    """What is minimised."""
    training: ScheduleConfig = field(
        default_factory=lambda: ScheduleConfig(
            seconds=60.0,
            frames_per_batch=12,
            samples_per_batch=1536,
            grid_rate=0.02,
            network_rate=0.01,
            final_rate=0.01,
        )
    )
    """How long, how fast, on what."""
    export: ExportConfig = field(default_factory=ExportConfig)
    """What ``export flow`` writes."""


class FlowTask(FitTask):
    """Points of a mesh sequence with correspondences.

    Args:
        config: All settings.
        sequence: The meshes; they share vertices and triangles.
        backend: Kernels.
    """

    Config = FlowFitConfig

    def __init__(self, config: FlowFitConfig, sequence: MeshSequence, backend: Backend) -> None:
        vertices, faces = correspondences(sequence)
        self.config, self.vertices, self.faces = config, vertices, faces
        self.frame_numbers = sequence.frame_numbers
        self.n_frames = len(vertices)
        self.space = flow_space(vertices)
        generator = torch.Generator().manual_seed(config.training.seed)
        motion = with_network(config.motion, config.network)
        field = FlowField(motion, config.residual, self.n_frames, generator, backend)
        self.field: FlowField = field.to(backend.device)
        self._model = np.stack([self.space.to_model(v, 0) for v in vertices]).astype(np.float32)
        self._areas = mean_areas(vertices, faces)
        self._is_held_out = held_out_triangles(len(faces), config.flow.held_out)

    @classmethod
    def open(cls, config: FlowFitConfig, backend: Backend) -> FlowTask:
        """See `FitTask.open`."""
        return cls(config, load_meshes(config.input), backend)

    def step(self, frames, step, fraction, generator):
        """See `Task.step`: L1 errors of random points of the surface, both ways."""
        n_samples = self.config.training.samples_per_batch or self.field.backend.step_samples
        each = max(1, n_samples // len(frames))
        uniform = torch.rand((each * len(frames), 3), generator=generator).numpy()
        faces, areas = self.faces[~self._is_held_out], self._areas[~self._is_held_out]
        points = draw_points(faces, areas, uniform)
        frame_of = np.repeat(frames, each)[:, None]
        weights = points.weights[:, :, None].astype(np.float32)
        device = self.field.backend.device
        first = (weights * self._model[0][points.triangles]).sum(1)
        then = (weights * self._model[frame_of, points.triangles]).sum(1)
        first, then = (sent(torch.from_numpy(each), device) for each in (first, then))
        slices = FrameSlices.even(frames, each)
        there = self.field.forward_flow(first, slices, fraction)
        back = self.field.backward_flow(then, slices, fraction)
        losses = {
            "forward": self.config.flow.forward * (there - then).abs().mean(),
            "backward": self.config.flow.backward * (back - first).abs().mean(),
        }
        return StepResult(losses, len(uniform))

    def scores(self) -> dict[str, Any]:
        """Returns `score_flow` at seeded points of the triangles that are trained on.

        Beside it ``unseen``, the means on held-out triangles; None where there are none.
        """
        result = self._scored(~self._is_held_out)
        unseen = self._scored(self._is_held_out)["mean"] if self._is_held_out.any() else None
        return result | {"unseen": unseen}

    def _scored(self, chosen: np.ndarray) -> dict[str, Any]:
        uniform = np.random.default_rng(SPLIT_SEED).random((self.config.flow.points, 3))
        points = draw_points(self.faces[chosen], self._areas[chosen], uniform)
        return score_flow(self.field, self.space, self.vertices, points)

    def deliver(self, run: RunFolder, report: Report) -> list[str]:
        """See `FitTask.deliver`: ``evaluation.json`` and ``flow.png``."""
        from ..flow_pictures import write_flow_picture
        from ..stages import show

        result = self.scores() | {
            "held_out": float(self._is_held_out.mean()),
            "parameters": sum(parameter.numel() for parameter in self.field.parameters()),
        }
        write_whole(run.path / "evaluation.json", json.dumps(result, indent=1).encode())
        picture = run.path / "flow.png"
        write_flow_picture(self.field, self.space, self.vertices, self.faces, picture)
        report(1, 1)
        show(flow_table(result))
        return [f"scores: {run.path / 'evaluation.json'}", f"picture: {picture}"]


def evaluate(run: RunFolder, config: FlowFitConfig, backend: Backend, report: Report) -> list[str]:
    """Scores a run again and draws its picture; see `FlowTask.deliver`."""
    return restored(run, config, backend).deliver(run, report)


def export(run: RunFolder, config: FlowFitConfig, backend: Backend, report: Report) -> list[str]:
    """Leads a mesh through the sequence: ``advected/%06d.<format>``, one connectivity throughout.

    Raises:
        ValueError: The mesh is not readable or has no triangles.
    """
    task = restored(run, config, backend)
    path = Path(config.export.mesh)
    mesh = read_mesh(path) if config.export.mesh else Mesh(task.vertices[0], task.faces)
    if mesh.n_faces == 0:
        raise ValueError(f"{path}: the mesh has no faces; a surface of triangles is needed")
    for frame, number in enumerate(task.frame_numbers):
        moved = mesh if frame == 0 else advected_mesh(task.field, task.space, mesh, frame)
        for suffix in config.export.formats:
            write_mesh(moved, run.path / "advected" / f"{number:06d}.{suffix}")
        report(frame + 1, task.n_frames)
    return [f"meshes: {run.path / 'advected'}"]


def restored(run: RunFolder, config: FlowFitConfig, backend: Backend) -> FlowTask:
    """Returns the task of a run with what it learned.

    Raises:
        FileNotFoundError: There is no checkpoint yet.
    """
    task = FlowTask.open(config, backend)
    task.restore(*run.trained())
    return task


FlowTask.revisits = {"eval": evaluate, "export": export}


def correspondences(sequence: MeshSequence) -> tuple[np.ndarray, np.ndarray]:
    """Returns (n_frames, V, 3) vertices and (F, 3) triangles of meshes that share them.

    Raises:
        MeshSequenceError: There is one frame only, or connectivity changes; the message says where.
    """
    vertices = sequence.vertices()
    if sequence.n_frames < 2:
        raise MeshSequenceError(f"{sequence.name}: one frame; flow needs two frames or more")
    return vertices, sequence.meshes[0].faces


def mean_areas(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Returns (F,) areas of triangles, means over the frames."""
    return np.mean([face_areas(Mesh(frame, faces)) for frame in vertices], axis=0)


def held_out_triangles(n_faces: int, part: float) -> np.ndarray:
    """Returns (F,) True for a seeded part of the triangles, at least one where that is above 0."""
    held_out = np.zeros(n_faces, bool)
    count = min(max(round(part * n_faces), 1), n_faces - 1) if part > 0.0 else 0
    held_out[np.random.default_rng(SPLIT_SEED).permutation(n_faces)[:count]] = True
    return held_out
