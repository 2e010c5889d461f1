"""Training on a GPU: a trainer to take single steps of, and a whole run with its scores."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from typing import Any

import torch

from resfields_ngp.backends import Backend, open_backend
from resfields_ngp.config import Config
from resfields_ngp.datasets import load_capture
from resfields_ngp.datasets.synthetic_capture import SyntheticConfig, write_synthetic
from resfields_ngp.reconstruction import load_reconstruction, prepare
from resfields_ngp.records import Rays
from resfields_ngp.rendering import render
from resfields_ngp.tasks.base import Task
from resfields_ngp.tasks.capture import CaptureTask, restore_model
from resfields_ngp.trainer import Trainer

from . import ROOT
from .gpu_report import memory
from .measuring import REDUCED, capture_at, configured, measured_run

PICTURE_TOLERANCES = {"reference": 1e-6, "triton": 4e-3, "tcnn": 2e-2}
"""Mean of a colour's difference; tcnn steps otherwise and its derivatives are differences."""
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
    # Warm-up renders nothing; how many samples is the device's affair, not the capture's scene's.
    settings: dict[str, Any] = {"training.steps": 100_000, "training.warmup_steps": 0}
    settings["training.samples_per_batch"] = 256 if options.interpret else 0
    if options.interpret:
        settings |= {"encoder.n_levels": 2, "network.n_neurons": 16, "head.n_neurons": 16}
        # Thousands of points that have nothing to do with how many rays there are.
        settings |= {"losses.hull": 0.0, "losses.sparseness": 0.0, "hull.resolution": 16}
    config = configuration(options, settings)
    trainer, task, _ = prepare(config, load_capture(config.capture), backend)
    if options.interpret:
        task.rays_per_batch = 24.0
    return trainer


def pictures(
    options: Namespace, backends: list[Backend], device: torch.device
) -> Iterator[dict[str, Any]]:
    """Yields how far pictures of one checkpoint are apart: saved by one backend, opened by others.

    The weights are those of a few steps of `reference`, then of each backend, through the
    tensors of a checkpoint.
    """
    every = [open_backend("reference", device.type), *backends]
    trainers = {backend.name: trainer_on(options, backend) for backend in every}
    rays = _some_rays(trainers["reference"].task, 12 if options.interpret else 4096)
    for saver, trainer in trainers.items():
        # The reference takes seconds for what others do at once.
        n_steps = 10 if saver == "reference" else 100
        for _ in range(0 if options.interpret else n_steps):
            trainer.advance()
        tensors = {name: value.clone() for name, value in trainer.task.state()[0].items()}
        found = {}
        for opener, other in trainers.items():
            task = other.task
            assert isinstance(task, CaptureTask)
            restore_model(task.field, task.occupancy, tensors)
            found[opener] = render(task.field, task.occupancy, rays).rgbs
        for name, picture in found.items():
            error = float((picture - found["reference"]).abs().mean())
            yield {
                "backend": name,
                "kernel": f"picture of a checkpoint by {saver}",
                "errors": [float(f"{error:.2e}")],
                "agrees": error < PICTURE_TOLERANCES[name],
            }


def _some_rays(task: Task, count: int) -> Rays:
    """Returns seeded rays of the first frame."""
    assert isinstance(task, CaptureTask)
    generator = torch.Generator(task.draws_on).manual_seed(0)
    drawn = task.source.draw((0,), count, 1.0, generator)
    return drawn.to(task.field.backend.device).rays


def trained(options: Namespace, backends: list[str], device: torch.device) -> dict[str, Any]:
    """Trains, meshes, renders and scores a capture, and opens its checkpoint on every backend.

    Of several backends it takes the one that `--device auto` does. Where nothing is measured, the
    CPU's kernels stand for it.
    """
    if device.type != "cuda":
        backends = ["cpu"]
    chosen = backends[0] if len(backends) == 1 else "auto"
    settings = {**REDUCED, "training.seconds": options.seconds, "training.device": device.type}
    settings |= {"training.backend": chosen, "training.samples_per_batch": 0}
    if options.interpret:
        settings |= {"training.steps": 300, "training.samples_per_batch": 1024}
        settings |= {"training.warmup_steps": 30, "meshing.resolution": 48}
    config = configuration(options, settings)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    row = measured_run(config, OUT)
    wanted = ("psnr", "masked_psnr", "chamfer", "steps", "train_seconds", "mesh_seconds")
    found = {"capture": config.capture.path, "backend": open_backend(chosen, device.type).name}
    found |= {name: row[name] for name in wanted} | memory(device)
    differences = _pictures_differ(config, ["reference", *backends], device)
    return found | {"pictures_differ_by": differences}


def _pictures_differ(config: Config, backends: list[str], device: torch.device) -> dict[str, float]:
    """Returns the mean difference of a picture's colours from the first backend's."""
    reconstruction = load_reconstruction(OUT, device.type)
    field = reconstruction.field
    source = prepare(config, load_capture(config.capture), field.backend)[1].source
    batch = source.draw((0,), 4096, 0.7, torch.Generator(device).manual_seed(0))
    rays, pictures = batch.to(device).rays, []
    for name in backends:
        field.backend = open_backend(name, device.type)
        pictures.append(render(field, reconstruction.occupancy, rays).rgbs)
    pairs = zip(backends[1:], pictures[1:], strict=True)
    return {name: round(float((one - pictures[0]).abs().mean()), 5) for name, one in pairs}
