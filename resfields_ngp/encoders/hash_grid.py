"""Hash grids that change over time: 3-D with residual features, and 4-D.

Interpolation in a table is linear, so it commutes with the ResFields sum: each entry stores its
base and its R residual features side by side and a look-up contracts them with the frame's
coefficients inside the kernel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..backends.specs import GridSpec
from ..ranges import check_ranges
from ..records import between_frames
from ..resfield import ResFieldConfig, TimeCoefficients, smooth_rows
from ..sharing import shared
from ..transfers import sent
from .base import Encoder


@dataclass(frozen=True)
class HashGridConfig:
    """3-D multiresolution hash grid (instant-NGP, arXiv:2201.05989), features with residuals."""

    kind: Literal["hash_grid"] = "hash_grid"
    """Which encoder this is."""
    n_levels: int = 12
    """Resolutions from coarse to fine."""
    n_features_per_level: int = 2
    """Features of each level."""
    log2_hashmap_size: int = 15
    """A level holds at most 2 to this many entries."""
    base_resolution: int = 8
    """Resolution of the coarsest level, cells across the model box."""
    per_level_scale: float = 1.35
    """Growth of the resolution from level to level."""
    n_residuals: int = -1
    """Residual features stored beside each feature; -1 takes one for every four frames, 3 to 15; 0
    switches them off (plain instant-NGP)."""
    start_levels: int = 4
    """Levels active at the start; the rest are released one by one, by `network.release_end`."""
    smooth_from: int = 25
    """Frames from which coefficients start as slow waves, 0 for never: neighbours are alike, and
    the images of one teach the others too. In fewer frames much happens from one to the next."""

    def __post_init__(self) -> None:
        check_grid(self)
        check_ranges("encoder", self, n_residuals=(-1, math.inf), smooth_from=(0, math.inf))


@dataclass(frozen=True)
class HashGrid4DConfig:
    """4-D hash grid over (x, y, z, time); a look-up blends the two time slices around its frame."""

    kind: Literal["hash_grid_4d"] = "hash_grid_4d"
    """Which encoder this is."""
    n_levels: int = 12
    """Resolutions from coarse to fine."""
    n_features_per_level: int = 2
    """Features of each level."""
    log2_hashmap_size: int = 17
    """A level holds at most 2 to this many entries, over all its time slices."""
    base_resolution: int = 8
    """Resolution of the coarsest level, cells across the model box."""
    per_level_scale: float = 1.35
    """Growth of the resolution from level to level."""
    base_time_resolution: int = 2
    """Time slices of the coarsest level; they grow with the level up to one a frame."""
    start_levels: int = 4
    """Levels active at the start; the rest are released one by one, by `network.release_end`."""

    def __post_init__(self) -> None:
        check_grid(self)
        check_ranges("encoder", self, base_time_resolution=(1, math.inf))


def grid_spec(
    config: Any,
    n_channels: int,
    time_resolutions: tuple[int, ...] = (),
    n_dims: int = 3,
    aspect: float = 1.0,
) -> GridSpec:
    """Returns the shape of a grid from any grid's config, and what not all configs say."""
    return GridSpec(
        config.n_levels,
        config.n_features_per_level,
        n_channels,
        config.log2_hashmap_size,
        config.base_resolution,
        config.per_level_scale,
        time_resolutions,
        n_dims,
        aspect,
    )


def check_grid(config: Any) -> None:
    """Raises ValueError where a grid's settings are out of range."""
    check_ranges(
        "encoder",
        config,
        n_levels=(1, 32),
        n_features_per_level=(1, 8),
        log2_hashmap_size=(8, 24),
        base_resolution=(1, 1024),
        per_level_scale=(1.0, 8.0),
        start_levels=(0, 32),
    )


