"""Dynamic radiance fields: a density and view-dependent colour (NeRF, instant-NGP)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from ..backends.base import Backend
from ..records import FrameSlices
from ..resfield import ResFieldConfig
from .base import Outputs, RadianceHead
from .colours import ColourGridConfig, Colours, check_colours


@dataclass(frozen=True)
class NerfConfig:
    """Density head."""

    kind: Literal["nerf"] = "nerf"
    """Which head this is."""
    surface_density: float = 500.0
    """Density, per model unit, of a surface: rays are sampled as finely as it needs. Meshes are cut
    where it is ``exp(-100 meshing.level)`` times as much."""
    view_degree: int = 0
    """Bands of spherical harmonics of the view direction that colours depend on, 0 (none) to 4.
    From few cameras they fit each picture by itself; 3 is for many, and for things that gleam."""
    n_geometry_features: int = 15
    """Features that the geometry network hands to the colour network."""
    n_neurons: int = 64
    """Width of the colour network, a multiple of 16 up to 128."""
    n_hidden_layers: int = 2
    """Hidden layers of the colour network."""
    colour_grid: ColourGridConfig = field(default_factory=ColourGridConfig)
    """What colours are read from besides."""

    def __post_init__(self) -> None:
        if self.surface_density <= 0.0:
            raise ValueError(f"head.surface_density is {self.surface_density}; allowed: above 0")
        check_colours(self)


class NerfHead(RadianceHead):
    """``density = 10 exp(output)``, thin at the start; colour from features and direction."""

    Config = NerfConfig
    outward = -1.0

    def __init__(
        self,
        config: NerfConfig,
        n_frames: int,
        residual: ResFieldConfig,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.config = config
        self.n_outputs = 1 + config.n_geometry_features
        self.n_tangents = 0
        self.register_buffer("output_scales", torch.ones(self.n_outputs), persistent=False)
        self.colours = Colours(config, 0, n_frames, residual, generator)

    def sharpness(self, fraction: float) -> float:
        """Returns the surface's density: opacity rises as ``1 - exp(-density * length)``."""
        return self.config.surface_density

    def densities(self, values: Tensor) -> Tensor:
        """Returns (N,) densities per model unit from (N, n_outputs) network outputs."""
        return 10.0 * torch.exp(values[:, 0].clamp(max=8.0))

    def alphas(self, outputs, directions, lengths, fraction):
        """See `RadianceHead.alphas`."""
        return -torch.expm1(-self.densities(outputs.values) * lengths)

    def rgbs(
        self,
        outputs: Outputs,
        directions: Tensor,
        slices: FrameSlices,
        fraction: float,
        backend: Backend,
    ) -> Tensor:
        """See `RadianceHead.rgbs`."""
        return self.colours(outputs, (), directions, slices, fraction, backend)

    def levels(self, values: Tensor) -> Tensor:
        """See `SurfaceHead.levels`: ``log(surface_density / density)``, a hundredth an e-fold."""
        return 0.01 * torch.log(self.config.surface_density / self.densities(values))
