"""Everything that ``prepare`` can be told, one tree of tables for meshes and one for footage."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ..sequences import SequenceConfig
from .footage import FootageConfig
from .matting import MattingConfig
from .pictures import PictureConfig
from .rigs import RigConfig


@dataclass(frozen=True)
class CloudConfig:
    """The ground-truth points written with a capture."""

    points: int = 100_000
    """Points in each frame's cloud; 0 writes none."""
    surface: Literal["visible", "all"] = "visible"
    """visible: only where something outside can see it, as no camera sees inner layers."""
    seed: int = 0
    """Draws the points."""

    def __post_init__(self) -> None:
        if self.points < 0:
            raise ValueError(f"points is {self.points}; allowed: 0 or more")
        if self.surface not in ("visible", "all"):
            raise ValueError(f'surface is "{self.surface}"; allowed: visible, all')


@dataclass(frozen=True)
class PrepareConfig:
    """Every setting of ``prepare owlii`` and ``prepare meshes``."""

    sequence: SequenceConfig = field(default_factory=SequenceConfig)
    """Which meshes."""
    rig: RigConfig = field(default_factory=RigConfig)
    """Where the cameras stand."""
    picture: PictureConfig = field(default_factory=PictureConfig)
    """What the pictures look like."""
    clouds: CloudConfig = field(default_factory=CloudConfig)
    """Ground-truth points."""


@dataclass(frozen=True)
class PrepareVideoConfig:
    """Every setting of ``prepare video``."""

    footage: FootageConfig = field(default_factory=FootageConfig)
    """Which images and cameras."""
    matting: MattingConfig = field(default_factory=MattingConfig)
    """Where the masks come from."""
