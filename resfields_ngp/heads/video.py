"""Video: colour straight from the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..resfield import ResFieldConfig
from .base import Head


@dataclass(frozen=True)
class VideoConfig:
    """Colour head of a video."""

    kind: Literal["video"] = "video"
    """Which head this is."""


class VideoHead(Head):
    """``rgb = 0.5 + outputs``: grey at the start, linear so that no colour saturates."""

    Config = VideoConfig

    def __init__(
        self,
        config: VideoConfig,
        n_frames: int,
        residual: ResFieldConfig,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.n_outputs, self.n_tangents = 3, 0
        self.register_buffer("output_scales", torch.ones(3), persistent=False)

    def rgbs(
        self,
        values: Tensor,  # (N, 3)
    ) -> Tensor:  # (N, 3)
        """Returns colours, which may leave [0, 1]: their errors are to have gradients there."""
        return 0.5 + values
