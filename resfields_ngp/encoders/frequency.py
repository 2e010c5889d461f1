"""Frequency encoding (NeRF, arXiv:2003.08934, Eq. 4) of positions, with derivatives."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch

from .base import Encoder


@dataclass(frozen=True)
class FrequencyConfig:
    """Sines and cosines of positions at octaves, which the published ResFields take."""

    kind: Literal["frequency"] = "frequency"
    """Which encoder this is."""
    n_frequencies: int = 6
    """Octaves; the output has 6 features for each."""
    start_frequencies: int = 4
    """Octaves active at the start; the rest are released by `network.release_end`."""

    def __post_init__(self) -> None:
        if not 1 <= self.n_frequencies <= 16:
            raise ValueError(f"encoder.n_frequencies is {self.n_frequencies}; allowed: 1 to 16")


class Frequency(Encoder):
    """``sin(2^k pi x), cos(2^k pi x)`` for k = 0 .. n_frequencies - 1."""

    Config = FrequencyConfig

    def __init__(self, config: FrequencyConfig, n_frames: int, generator: torch.Generator) -> None:
        super().__init__()
        self.config = config
        self.n_features = 6 * config.n_frequencies

    def forward(self, positions, slices, backend, n_tangents, released):
        """See `Encoder.forward`."""
        n_frequencies = self.config.n_frequencies
        octaves = torch.arange(n_frequencies, device=positions.device)
        factors = math.pi * 2.0**octaves
        active = self.config.start_frequencies + released * (
            n_frequencies - self.config.start_frequencies
        )
        weights = (active - octaves).clamp(0.0, 1.0)[None, :, None]
        angles = factors[None, :, None] * positions[:, None, :]  # (N, k, 3)
        sines, cosines = weights * angles.sin(), weights * angles.cos()
        rows = [torch.cat([sines, cosines], dim=2).flatten(1)]
        for axis in range(n_tangents):
            along = torch.zeros(3, device=positions.device)
            along[axis] = 1.0
            slope = factors[None, :, None] * along
            rows.append(torch.cat([slope * cosines, -slope * sines], dim=2).flatten(1))
        return torch.stack(rows, dim=1)
