"""Outlines of a run's meshes against the masks of its training views."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from resfields_ngp.config import Config
from resfields_ngp.config_tree import apply_table
from resfields_ngp.datasets import load_capture
from resfields_ngp.evaluation import mesh_file
from resfields_ngp.mesh_files import read_mesh
from resfields_ngp.metrics import silhouette_iou
from resfields_ngp.rasterising import silhouette
from resfields_ngp.run_folder import RunFolder

from .results import Row, machine_line, markdown_table


def silhouette_overlaps(run_path: Path, capture_path: Path | None) -> Row:
    """Compares the outline of every frame's mesh with the mask of every training view.

    Args:
        run_path: A run with meshes.
        capture_path: Where the capture is; None is where it was when the run was made.

    Returns:
        Mean intersection over union of each view, of all, and of the worst frame; a frame without a
        mesh counts 0.

    Raises:
        ValueError: The capture has no masks.
    """
    run = RunFolder.open(run_path)
    config = apply_table(Config(), run.settings(), str(run.config_path)).capture
    if capture_path is not None:
        config = dataclasses.replace(config, path=str(capture_path))
    capture = load_capture(config)
    if not capture.has_masks:
        raise ValueError(f"{config.path}: no masks to compare silhouettes with")
    overlaps = np.zeros((capture.n_frames, len(capture.views)))
    for frame, number in enumerate(capture.frame_numbers):
        path = mesh_file(run.path, number)
        mesh = read_mesh(path) if path else None
        for index, view in enumerate(capture.views):
            if mesh is not None and view.masks is not None:
                seen = view.blanked(silhouette(mesh, view.cameras, frame), frame)
                overlaps[frame, index] = silhouette_iou(seen, view.masks[frame])
    means = zip(capture.views, np.nanmean(overlaps, axis=0), strict=True)
    by_frame = np.nanmean(overlaps, axis=1)
    worst = int(np.argmin(by_frame))
    return {
        "run": str(run_path),
        "capture": capture.name,
        "views": {view.name: round(float(value), 4) for view, value in means},
        "mean": round(float(np.nanmean(overlaps)), 4),
        "worst_frame": capture.frame_numbers[worst],
        "worst": round(float(by_frame[worst]), 4),
    }


def describe_silhouettes(rows: list[Row]) -> str:
    """Returns the Markdown of all comparisons; of a repeated one the newest."""
    lines = []
    for row in {(row["run"], row["capture"]): row for row in rows}.values():
        views = ", ".join(f"{name} {value:.3f}" for name, value in row["views"].items())
        worst = f"{row['worst']:.3f} (frame {row['worst_frame']})"
        lines.append([row["capture"], row["run"], row["mean"], worst, views])
    header = ["capture", "run", "mean IoU", "worst frame", "views"]
    return "\n".join(["# Silhouettes\n", markdown_table(header, lines), machine_line(rows[-1])])
