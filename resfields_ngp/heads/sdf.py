"""Signed distance: the network's output, in model units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..resfield import ResFieldConfig
from .base import SurfaceHead


@dataclass(frozen=True)
class SdfConfig:
    """Distance head."""

    kind: Literal["sdf"] = "sdf"
    """Which head this is."""


class SdfHead(SurfaceHead):
    """``distance = 0.1 output``: a tenth of the box is the size of what is to be told apart."""

    Config = SdfConfig

    def __init__(
        self,
        config: SdfConfig,
        n_frames: int,
        residual: ResFieldConfig,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.n_outputs, self.n_tangents = 1, 0
        self.register_buffer("output_scales", torch.full((1,), 0.1), persistent=False)

    def levels(self, values: Tensor) -> Tensor:
        """See `SurfaceHead.levels`."""
        return values[:, 0]
