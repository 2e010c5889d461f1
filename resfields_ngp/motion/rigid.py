"""Every point has a rigid motion of its own (Nerfies), in a family of shapes (HyperNeRF)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch

from ..resfield import ResFieldConfig
from . import jets
from .base import Motion, MotionNetwork, MotionNetworkConfig, Warped


@dataclass(frozen=True)
class RigidConfig:
    """A network gives each point's screw motion in SE(3) (Nerfies, arXiv:2011.12948)."""

    kind: Literal["se3"] = "se3"
    """Which motion model this is."""
    network: MotionNetworkConfig = field(default_factory=MotionNetworkConfig)
    """The network."""


@dataclass(frozen=True)
class AmbientConfig:
    """SE(3) with ambient coordinates: what no motion explains (HyperNeRF, arXiv:2106.13228)."""

    kind: Literal["se3_ambient"] = "se3_ambient"
    """Which motion model this is."""
    network: MotionNetworkConfig = field(default_factory=MotionNetworkConfig)
    """The network of the motion, and that of the ambient coordinates."""
    n_ambient: int = 2
    """Ambient coordinates, 1 to 8."""
    n_ambient_frequencies: int = 2
    """Octaves of the ambient coordinates, 0 to 8."""

    def __post_init__(self) -> None:
        if not 1 <= self.n_ambient <= 8:
            raise ValueError(f"motion.n_ambient is {self.n_ambient}; allowed: 1 to 8")
        if not 0 <= self.n_ambient_frequencies <= 8:
            raise ValueError(
                f"motion.n_ambient_frequencies is {self.n_ambient_frequencies}; allowed: 0 to 8"
            )


class Rigid(Motion):
    """``exp([w; v]) (x - m) + m`` with m the middle of the box and w, v of the network."""

    def __init__(
        self,
        config: RigidConfig | AmbientConfig,
        n_frames: int,
        residual: ResFieldConfig,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.network = MotionNetwork(config.network, 3, 6, n_frames, residual, generator)

    def forward(self, positions, slices, backend, released):
        """See `Motion.forward`."""
        screws = self.network(positions, slices, backend, released)
        middle = jets.of_constant(0.5, positions)
        turned = jets.screw_motion(screws[:, :, :3], screws[:, :, 3:], positions - middle)
        return Warped(turned + middle, positions[:, :, :0])


class Ambient(Rigid):
    """A rigid motion, and coordinates of the shape's family that a second network gives."""

    def __init__(
        self,
        config: AmbientConfig,
        n_frames: int,
        residual: ResFieldConfig,
        generator: torch.Generator,
    ) -> None:
        super().__init__(config, n_frames, residual, generator)
        self.config = config
        self.n_extras = config.n_ambient * (1 + 2 * config.n_ambient_frequencies)
        self.slicing = MotionNetwork(
            config.network, 3, config.n_ambient, n_frames, residual, generator
        )

    def forward(self, positions, slices, backend, released):
        """See `Motion.forward`."""
        warped = super().forward(positions, slices, backend, released)
        ambient = self.slicing(positions, slices, backend, released)
        n_octaves = self.config.n_ambient_frequencies
        waves = jets.octaves(ambient, n_octaves, n_octaves * released)
        return Warped(warped.positions, torch.cat([ambient, waves], dim=2))
