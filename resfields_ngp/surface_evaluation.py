"""Scores of fitted surfaces against the meshes that they were fitted to."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .datasets.meshes import MeshSequence
from .evaluation import mesh_file, surface_samples
from .mesh_files import read_mesh
from .metrics import chamfer_resfields, surface_scores
from .signed_distances import MeshDistance
from .surfaces import FittedSurfaces
from .writing import write_whole

DEFINITIONS = {
    "chamfer": "normalised units, Euclidean, mean of each direction, both summed",
    "chamfer_floor": "chamfer of the input against itself, sampled twice",
    "normal_consistency": "mean |cosine| between nearest neighbours, both directions averaged",
    "normal_consistency_floor": "that of the input against itself, sampled twice",
    "f_score": "within 0.01 normalised units",
    "chamfer_resfields": "normalised units x 1000, L1 norm, both directions summed",
    "iou": "intersection over union of the insides, random points of the frame's own box",
}
"""What each score means; normalised units: the sequence as a whole spans [-1, 1]."""


@dataclass(frozen=True)
class SurfaceScoresConfig:
    """How fitted surfaces are compared with the input."""

    points: int = 100_000
    """Samples of each surface, 1 or more."""
    iou_points: int = 100_000
    """Random points for the intersection over union, 1 or more."""
    seed: int = 0
    """Seed of the samples."""

    def __post_init__(self) -> None:
        for name in ("points", "iou_points"):
            if getattr(self, name) < 1:
                raise ValueError(f"evaluation.{name} is {getattr(self, name)}; allowed: 1 or more")


def evaluate_surfaces(
    surfaces: FittedSurfaces,
    sequence: MeshSequence,
    run: Path,
    config: SurfaceScoresConfig,
    report: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Scores ``meshes/`` of a run and the field itself, and writes ``evaluation.json``.

    Args:
        surfaces: What was fitted.
        sequence: The input; its frames are those of the run.
        run: The run folder.
        config: How.
        report: Called with the number of frames done and of all frames.

    Returns:
        What is written: ``mean`` and ``frames`` (one row each), ``missing``, ``definitions``.

    Raises:
        ValueError: A mesh of the run is damaged.
        OSError: The table could not be written.
    """
    rows, missing = [], []
    for frame, number in enumerate(surfaces.frame_numbers):
        row: dict[str, Any] = {"frame": number}
        path = mesh_file(run, number)
        if path is None:
            missing.append(f"meshes/{number:06d}")
        else:
            row |= _mesh_scores(path, surfaces, sequence, frame, config)
        row["iou"] = _iou(surfaces, sequence, frame, config)
        rows.append(row)
        if report is not None:
            report(frame + 1, surfaces.n_frames)
    names = [name for name in DEFINITIONS if any(name in row for row in rows)]
    result = {
        "input": sequence.name,
        "mean": {name: float(np.mean([r[name] for r in rows if name in r])) for name in names},
        "frames": rows,
        "missing": missing,
        "definitions": {name: DEFINITIONS[name] for name in names},
    }
    write_whole(run / "evaluation.json", json.dumps(result, indent=1).encode())
    return result


def _mesh_scores(
    path: Path,
    surfaces: FittedSurfaces,
    sequence: MeshSequence,
    frame: int,
    config: SurfaceScoresConfig,
) -> dict[str, float]:
    """Returns the scores of one frame's mesh, and of the input against itself."""
    matrix = surfaces.world_from_normalised
    truth_mesh = sequence.meshes[frame]
    found = surface_samples(read_mesh(path), matrix, config.points, config.seed)
    truth = surface_samples(truth_mesh, matrix, config.points, config.seed + 1)
    again = surface_samples(truth_mesh, matrix, config.points, config.seed + 2)
    scores, floor = surface_scores(*found, *truth), surface_scores(*again, *truth)
    names = ("chamfer", "normal_consistency", "f_score")
    return {
        **{name: scores[name] for name in names},
        **{f"{name}_floor": floor[name] for name in names[:2]},
        "chamfer_resfields": chamfer_resfields(found[0], truth[0]),
    }


def _iou(
    surfaces: FittedSurfaces, sequence: MeshSequence, frame: int, config: SurfaceScoresConfig
) -> float:
    """Returns the overlap of the field's inside with the mesh's in the frame's box."""
    mesh = sequence.meshes[frame]
    low, high = mesh.vertices.min(0), mesh.vertices.max(0)
    slack = 0.02 * (high - low).max()
    uniform = np.random.default_rng(config.seed).random((config.iou_points, 3))
    points = low - slack + uniform * (high - low + 2.0 * slack)
    inside = MeshDistance(mesh)(points) < 0.0
    positions = torch.from_numpy(surfaces.space.to_model(points, frame)).float().clamp(0.0, 1.0)
    positions = positions.to(surfaces.field.backend.device)
    found = surfaces.field.sdfs(positions, frame).cpu().numpy() < 0.0
    return float((inside & found).sum() / max((inside | found).sum(), 1))
