"""What a textured export takes, and how good it is."""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import trimesh

from resfields_ngp import stages
from resfields_ngp.config import Config
from resfields_ngp.config_tree import apply_table, nested
from resfields_ngp.datasets import load_capture
from resfields_ngp.manifest import read_manifest
from resfields_ngp.reconstruction import load_reconstruction, use_threads
from resfields_ngp.round_trip import evaluate_round_trip
from resfields_ngp.run_folder import RunFolder
from resfields_ngp.textured_files import read_textured
from resfields_ngp.texturing import FOLDER

from .results import Row, machine_line, markdown_table

COLUMNS = (
    "seconds",
    "faces",
    "held_out_psnr",
    "field_psnr",
    "training_psnr",
    "watertight",
    "groups",
    "flips",
    "largest_residual",
    "vertex_noise",
    "texture_change",
    "height_error",
)
"""Figures of a row. ``seconds`` is the wall time of the whole export, loading the run included;
``field_psnr`` the field's own picture of the held-out camera; ``height_error`` a fraction."""


def measured_export(path: Path, settings: dict[str, Any], truth: Path | None) -> Row:
    """Exports a run's textured meshes afresh and measures time, pictures, flicker and height.

    Args:
        path: A run; its ``textured/`` is deleted first.
        settings: Settings of the export, dotted name to text.
        truth: Folder of the true meshes, ``*.obj`` in the order of the capture's frames, whose
            height the exported ones are compared with; None for none.

    Raises:
        ValueError: A setting is not allowed, or a frame has no closed mesh though asked for.
    """
    run = RunFolder.open(path)
    given = {"texturing.kind": "uv", "meshing.formats": "obj,glb", **settings}
    stored = apply_table(Config(), run.settings(), str(run.config_path))
    config = apply_table(stored, nested(given), "command line")
    shutil.rmtree(path / FOLDER, ignore_errors=True)
    begun = time.perf_counter()
    use_threads(config.training.threads)
    stages.mesh_textured(config, load_reconstruction(path, config.training.device), run)
    seconds = time.perf_counter() - begun
    capture = load_capture(config.capture)
    _render_held_out(config, run)
    scores = evaluate_round_trip(path, capture)
    manifest = read_manifest(path / FOLDER / "manifest.json")
    frames, groups = manifest["frames"], manifest.get("groups", [])
    return {
        "run": str(path),
        "capture": capture.name,
        "settings": given,
        "seconds": round(seconds, 1),
        "n_frames": len(frames),
        "faces": max(row["n_faces"] for row in frames),
        "held_out_psnr": _rounded(scores["held_out"].get("psnr")),
        "field_psnr": _rounded(scores["held_out"].get("field_psnr")),
        "training_psnr": _rounded(scores["training"].get("psnr")),
        "watertight": sum(row["watertight"] for row in frames),
        "groups": len(groups),
        "flips": max((row.get("flips", 0) for row in frames), default=0),
        "largest_residual": _rounded(max((g["largest_residual"] for g in groups), default=0.0), 4),
        **_flicker(manifest),
        "height_error": None if truth is None else _height_error(path, frames, truth),
    }


def describe_texturing(rows: list[Row]) -> str:
    """Returns the Markdown of all rows."""
    header = ["capture", "frames", "settings", *(name.replace("_", " ") for name in COLUMNS)]
    lines = [
        [row["capture"], row["n_frames"], json.dumps(row["settings"])]
        + [row[name] for name in COLUMNS]
        for row in rows
    ]
    return f"# Textured exports\n\n{markdown_table(header, lines)}\n{machine_line(rows[-1])}"


def _render_held_out(config: Config, run: RunFolder) -> None:
    """Renders the field from the held-out camera, for its own score beside the mesh's."""
    imaging = dataclasses.replace(config.imaging, cameras=(), video=False, orbit_pictures=0)
    config = dataclasses.replace(config, imaging=imaging)
    reconstruction = load_reconstruction(run.path, config.training.device)
    stages.render(config, reconstruction, load_capture(config.capture), run)


def _flicker(manifest: dict[str, Any]) -> Row:
    found = manifest.get("flicker", {})
    noise, change = found.get("vertex_noise_of_extent"), found.get("texture_change")
    return {"vertex_noise": _rounded(noise, 5), "texture_change": _rounded(change, 2)}


def _height_error(path: Path, frames: list[dict[str, Any]], truth: Path) -> float:
    """Returns the largest relative error of a frame's height, along y."""
    meshes = sorted(truth.glob("*.obj"))
    errors = []
    for row in frames:
        name = next(name for name in row["files"] if name.endswith(".obj"))
        found = np.ptp(read_textured(path / FOLDER / name).mesh.vertices[:, 1])
        loaded = trimesh.load(meshes[row["frame"]], process=False, force="mesh")
        height = np.ptp(np.asarray(loaded.vertices)[:, 1])  # pyright: ignore
        errors.append(abs(found / height - 1))
    return round(float(max(errors)), 4)


def _rounded(value: float | None, digits: int = 2) -> float | None:
    return None if value is None else round(value, digits)
