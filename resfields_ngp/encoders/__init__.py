"""Encoders of positions; `ENCODERS` maps a config's `kind` to its class."""

from __future__ import annotations

from .base import Encoder
from .frequency import Frequency, FrequencyConfig
from .hash_grid import HashGrid, HashGrid4D, HashGrid4DConfig, HashGridConfig
from .spherical_harmonics import spherical_harmonics

ENCODERS = {
    "hash_grid": HashGrid,
    "hash_grid_4d": HashGrid4D,
    "frequency": Frequency,
}
EncoderConfig = HashGridConfig | HashGrid4DConfig | FrequencyConfig

__all__ = [
    "ENCODERS",
    "Encoder",
    "EncoderConfig",
    "Frequency",
    "FrequencyConfig",
    "HashGrid",
    "HashGrid4D",
    "HashGrid4DConfig",
    "HashGridConfig",
    "spherical_harmonics",
]
