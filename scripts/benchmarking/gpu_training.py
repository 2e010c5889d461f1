"""Training on a GPU: a trainer to take single steps of, and a whole run with its scores."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

import torch

from resfields_ngp.backends import Backend, open_backend
from resfields_ngp.config import Config
from resfields_ngp.datasets import load_capture
from resfields_ngp.datasets.synthetic_capture import SyntheticConfig, write_synthetic
from resfields_ngp.reconstruction import load_reconstruction, prepare
from resfields_ngp.rendering import render
from resfields_ngp.training import Trainer

from . import ROOT
from .measuring import REDUCED, capture_at, configured, measured_run

OUT = ROOT / "runs" / "gpu_check"
_TINY = SyntheticConfig(n_frames=2, n_cameras=3, size=24, n_points=50)


def configuration(options: Namespace, settings: dict[str, Any]) -> Config:
    """Returns the settings of a run on the capture that is asked for, or a synthetic one."""
    capture = options.capture
    if capture is None and options.interpret:
        capture = OUT.parent / "gpu_check_tiny"
        if not (capture / "capture.json").is_file():
            write_synthetic(_TINY, capture)
    return configured(capture or capture_at("synthetic", OUT.parent), settings)


def trainer_on(options: Namespace, backend: Backend) -> Trainer:
    """Returns a trainer whose step can be measured."""
    settings: dict[str, Any] = {"training.steps": 100_000}
    if options.interpret:
        settings |= {"training.samples_per_batch": 256, "training.warmup_steps": 0}
        settings |= {"encoder.n_levels": 2, "network.n_neurons": 16, "head.n_neurons": 16}
    config = configuration(options, settings)
    return prepare(config, load_capture(config.capture), backend)[0]


def trained(options: Namespace, backends: list[str]) -> dict[str, Any]:
    """Trains, meshes, renders and scores a capture, and opens its checkpoint on every backend."""
    settings = {**REDUCED, "training.seconds": options.seconds, "training.device": "cuda"}
    config = configuration(options, settings)
    torch.cuda.reset_peak_memory_stats()
    row = measured_run(config, OUT)
    wanted = ("psnr", "masked_psnr", "chamfer", "steps", "train_seconds", "mesh_seconds")
    found = {"capture": config.capture.path, **{name: row[name] for name in wanted}}
    found["peak_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
    return found | {"pictures_differ_by": _pictures_differ(config, ["reference", *backends])}


def _pictures_differ(config: Config, backends: list[str]) -> dict[str, float]:
    """Returns the mean difference of a picture's colours from the first backend's."""
    reconstruction = load_reconstruction(OUT, "cuda")
    field, device = reconstruction.field, reconstruction.field.backend.device
    source = prepare(config, load_capture(config.capture), field.backend)[1].source
    batch = source.draw((0,), 4096, 0.7, torch.Generator(device).manual_seed(0))
    pictures = []
    for name in backends:
        field.backend = open_backend(name, "cuda")
        pictures.append(render(field, reconstruction.occupancy, batch.rays).rgbs)
    pairs = zip(backends[1:], pictures[1:], strict=True)
    return {name: round(float((one - pictures[0]).abs().mean()), 5) for name, one in pairs}
