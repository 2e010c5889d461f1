"""A whole reconstruction by the stages of the command line: its scores, times and memory."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from resfields_ngp import stages
from resfields_ngp.config import Config, load_config
from resfields_ngp.config_tree import nested, to_table
from resfields_ngp.datasets import load_capture
from resfields_ngp.datasets.synthetic_capture import SyntheticConfig, write_synthetic
from resfields_ngp.meshing import MeshingError
from resfields_ngp.options import UsageError
from resfields_ngp.reconstruction import train
from resfields_ngp.run_folder import RunFolder

from . import ROOT
from .results import Row, peak_memory

Result = TypeVar("Result")

SCORES = ("psnr", "masked_psnr", "ssim", "chamfer", "normal_consistency", "f_score")
"""What is reported of ``evaluation.json``."""

SYNTHETIC = {
    "synthetic": SyntheticConfig(),
    "synthetic-white": SyntheticConfig(texture="white"),
}
"""Captures that are written where they are asked for by name."""

REDUCED: dict[str, Any] = {
    "meshing.frames": "::3",
    "meshing.resolution": 192,
    "imaging.orbit_pictures": 0,
    "imaging.video": False,
    "evaluation.points": 50_000,
}
"""Settings of a comparison of many runs: all pictures, but meshes of every third frame."""


def configured(capture: Path, settings: Mapping[str, Any], scene: Path | None = None) -> Config:
    """Returns the settings of a run on a capture.

    Args:
        capture: Its folder.
        settings: Dotted name to value, over those of the scene.
        scene: A scene file; ``scenes/<name of the folder>.toml`` is taken without one, if it is
            there.

    Raises:
        UsageError: There is no such capture.
        ConfigError: A setting is unknown or its value not allowed.
    """
    if not capture.exists():
        names = ", ".join(SYNTHETIC)
        raise UsageError(f"{capture}: no such capture; pass its folder, or one of {names}")
    preset = ROOT / "scenes" / f"{capture.stem}.toml"
    if scene is None and preset.is_file():
        scene = preset
    settings = {**settings, "capture.path": str(capture.resolve())}
    return load_config(scene, None, nested(settings))


def budget(seconds: float, steps: int) -> dict[str, Any]:
    """Returns the settings of a training budget: steps where there are any, else seconds."""
    return (
        {"training.steps": steps} if steps else {"training.seconds": seconds, "training.steps": 0}
    )


def capture_at(name: str, folder: Path) -> Path:
    """Returns the path of a capture; a synthetic one is written into `folder` first, once."""
    if name not in SYNTHETIC:
        return Path(name)
    config, path = SYNTHETIC[name], folder / name
    try:
        written = json.loads((path / "capture.json").read_text())
    except (OSError, ValueError):
        written = {}
    if dataclasses.asdict(config).items() <= written.items():
        return path
    return write_synthetic(config, path)


def compile_kernels(config: Config, out: Path) -> None:
    """Runs a few steps, so that no run pays for compiling out of its time."""
    brief = dataclasses.replace(config.training, steps=3, warmup_steps=1)
    config = dataclasses.replace(config, training=brief)
    run = RunFolder.create(out, to_table(config), overwrite=True)
    train(config, load_capture(config.capture), run)


def measured_run(config: Config, out: Path) -> Row:
    """Trains, meshes, renders and scores; an earlier run in `out` is deleted.

    Returns:
        Scores (None where the capture has no truth or no surface came out), seconds of each stage,
        steps, late samples per ray and rays per second, peak memory in GiB, parameters.

    Raises:
        SystemExit: Training was interrupted.
    """
    capture = load_capture(config.capture)
    run = RunFolder.create(out, to_table(config), overwrite=True)
    (code, reconstruction), train_seconds = _timed(stages.train, config, capture, run, False)
    if code:
        raise SystemExit(code)
    no_surface, mesh_seconds = _timed(_mesh, config, reconstruction, run)
    _, render_seconds = _timed(stages.render, config, reconstruction, capture, run)
    stages.evaluate(config, capture, run)
    means = json.loads((run.path / "evaluation.json").read_text())["mean"]
    found = run.latest_checkpoint()
    assert found is not None, f"{run.path}: training wrote no checkpoint"
    metrics = [json.loads(line) for line in run.metrics_path.read_text().splitlines()]
    n_parameters = sum(each.numel() for each in reconstruction.field.parameters())
    return {
        **{name: _rounded(means.get(name)) for name in SCORES},
        "no_surface": no_surface,
        "train_seconds": round(found[1]["seconds"], 2),
        "train_seconds_with_hull": round(train_seconds, 2),
        "mesh_seconds": round(mesh_seconds, 2),
        "render_seconds": round(render_seconds, 2),
        "steps": found[1]["step"],
        **late_throughput(metrics),
        "parameters": n_parameters,
        "peak_memory_gib": peak_memory(),
    }


def late_throughput(metrics: list[Row]) -> Row:
    """Returns samples per ray and rays per second, means over the last tenth of training."""
    late = [row for row in metrics if row["fraction"] >= 0.9]
    return {
        name: round(float(np.mean([row[name] for row in late])), 2)
        for name in ("samples_per_ray", "rays_per_second")
    }


def _mesh(config: Config, reconstruction: Any, run: RunFolder) -> str | None:
    """Meshes, and returns what was said about frames without a surface."""
    try:
        stages.mesh(config, reconstruction, run)
    except MeshingError as error:
        return str(error)
    return None


def _timed(function: Callable[..., Result], *arguments: Any) -> tuple[Result, float]:
    begun = time.perf_counter()
    result = function(*arguments)
    return result, time.perf_counter() - begun


def _rounded(score: float | str | None) -> float | None:
    return round(score, 5) if isinstance(score, float) else None
