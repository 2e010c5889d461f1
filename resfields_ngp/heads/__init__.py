"""Heads; `HEADS` maps a config's `kind` to its class."""

from __future__ import annotations

from .base import Head, RadianceHead, SurfaceHead
from .nerf import NerfConfig, NerfHead
from .neus import NeusConfig, NeusHead
from .sdf import SdfConfig, SdfHead
from .video import VideoConfig, VideoHead

HEADS = {
    "neus": NeusHead,
    "nerf": NerfHead,
    "video": VideoHead,
    "sdf": SdfHead,
}
HeadConfig = NeusConfig | NerfConfig
"""The heads that a capture can be reconstructed with."""
AnyHeadConfig = HeadConfig | SdfConfig | VideoConfig
"""Those of other signals too."""

__all__ = [
    "HEADS",
    "AnyHeadConfig",
    "Head",
    "HeadConfig",
    "NerfConfig",
    "NerfHead",
    "NeusConfig",
    "NeusHead",
    "RadianceHead",
    "SdfConfig",
    "SdfHead",
    "SurfaceHead",
    "VideoConfig",
    "VideoHead",
]
