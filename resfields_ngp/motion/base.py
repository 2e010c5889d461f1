"""What every motion model gives: where a point of a frame lies in the reference, and more inputs.

Vocabulary
    reference   the space that all frames share: the shape at rest, the canonical space.
    extras      what the geometry network sees besides: a frame's code, ambient coordinates.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..backends.base import Backend
from ..backends.specs import MlpSpec
from ..encoders import HashGrid, HashGridConfig
from ..mlp import ResFieldMlp
from ..ranges import check_ranges, check_width
from ..records import FrameSlices, between_frames, frame_time
from ..resfield import ResFieldConfig, TimeCoefficients
from ..transfers import on_device
from . import jets


@dataclass(frozen=True)
class Warped:
    """Points of some frames, moved to the reference."""

    positions: Tensor
    """(N, 1 + D, 3) jets of the positions in the reference, by position in the frame."""
    extras: Tensor
    """(N, 1 + D, n_extras) jets of further inputs of the geometry network."""


class Motion(nn.Module):
    """How things move: a map from every frame to the reference."""

    n_extras: int = 0
    """Further inputs that the geometry network receives."""
    is_warp: bool = True
    """False where positions stay as they are."""
    is_two_way: bool = False
    """True where `from_reference` leads back with the same parameters."""

    @abstractmethod
    def forward(
        self,
        positions: Tensor,  # (N, 1 + D, 3) jets, model space
        slices: FrameSlices,
        backend: Backend,
        released: float,
    ) -> Warped:
        """Returns the points in the reference; `released` in [0, 1] is as for encoders.

        Differentiable in positions and parameters.
        """

    def from_reference(
        self, positions: Tensor, slices: FrameSlices, backend: Backend, released: float
    ) -> Tensor:  # (N, 1 + D, 3)
        """Returns where points of the reference lie at their rows' frames; see `is_two_way`."""
        raise NotImplementedError(f"{type(self).__name__} leads one way only")


@dataclass(frozen=True)
class MotionNetworkConfig:
    """A network from positions and frames to the parameters of a motion."""

    n_neurons: int = 64
    """Width of the hidden layers, a multiple of 16 up to 128."""
    n_hidden_layers: int = 2
    """Hidden layers."""
    n_frequencies: int = 4
    """Octaves of the positions that the network sees; 0: the positions only."""
    n_times: int = 0
    """Octaves of the time that the network sees; 0: no time."""
    n_code: int = 8
    """Numbers in the latent code of a frame; 0: no code."""
    n_levels: int = 0
    """Levels of a hash grid whose features the network sees too, 0 to 16; 0: no grid. For motion
    that changes from one spot to the next; the invertible model has none."""
    grid_residuals: int = 3
    """Residual features stored beside each feature of the grid, where residuals are used."""
    use_residual: bool = True
    """Let the network's weights change over time as the `residual` table says."""

    def __post_init__(self) -> None:
        check_width("motion.network", self.n_neurons)
        check_ranges(
            "motion.network",
            self,
            n_hidden_layers=(0, 8),
            n_frequencies=(0, 16),
            n_times=(0, 16),
            n_code=(0, 128),
            n_levels=(0, 16),
            grid_residuals=(0, 16),
        )


class FrameInputs(nn.Module):
    """What a network is told about a frame: its time in octaves, and a learned code."""

    times: Tensor
    """(n_frames, 2 n_times + 1) or (n_frames, 0)."""

    def __init__(
        self, n_times: int, n_code: int, n_frames: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.n_features = n_code + (2 * n_times + 1 if n_times else 0)
        times = torch.tensor([[frame_time(i, n_frames)] for i in range(n_frames)])
        octaves = jets.octaves(times[:, None], n_times, n_times)[:, 0]
        features = torch.cat([2.0 * times - 1.0, octaves], dim=1) if n_times else octaves
        self.register_buffer("times", features, persistent=False)
        if n_code:
            self.codes = TimeCoefficients(n_frames, (n_code,), ResFieldConfig())
            self.codes.knots.data.normal_(0.0, 0.1, generator=generator)

    def forward(self, frames: tuple[int, ...]) -> Tensor:
        """Returns (T, n_features) inputs of some frames."""
        times = self.times[on_device(frames, self.times.device)]
        return torch.cat([times, self.codes(frames)], dim=1) if hasattr(self, "codes") else times


class MotionNetwork(nn.Module):
    """A ResField network over positions and frames; its outputs are 0 at the start."""

    def __init__(
        self,
        config: MotionNetworkConfig,
        n_coordinates: int,
        n_outputs: int,
        n_frames: int,
        residual: ResFieldConfig,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.config = config
        self.frame_inputs = FrameInputs(config.n_times, config.n_code, n_frames, generator)
        n_inputs = n_coordinates * (1 + 2 * config.n_frequencies) + self.frame_inputs.n_features
        self.grid = None
        if config.n_levels and n_coordinates == 3:
            moves = config.use_residual and residual.rank > 0
            n_residuals = config.grid_residuals if moves else 0
            self.grid = HashGrid(
                HashGridConfig(
                    n_levels=config.n_levels,
                    per_level_scale=1.5,
                    n_residuals=n_residuals,
                    smooth_from=0,
                    start_levels=config.n_levels,
                ),
                n_frames,
                generator,
            )
            n_inputs += self.grid.n_features
        spec = MlpSpec(n_inputs, n_outputs, config.n_neurons, config.n_hidden_layers)
        chosen = residual if config.use_residual else ResFieldConfig(rank=0)
        self.mlp = ResFieldMlp(spec, n_frames, chosen, generator)
        self.mlp.weights.base.data[spec.offsets[-2] :] = 0.0

    def forward(
        self,
        coordinates: Tensor,  # (N, 1 + D, n_coordinates) jets, in [0, 1]
        slices: FrameSlices,
        backend: Backend,
        released: float,
        told: tuple[int, ...] | None = None,
    ) -> Tensor:  # (N, 1 + D, n_outputs)
        """Returns the outputs; `told` are frames whose times and codes it sees in place of its own.

        Half of the octaves take part from the start, the others as they are released.
        """
        n_octaves = self.config.n_frequencies
        active = n_octaves * (0.5 + 0.5 * released)
        frames = between_frames(self.frame_inputs, told or slices.frames)
        parts = [
            2.0 * coordinates - jets.of_constant(1.0, coordinates),
            jets.octaves(coordinates, n_octaves, active),
            jets.of_frames(frames, slices, coordinates.shape[1] - 1),
        ]
        if self.grid is not None:
            parts.append(jets.encoded(self.grid, coordinates, slices, backend, released))
        return self.mlp(torch.cat(parts, dim=2), slices, backend)
