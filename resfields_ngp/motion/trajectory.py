"""Every point follows a smooth path: a few cosines over the sequence (DCT trajectory fields)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from ..records import FrameSlices, between_frames
from ..resfield import ResFieldConfig, dct_basis
from ..transfers import on_device
from . import jets
from .base import Motion, MotionNetwork, MotionNetworkConfig, Warped

REFERENCE = 0
"""The frame whose space is the reference of trajectories."""


@dataclass(frozen=True)
class TrajectoryConfig:
    """A network gives the cosine coefficients of each point's path (arXiv:2105.05994)."""

    kind: Literal["dct"] = "dct"
    """Which motion model this is."""
    network: MotionNetworkConfig = field(default_factory=MotionNetworkConfig)
    """The network."""
    n_bases: int = 16
    """Cosines of a path, 1 or more; more than frames less one add nothing and are left out."""

    def __post_init__(self) -> None:
        if self.n_bases < 1:
            raise ValueError(f"motion.n_bases is {self.n_bases}; allowed: 1 or more")


class Trajectory(Motion):
    """``x + sum_k c_k(x, t) (basis_k(reference) - basis_k(t))``."""

    is_two_way = True
    steps: Tensor
    """(n_frames, K): what each cosine changes by from a frame to the reference."""

    def __init__(
        self,
        config: TrajectoryConfig,
        n_frames: int,
        residual: ResFieldConfig,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        n_bases = min(config.n_bases, max(n_frames - 1, 1))
        basis = dct_basis(n_frames, n_bases)
        self.register_buffer("steps", basis[REFERENCE] - basis, persistent=False)
        n_outputs = 3 * n_bases
        self.network = MotionNetwork(config.network, 3, n_outputs, n_frames, residual, generator)

    def forward(self, positions, slices, backend, released):
        """See `Motion.forward`."""
        coefficients = self.network(positions, slices, backend, released)
        moved = positions + self._displaced(coefficients, slices)
        return Warped(moved, positions[:, :, :0])

    def from_reference(self, positions, slices, backend, released):
        """See `Motion.from_reference`: along the path of the point in the reference.

        The network is told the reference frame, so that without residuals a point has one path.
        """
        told = (REFERENCE,) * len(slices.frames)
        coefficients = self.network(positions, slices, backend, released, told)
        return positions - self._displaced(coefficients, slices)

    def _displaced(self, coefficients: Tensor, slices: FrameSlices) -> Tensor:
        """Returns (N, 1 + D, 3) steps from each row's frame to the reference."""
        n_rows, n_jets = coefficients.shape[:2]
        paths = coefficients.view(n_rows, n_jets, 3, self.steps.shape[1])
        steps = between_frames(self._steps_at, slices.frames)
        return (paths * jets.of_frames(steps, slices, 0)[:, :, None]).sum(3)

    def _steps_at(self, frames: tuple[int, ...]) -> Tensor:
        """Returns (T, K) `steps` of some frames."""
        return self.steps[on_device(frames, self.steps.device)]