def residual_count(n_residuals: int, n_frames: int, frames_each: int = 4) -> int:
    """Returns how many residual features a sequence gets: a longer one moves in more ways.

    Args:
        n_residuals: What was asked for; below 0 is automatic.
        n_frames: Frames of the sequence.
        frames_each: For how many of them there is one.

    >>> [residual_count(-1, n_frames) for n_frames in (1, 12, 40, 100)]
    [0, 3, 10, 15]
    >>> [residual_count(-1, n_frames, frames_each=2) for n_frames in (1, 3, 12, 100)]
    [0, 2, 6, 15]
    """
    automatic = min(max(n_frames // frames_each, 3), 15)
    return min(automatic if n_residuals < 0 else n_residuals, n_frames - 1)


def wave_counts(n_frames: int, n_levels: int, n_residuals: int) -> list[int]:
    """Returns from how many slow cosines the coefficients of each level start.

    From `n_residuals`, as few as there can be, for the coarsest level to the geometric mean of that
    and of all there are for the finest: what crosses a small cell is gone sooner.

    >>> wave_counts(100, 4, 15)
    [15, 21, 28, 39]
    """
    growth = math.sqrt((n_frames - 1) / n_residuals)
    last = max(n_levels - 1, 1)
    return [round(n_residuals * growth ** (level / last)) for level in range(n_levels)]


class Grid(Encoder):
    """What all grids share: the table, and the release of levels."""

    def __init__(self, spec: GridSpec, start_levels: int, generator: torch.Generator) -> None:
        super().__init__()
        self.spec = spec
        self.start_levels = start_levels
        self.n_features = spec.n_features
        self.table = nn.Parameter(
            torch.empty(spec.table_shape).uniform_(-1e-4, 1e-4, generator=generator)
        )

    def level_weights(self, released: float) -> Tensor:
        """Returns (L,) weights in [0, 1]: levels fade in one after the other (BARF, Nerfies)."""
        n_levels = self.spec.n_levels
        active = self.start_levels + released * (n_levels - self.start_levels)
        return (active - torch.arange(n_levels, device=self.table.device)).clamp(0.0, 1.0)


class HashGrid(Grid):
    """Hash grid whose features carry time residuals."""

    Config = HashGridConfig

    def __init__(self, config: HashGridConfig, n_frames: int, generator: torch.Generator) -> None:
        n_residuals = residual_count(config.n_residuals, n_frames)
        spec = self.make_spec(config, 1 + n_residuals)
        super().__init__(spec, config.start_levels, generator)
        if n_residuals:
            self.coefficients = TimeCoefficients(
                n_frames, (spec.n_levels, n_residuals), ResFieldConfig()
            )
            self.coefficients.knots.data.normal_(0.0, 1.0, generator=generator)
            if 0 < config.smooth_from <= n_frames:
                waves = wave_counts(n_frames, spec.n_levels, n_residuals)
                rows = smooth_rows(n_frames, waves, n_residuals, generator)
                self.coefficients.knots.data.copy_(rows)

    @staticmethod
    def make_spec(config: HashGridConfig, n_channels: int) -> GridSpec:
        """Returns the shape of the grid."""
        return grid_spec(config, n_channels)

    def forward(self, positions, slices, backend, n_tangents, released):
        """See `Encoder.forward`."""
        frames = slices.frames
        coefficients = shared(self, (frames, released), lambda: self._composed(frames, released))
        return backend.hash_grid(
            positions, slices, coefficients, None, self.table, self.spec, n_tangents
        )

    def _composed(self, frames: tuple[float, ...], released: float) -> Tensor:
        """Returns (T, L, C) weights of the channels: the base's and those of the residuals."""
        coefficients = self.table.new_ones((len(frames), self.spec.n_levels, 1))
        if self.spec.n_channels > 1:
            residuals = between_frames(self.coefficients, frames)
            coefficients = torch.cat([coefficients, residuals], dim=2)
        return coefficients * self.level_weights(released)[:, None]


class HashGrid4D(Grid):
    """Hash grid over space and time."""

    is_recordable = False  # `time_slices` are found on the host

    Config = HashGrid4DConfig

    def __init__(self, config: HashGrid4DConfig, n_frames: int, generator: torch.Generator) -> None:
        growth = (n_frames / config.base_time_resolution) ** (1.0 / max(config.n_levels - 1, 1))
        resolutions = tuple(
            min(n_frames, round(config.base_time_resolution * growth**level))
            for level in range(config.n_levels)
        )
        super().__init__(grid_spec(config, 1, resolutions), config.start_levels, generator)
        self.n_frames = n_frames

    def time_slices(self, frames: tuple[float, ...]) -> tuple[Tensor, Tensor]:
        """Returns the (T, L, 2) slices around each frame and their (T, L, 2) weights."""
        last = torch.tensor(self.spec.time_resolutions) - 1
        # Multiplied first, in float64: a frame at a slice is there exactly.
        at = torch.tensor(frames, dtype=torch.float64)[:, None] * last / max(self.n_frames - 1, 1)
        low = torch.minimum(at.floor(), (last - 1).clamp(min=0)).long()
        high = torch.minimum(low + 1, last)
        fraction = (at - low).float()
        return torch.stack([low, high], 2), torch.stack([1.0 - fraction, fraction], 2)

    def forward(self, positions, slices, backend, n_tangents, released):
        """See `Encoder.forward`."""
        slots, weights = self.time_slices(slices.frames)
        coefficients = sent(weights, self.table.device) * self.level_weights(released)[:, None]
        return backend.hash_grid(
            positions, slices, coefficients, slots, self.table, self.spec, n_tangents
        )
