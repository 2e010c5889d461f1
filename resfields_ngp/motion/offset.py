"""Every point is moved by an offset (D-NeRF)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch

from ..resfield import ResFieldConfig
from .base import Motion, MotionNetwork, MotionNetworkConfig, Warped


@dataclass(frozen=True)
class OffsetConfig:
    """A network gives each point's offset to the reference (D-NeRF, arXiv:2011.13961)."""

    kind: Literal["offset"] = "offset"
    """Which motion model this is."""
    network: MotionNetworkConfig = field(
        default_factory=lambda: MotionNetworkConfig(n_times=4, n_code=0)
    )
    """The network."""


class Offset(Motion):
    """``x + network(x, t)``."""

    def __init__(
        self,
        config: OffsetConfig,
        n_frames: int,
        residual: ResFieldConfig,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.network = MotionNetwork(config.network, 3, 3, n_frames, residual, generator)

    def forward(self, positions, slices, backend, released):
        """See `Motion.forward`."""
        moved = positions + self.network(positions, slices, backend, released)
        return Warped(moved, positions[:, :, :0])
