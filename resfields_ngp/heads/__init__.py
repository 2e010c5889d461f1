"""Heads; `HEADS` maps a config's `kind` to its class."""

from __future__ import annotations

from .base import Head
from .nerf import NerfConfig, NerfHead
from .neus import NeusConfig, NeusHead

HEADS = {
    "neus": NeusHead,
    "nerf": NerfHead,
}
HeadConfig = NeusConfig | NerfConfig

__all__ = ["HEADS", "Head", "HeadConfig", "NerfConfig", "NerfHead", "NeusConfig", "NeusHead"]
