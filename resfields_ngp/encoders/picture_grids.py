"""2-D hash grids of pictures that change: with time residuals, and 3-D over (time, y, x)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch

from ..backends.specs import GridSpec
from ..ranges import check_ranges
from .hash_grid import Grid, HashGrid, HashGrid4D, check_grid, grid_spec


@dataclass(frozen=True)
class PictureGridConfig:
    """2-D hash grid over (y, x), features with time residuals."""

    kind: Literal["picture_grid"] = "picture_grid"
    """Which encoder this is."""
    n_levels: int = 12
    """Resolutions from coarse to fine."""
    n_features_per_level: int = 2
    """Features of each level."""
    log2_hashmap_size: int = 18
    """A level holds at most 2 to this many entries."""
    base_resolution: int = 16
    """Cells along the longer side on the coarsest level."""
    per_level_scale: float = 1.4
    """Growth of the resolution from level to level."""
    n_residuals: int = 7
    """Residual features stored beside each feature; 0 switches them off (a still picture)."""
    start_levels: int = 4
    """Levels active at the start; the rest are released one by one, by `network.release_end`."""
    aspect: float = 1.0
    """Height over width; the clip's own where a clip is fitted."""
    smooth_from: int = 0
    """Frames from which coefficients start as slow waves, 0 for never."""

    def __post_init__(self) -> None:
        check_grid(self)
        check_ranges("encoder", self, n_residuals=(0, math.inf), smooth_from=(0, math.inf))


@dataclass(frozen=True)
class VideoGridConfig:
    """3-D hash grid over (time, y, x); a look-up blends the two time slices around its frame."""

    kind: Literal["video_grid"] = "video_grid"
    """Which encoder this is."""
    n_levels: int = 8
    """Resolutions from coarse to fine."""
    n_features_per_level: int = 2
    """Features of each level."""
    log2_hashmap_size: int = 20
    """A level holds at most 2 to this many entries, over all its time slices."""
    base_resolution: int = 16
    """Cells along the longer side on the coarsest level."""
    per_level_scale: float = 1.6
    """Growth of the resolution from level to level."""
    base_time_resolution: int = 0
    """Time slices of the coarsest level; 0 takes as many as the finest has."""
    time_resolution: int = 0
    """Time slices of the finest level, 0 for one a frame; fewer are interpolated between."""
    start_levels: int = 4
    """Levels active at the start; the rest are released one by one, by `network.release_end`."""
    aspect: float = 1.0
    """Height over width; the clip's own where a clip is fitted."""

    def __post_init__(self) -> None:
        check_grid(self)
        at_least_0 = (0, math.inf)
        check_ranges("encoder", self, base_time_resolution=at_least_0, time_resolution=at_least_0)


class PictureGrid(HashGrid):
    """2-D hash grid whose features carry time residuals."""

    Config = PictureGridConfig

    @staticmethod
    def make_spec(config: PictureGridConfig, n_channels: int) -> GridSpec:
        """See `HashGrid.make_spec`."""
        return grid_spec(config, n_channels, (), 2, config.aspect)


class VideoGrid(HashGrid4D):
    """Hash grid over two axes of space and time."""

    Config = VideoGridConfig

    def __init__(self, config: VideoGridConfig, n_frames: int, generator: torch.Generator) -> None:
        finest = min(config.time_resolution or n_frames, n_frames)
        coarsest = min(config.base_time_resolution or finest, finest)
        growth = (finest / coarsest) ** (1.0 / max(config.n_levels - 1, 1))
        slices = tuple(round(coarsest * growth**level) for level in range(config.n_levels))
        spec = grid_spec(config, 1, slices, 2, config.aspect)
        Grid.__init__(self, spec, config.start_levels, generator)
        self.n_frames = n_frames
