"""Encoders of positions; `ENCODERS` maps a config's `kind` to its class."""

from __future__ import annotations

from .base import Encoder
from .frequency import Frequency, FrequencyConfig
from .hash_grid import HashGrid, HashGrid4D, HashGrid4DConfig, HashGridConfig
from .picture_grids import PictureGrid, PictureGridConfig, VideoGrid, VideoGridConfig
from .spherical_harmonics import harmonic_quadrics, spherical_harmonics

ENCODERS = {
    "hash_grid": HashGrid,
    "hash_grid_4d": HashGrid4D,
    "frequency": Frequency,
    "picture_grid": PictureGrid,
    "video_grid": VideoGrid,
}
EncoderConfig = HashGridConfig | HashGrid4DConfig | FrequencyConfig
"""The encoders of positions in space."""
VideoEncoderConfig = VideoGridConfig | PictureGridConfig
"""The encoders of pixels."""
AnyEncoderConfig = EncoderConfig | VideoEncoderConfig

__all__ = [
    "ENCODERS",
    "AnyEncoderConfig",
    "Encoder",
    "EncoderConfig",
    "Frequency",
    "FrequencyConfig",
    "HashGrid",
    "HashGrid4D",
    "HashGrid4DConfig",
    "HashGridConfig",
    "PictureGrid",
    "PictureGridConfig",
    "VideoEncoderConfig",
    "VideoGrid",
    "VideoGridConfig",
    "harmonic_quadrics",
    "spherical_harmonics",
]
