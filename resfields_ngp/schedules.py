"""How long a training takes and how fast it learns: settings that every task shares."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from .ranges import check_ranges

Background = Literal["auto", "black", "white", "random"]


@dataclass(frozen=True)
class ScheduleConfig:
    """How long, how fast, on what: what every task is trained by."""

    seconds: float = 180.0
    """Wall-clock budget of the training loop in seconds; every schedule is stretched to fit it.
    0: use `steps`."""
    steps: int = 0
    """Training steps; takes the place of the time budget when above 0, and is then reproducible."""
    frames_per_batch: int = 0
    """Distinct frames of a step; network weights are composed once for each. 0 takes a sixth of all
    frames, at least 4 and at most 16."""
    samples_per_batch: int = 0
    """Samples of a step: on rays (their number follows), pixels of a video, points of a surface.
    0 is what keeps the device busy: 16384 on a CPU, 262144 on a GPU."""
    grid_rate: float = 0.005
    """Adam's learning rate of the encoder's table."""
    network_rate: float = 0.003
    """Adam's learning rate of networks and coefficients."""
    final_rate: float = 0.05
    """Learning rates end at this part of their start, decaying exponentially."""
    checkpoint_every: int = 500
    """Steps between checkpoints, or more: they take no more than a fiftieth of the time. One is
    always written at the end."""
    seed: int = 0
    """Seed of every random draw."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto takes the best that works."""
    backend: str = "auto"
    """Kernels: auto (on a GPU the faster one, measured), cpu, triton, tcnn or reference."""
    threads: int = 0
    """CPU threads; 0 takes all."""
    cuda_graphs: bool = True
    """Record steps on a GPU and replay them, where that can be done; `resfields_ngp.recording`."""

    def __post_init__(self) -> None:
        at_least_0, at_least_1 = (0, math.inf), (1, math.inf)
        check_ranges(
            "training",
            self,
            seconds=at_least_0,
            steps=at_least_0,
            frames_per_batch=at_least_0,
            samples_per_batch=at_least_0,
            grid_rate=at_least_0,
            network_rate=at_least_0,
            final_rate=(0.0, 1.0),
            checkpoint_every=at_least_1,
            seed=at_least_0,
            threads=at_least_0,
        )
        if self.seconds == 0.0 and self.steps == 0:
            raise ValueError("training.seconds and training.steps are both 0; give one of them")

    def frames_of_step(self, n_frames: int) -> int:
        """Returns how many distinct frames a step has, of so many."""
        wanted = self.frames_per_batch or min(max(n_frames // 6, 4), 16)
        return min(wanted, n_frames)


@dataclass(frozen=True)
class TrainingConfig(ScheduleConfig):
    """How long, how fast, on what: the training of a capture."""

    max_rays: int = 0
    """Most rays of a step. 0 is 16384 on a CPU and 262144 on a GPU."""
    foreground: float = 0.5
    """Part of the rays drawn on the subject, where masks exist."""
    warmup_steps: int = 100
    """Steps that first fit the shape to the hull's core; at most a tenth of the budget."""
    warmup_points: int = 4096
    """Points of a warm-up step."""
    background: Background = "auto"
    """What lies behind the subject. With masks, pictures and renderings are laid over it: auto is
    random, so that transparency never pays. Without masks the pictures show it: black (auto) or
    white; random then wants every ray to end in something."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.background not in get_args(Background):
            allowed = ", ".join(get_args(Background))
            raise ValueError(f"training.background is {self.background!r}; allowed: {allowed}")
        at_least_0 = (0, math.inf)
        check_ranges(
            "training",
            self,
            max_rays=at_least_0,
            foreground=(0.0, 1.0),
            warmup_steps=at_least_0,
            warmup_points=(1, math.inf),
        )

    def rendered_background(self, has_masks: bool) -> float:
        """Returns the grey level that renderings lie on: black with masks, which cut them out."""
        return 1.0 if self.background == "white" and not has_masks else 0.0
