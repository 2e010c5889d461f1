"""Trainers of a ball, and runs that are kept in memory, for the tests of training."""

from __future__ import annotations

import torch
from ball_scene import (
    N_FRAMES,
    ball_capture,
    ball_occupancy,
    ball_space,
    small_field,
)

from resfields_ngp.backends import Backend, open_backend
from resfields_ngp.losses import LossConfig
from resfields_ngp.occupancy import OccupancyConfig
from resfields_ngp.pixels import PixelSource
from resfields_ngp.schedules import TrainingConfig
from resfields_ngp.tasks.capture import CaptureTask
from resfields_ngp.trainer import Trainer
from resfields_ngp.training import fit

OCCUPANCY = OccupancyConfig(
    band=4.0, min_band=0.25, step=1.0, min_step=0.002, max_step=0.03, stretch=2.0, refresh_every=2
)
LOSSES = LossConfig(1.0, "l1", 0.1, 0.1, 1.0, 0.1, 0.0, 0.0)
SETTINGS = {
    "seconds": 0.0,
    "steps": 6,
    "frames_per_batch": 2,
    "samples_per_batch": 512,
    "max_rays": 64,
    "foreground": 0.5,
    "warmup_steps": 0,
    "warmup_points": 64,
    "grid_rate": 0.01,
    "network_rate": 0.003,
    "final_rate": 0.1,
    "checkpoint_every": 100,
    "seed": 0,
}


class StandInRun:
    """Keeps in memory what a run folder would hold."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.metrics: list[dict] = []

    def append_metrics(self, values: dict) -> None:
        self.metrics.append(values)

    def save_checkpoint(self, step: int, tensors: dict, state: dict) -> None:
        self.steps.append(step)


def make_trainer(
    backend: str | Backend = "cpu",
    head: str = "neus",
    has_masks: bool = True,
    losses: LossConfig = LOSSES,
    **settings,
) -> Trainer:
    capture = ball_capture()
    source = PixelSource(capture, ball_space(), capture.views)
    source.has_masks = has_masks
    opened = open_backend(backend, "cpu") if isinstance(backend, str) else backend
    field = small_field(opened, head)
    config = TrainingConfig(**(SETTINGS | settings))
    occupancy = ball_occupancy(OCCUPANCY, has_masks)
    return Trainer(config, CaptureTask(config, losses, field, occupancy, source, N_FRAMES))


def task_of(trainer: Trainer) -> CaptureTask:
    assert isinstance(trainer.task, CaptureTask)
    return trainer.task


def run_fit(trainer: Trainer, **options) -> tuple[bool, StandInRun]:
    run = StandInRun()
    return fit(trainer, run, **options), run  # pyright: ignore[reportArgumentType]


def parameters(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in trainer.task.field.state_dict().items()}
