"""No warp: the field itself changes over time, by residuals, by the time or by a frame's code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from ..records import between_frames
from ..resfield import ResFieldConfig
from . import jets
from .base import FrameInputs, Motion, Warped


@dataclass(frozen=True)
class NoMotionConfig:
    """No warp; with `n_times` and without residuals this is T-NeRF (arXiv:2011.13961)."""

    kind: Literal["none"] = "none"
    """Which motion model this is."""
    n_times: int = 0
    """Octaves of the time that the geometry network sees, 0 to 16; 0: no time."""

    def __post_init__(self) -> None:
        if not 0 <= self.n_times <= 16:
            raise ValueError(f"motion.n_times is {self.n_times}; allowed: 0 to 16")


@dataclass(frozen=True)
class LatentConfig:
    """No warp; the geometry network sees a learned code of the frame (DyNeRF, arXiv:2103.02597)."""

    kind: Literal["latent"] = "latent"
    """Which motion model this is."""
    n_code: int = 16
    """Numbers in the code of a frame, 1 to 128."""

    def __post_init__(self) -> None:
        if not 1 <= self.n_code <= 128:
            raise ValueError(f"motion.n_code is {self.n_code}; allowed: 1 to 128")


class Static(Motion):
    """Points stay where they are; the geometry network is told the frame."""

    is_warp = False

    def __init__(
        self,
        config: NoMotionConfig | LatentConfig,
        n_frames: int,
        residual: ResFieldConfig,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        n_times = config.n_times if isinstance(config, NoMotionConfig) else 0
        n_code = config.n_code if isinstance(config, LatentConfig) else 0
        self.frame_inputs = FrameInputs(n_times, n_code, n_frames, generator)
        self.n_extras = self.frame_inputs.n_features

    def forward(self, positions, slices, backend, released):
        """See `Motion.forward`."""
        if not self.n_extras:
            return Warped(positions, positions[:, :, :0])
        frames = between_frames(self.frame_inputs, slices.frames)
        extras = jets.of_frames(frames, slices, positions.shape[1] - 1)
        return Warped(positions, extras)
