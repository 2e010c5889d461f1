"""Prepared captures: how close to a given one of the same meshes, and how fast."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from resfields_ngp import stages
from resfields_ngp.config_tree import apply_table, nested
from resfields_ngp.datasets import CaptureConfig, load_capture
from resfields_ngp.datasets.layout import write_png
from resfields_ngp.prepare.capture import Working, prepare_meshes
from resfields_ngp.prepare.config import PrepareConfig
from resfields_ngp.prepare.workers import count_workers
from resfields_ngp.progress import counting

from .results import Row, machine_line, markdown_table

AGREEMENT = ("mask_iou", "worst_mask_iou", "colour_error", "depth_error_p99")


def measured_preparation(
    sequence: Path, capture: Path | None, settings: Mapping[str, Any], folder: Path, workers: int
) -> Row:
    """Prepares a capture from scratch, from four rays a pixel and nine cameras unless told.

    Args:
        sequence: Meshes.
        capture: One of the same meshes to agree with, whose cameras are taken.
        settings: Of `PrepareConfig`, by dotted name.
        folder: Where the capture is written, in a folder of its own.
        workers: Processes; 0 takes all cores.

    Returns:
        Seconds, what was drawn, and where there is a capture the agreement with it.
    """
    given = {"picture.samples": "4", "rig.views": "9", **settings, "sequence.path": str(sequence)}
    if capture is not None:
        given["rig.path"] = str(capture)
    out = folder / f"{sequence.stem}_capture"
    config = apply_table(PrepareConfig(), nested(given), "settings")
    working = Working(count_workers(workers), counting, lambda: False, stages.say)
    begun = time.perf_counter()
    prepare_meshes(config, out, True, working)
    row = {"sequence": sequence.stem, "seconds": round(time.perf_counter() - begun, 1)}
    row |= {"frames": len(list((out / "cam_test" / "rgb").glob("*.png")))}
    row |= {"cameras": len(list(out.glob("*/rgb"))), "size": config.rig.size}
    row |= {"samples": config.picture.samples, "workers": working.n_workers}
    return row if capture is None else row | {"size": None, **agreement(out, capture)}


def agreement(ours: Path, given: Path) -> Row:
    """Compares two captures of the same cameras and frames.

    Returns:
        Mean and worst intersection over union of the masks over all pictures; mean absolute
        difference of colours inside both masks, in 255ths; 99th percentile of the differences of
        depths known in both, normalised.
    """
    overlaps: list[float] = []
    colours: list[np.ndarray] = []
    depths: list[np.ndarray] = []
    first, second = (
        load_capture(CaptureConfig(path=str(p), use_depth=True)) for p in (ours, given)
    )
    assert first.test_view is not None and second.test_view is not None
    pairs = zip((*first.views, first.test_view), (*second.views, second.test_view), strict=True)
    for mine, theirs in pairs:
        assert mine.masks is not None and theirs.masks is not None
        assert mine.depths is not None and theirs.depths is not None
        both = mine.masks & theirs.masks
        either = (mine.masks | theirs.masks).sum(axis=(1, 2))
        overlaps += (both.sum(axis=(1, 2)) / np.maximum(either, 1)).tolist()
        colours.append(np.abs(mine.images[both].astype(float) - theirs.images[both]).mean(axis=1))
        known = (mine.depths > 0) & (theirs.depths > 0)
        depths.append(np.abs(mine.depths[known].astype(float) - theirs.depths[known]))
    scale = first.depth_scale / second.world_from_normalised[0, 0]
    return {
        "mask_iou": float(np.mean(overlaps)),
        "worst_mask_iou": min(overlaps),
        "colour_error": float(np.concatenate(colours).mean()),
        "depth_error_p99": float(np.percentile(np.concatenate(depths), 99)) * scale,
    }


def write_dancer(folder: Path, n_frames: int, n_triangles: int) -> Path:
    """Writes a raw sequence in Owlii's naming, millimetres: a bumpy pillar of 1.87 m that sways.

    Each frame has a 2048 x 2048 texture of its own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    n_around = int(np.sqrt(n_triangles))
    n_along = n_triangles // (2 * n_around)
    u, v = np.meshgrid(np.linspace(0, 1, n_around + 1), np.linspace(0, 1, n_along + 1))
    corners = np.arange(n_along)[:, None] * (n_around + 1) + np.arange(n_around)
    a, b = corners.ravel() + 1, corners.ravel() + 2
    c, d = a + n_around + 1, b + n_around + 1
    faces = np.concatenate([np.stack([a, b, d], 1), np.stack([a, d, c], 1)])
    face_lines = [f"f {p}/{p} {q}/{q} {r}/{r}" for p, q, r in faces.tolist()]
    uv_lines = [f"vt {x:.6f} {y:.6f}" for x, y in np.stack([u.ravel(), v.ravel()], 1)]
    for frame in range(n_frames):
        stem = f"dancer_{frame + 1:08d}"
        angle, sway = 2 * np.pi * u, 0.2 * np.sin(np.pi * v + frame / 3)
        radius = np.sin(np.pi * v) ** 0.5 * (250 + 40 * np.sin(5 * angle + 9 * v))
        x, z = radius * np.cos(angle) + 1000 * sway, -radius * np.sin(angle)
        points = np.stack([x.ravel(), 1870 * v.ravel(), z.ravel()], 1)
        lines = [f"mtllib {stem}.mtl", "usemtl skin"]
        lines += [f"v {x:.4f} {y:.4f} {z:.4f}" for x, y, z in points.tolist()]
        (folder / f"{stem}.obj").write_text("\n".join([*lines, *uv_lines, *face_lines]) + "\n")
        (folder / f"{stem}.mtl").write_text(f"newmtl skin\nmap_Kd {stem}.png\n")
        random = np.random.default_rng(frame)
        noise = random.integers(0, 256, (128, 128, 3), dtype=np.uint8)
        write_png(folder / f"{stem}.png", np.asarray(cv2.resize(noise, (2048, 2048))))
    return folder


def describe_preparing(rows: list[Row]) -> str:
    """Returns all rows as Markdown."""
    columns = ["sequence", "frames", "cameras", "size", "samples", "workers", "seconds", *AGREEMENT]
    header = [name.replace("_", " ") for name in columns]
    lines = [[row.get(name) for name in columns] for row in rows]
    return f"# Preparing\n\n{markdown_table(header, lines)}\n{machine_line(rows[-1])}"
