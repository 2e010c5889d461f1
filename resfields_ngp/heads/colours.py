"""Colours of a radiance head: a network on what geometry hands on, and on a grid if asked for.

Shape is smooth where colours are not, and is found first. So the grid takes part late, when the
surface has settled: colours that could explain anything from the start would explain what is the
shape's to explain.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from ..backends.base import Backend
from ..backends.specs import MlpSpec
from ..encoders import spherical_harmonics
from ..encoders.hash_grid import HashGrid, HashGridConfig, residual_count
from ..mlp import ResFieldMlp
from ..ranges import check_ranges, check_width
from ..records import FrameSlices
from ..resfield import ResFieldConfig
from .base import Outputs


@dataclass(frozen=True)
class ColourGridConfig:
    """A hash grid with time residuals that colours alone are read from."""

    n_levels: int = 0
    """Resolutions from coarse to fine, such as 8; 0 for no such grid."""
    n_features_per_level: int = 2
    """Features of each level."""
    log2_hashmap_size: int = 15
    """A level holds at most 2 to this many entries."""
    base_resolution: int = 8
    """Resolution of the coarsest level, cells across the model box."""
    per_level_scale: float = 1.6
    """Growth of the resolution from level to level."""
    n_residuals: int = -1
    """Residual features stored beside each feature; -1 takes one for every two frames, 3 to 15; 0
    switches them off."""
    smooth_from: int = 25
    """Frames from which coefficients start as slow waves, 0 for never."""
    release_start: float = 0.3
    """Fraction of training from which levels take part, one after the other."""
    release_end: float = 0.8
    """Fraction of training by which all do."""

    def __post_init__(self) -> None:
        at_least_0 = (0, math.inf)
        check_ranges(
            "head.colour_grid",
            self,
            n_levels=(0, 32),
            n_features_per_level=(1, 8),
            log2_hashmap_size=(8, 24),
            base_resolution=(1, 1024),
            per_level_scale=(1.0, 8.0),
            n_residuals=(-1, math.inf),
            smooth_from=at_least_0,
            release_start=(0.0, 1.0),
            release_end=(self.release_start, 1.0),
        )

    def released(self, fraction: float) -> float:
        """Returns how much of the grid takes part at a fraction of training, 0 to 1.

        >>> [round(ColourGridConfig().released(fraction), 3) for fraction in (0.2, 0.55, 0.9)]
        [0.0, 0.5, 1.0]
        """
        if fraction >= self.release_end:
            return 1.0
        span = self.release_end - self.release_start
        return max(0.0, (fraction - self.release_start) / span) if span > 0 else 0.0


class ColourConfig(Protocol):
    """A head's settings of its colours."""

    @property
    def view_degree(self) -> int:
        """Bands of spherical harmonics of the view direction, 0 (none) to 4."""
        ...

    @property
    def n_geometry_features(self) -> int:
        """Features that the geometry network hands on."""
        ...

    @property
    def n_neurons(self) -> int:
        """Width of the network's hidden layers."""
        ...

    @property
    def n_hidden_layers(self) -> int:
        """Hidden layers of the network."""
        ...

    @property
    def colour_grid(self) -> ColourGridConfig:
        """The grid."""
        ...


def check_colours(config: ColourConfig) -> None:
    """Raises ValueError where a head's settings of its colours are out of range."""
    check_width("head", config.n_neurons)
    check_ranges(
        "head",
        config,
        view_degree=(0, 4),
        n_geometry_features=(0, 127),
        n_hidden_layers=(0, 16),
    )


class Colours(nn.Module):
    """From what a head reads of the geometry network to colours in [0, 1].

    Args:
        config: The head's.
        n_others: Inputs besides geometry features, grid and view.
        n_frames: Frames of the capture.
        residual: How the network's weights change over time.
        generator: Draws the network's initial weights; the grid has a generator of its own.
    """

    def __init__(
        self,
        config: ColourConfig,
        n_others: int,
        n_frames: int,
        residual: ResFieldConfig,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.view_degree, self.config = config.view_degree, config.colour_grid
        self.grid = _grid(self.config, n_frames, generator) if self.config.n_levels else None
        n_inputs = config.n_geometry_features + n_others + config.view_degree**2
        n_inputs += self.grid.n_features if self.grid is not None else 0
        spec = MlpSpec(n_inputs, 3, config.n_neurons, config.n_hidden_layers)
        self.network = ResFieldMlp(spec, n_frames, residual, generator)

    def forward(
        self,
        outputs: Outputs,
        others: Sequence[Tensor],  # each (N, F)
        directions: Tensor,  # (N, 3)
        slices: FrameSlices,
        fraction: float,
        backend: Backend,
    ) -> Tensor:  # (N, 3)
        """Returns colours at a fraction of training in [0, 1]."""
        inputs = [outputs.values[:, 1:], *others]
        if self.view_degree:
            inputs.append(spherical_harmonics(directions, self.view_degree))
        if self.grid is not None:
            released, positions = self.config.released(fraction), outputs.positions
            inputs.append(
                self.grid(positions, slices, backend, 0, released)[:, 0]
                if released
                else positions.new_zeros(len(positions), self.grid.n_features)
            )
        return bounded(self.network(torch.cat(inputs, dim=1)[:, None], slices, backend)[:, 0])


def _grid(config: ColourGridConfig, n_frames: int, generator: torch.Generator) -> HashGrid:
    own = torch.Generator().manual_seed(generator.initial_seed() + 2)
    shape = HashGridConfig(
        n_levels=config.n_levels,
        n_features_per_level=config.n_features_per_level,
        log2_hashmap_size=config.log2_hashmap_size,
        base_resolution=config.base_resolution,
        per_level_scale=config.per_level_scale,
        n_residuals=residual_count(config.n_residuals, n_frames, frames_each=2),
        start_levels=0,
        smooth_from=config.smooth_from,
    )
    return HashGrid(shape, n_frames, own)


def bounded(
    outputs: Tensor,  # (N, 3)
) -> Tensor:  # (N, 3) in [0, 1]
    """Returns ``1.5 sigmoid(outputs) - 0.25`` clamped to [0, 1], with the unclamped gradient.

    A plain sigmoid saturates at black and white, and under an L1 loss a channel that starts near 0
    hardly ever leaves it; the padding (mip-NeRF's, arXiv:2103.13415, but wider) keeps a slope.
    """
    padded = 1.5 * outputs.sigmoid() - 0.25
    inside = padded.clamp(0.0, 1.0)
    return inside.detach() + (padded - padded.detach())
