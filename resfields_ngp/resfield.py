"""The residual of ResFields (arXiv:2309.03160, Eq. 4): theta(t) = theta_0 + sum_r v_r(t) Theta_r.

Vocabulary
    v, coefficients    one row a knot, R columns: how much of each residual a moment takes.
    Theta, spanning    R parameter vectors, shared by all moments.
    knots              moments with coefficients of their own; fewer than frames are interpolated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class ResFieldConfig:
    """How network weights change over time."""

    rank: int = 8
    """R, residuals per network; 0 switches them off (plain instant-NGP networks)."""
    layers: tuple[int, ...] = ()
    """Layers that carry residuals, counted from 0; empty is all of them."""
    coefficients: Literal["lookup", "interpolation"] = "lookup"
    """lookup: one row a frame. interpolation: `n_knots` rows, linear between them."""
    n_knots: int = 0
    """Knots of the interpolation, 2 to the number of frames; 0 takes half the frames."""
    deviation: float = 0.01
    """Standard deviation of coefficients and spanning set at the start."""

    def __post_init__(self) -> None:
        if self.rank < 0:
            raise ValueError(f"residual.rank is {self.rank}; allowed: 0 (off) or more")
        if self.coefficients not in ("lookup", "interpolation"):
            raise ValueError(
                f"residual.coefficients is {self.coefficients!r}; allowed: lookup, interpolation"
            )
        if self.n_knots < 0 or self.n_knots == 1:
            raise ValueError(
                f"residual.n_knots is {self.n_knots}; allowed: 0 (automatic) or 2 and more"
            )


def knot_weights(n_frames: int, n_knots: int) -> Tensor:
    """Returns (n_frames, n_knots) weights of linear interpolation between evenly spaced knots.

    >>> knot_weights(3, 2).tolist()
    [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]
    """
    if not 1 <= n_knots <= n_frames:
        raise ValueError(f"n_knots is {n_knots}; allowed: 1 to the number of frames, {n_frames}")
    weights = torch.zeros(n_frames, n_knots)
    for frame in range(n_frames):
        # Multiplied first: a frame at a knot is there exactly and takes nothing from others.
        at = frame * (n_knots - 1) / max(n_frames - 1, 1)
        low = min(int(at), max(n_knots - 2, 0))
        weights[frame, low] = 1.0 - (at - low)
        if n_knots > 1:
            weights[frame, low + 1] += at - low
    return weights


class TimeCoefficients(nn.Module):
    """Learned coefficients of each frame, of any shape; looked up or interpolated between knots."""

    knots: nn.Parameter
    """(n_knots, *shape)."""
    weights: Tensor
    """(n_frames, n_knots)."""

    def __init__(self, n_frames: int, shape: tuple[int, ...], config: ResFieldConfig) -> None:
        super().__init__()
        interpolates = config.coefficients == "interpolation"
        automatic = min(n_frames, max(2, math.ceil(n_frames / 2)))
        n_knots = (config.n_knots or automatic) if interpolates else n_frames
        self.register_buffer("weights", knot_weights(n_frames, n_knots), persistent=False)
        self.knots = nn.Parameter(torch.zeros(n_knots, *shape))

    def forward(self, frames: tuple[int, ...]) -> Tensor:
        """Returns (T, *shape) coefficients of some frames."""
        rows = self.weights[list(frames)]
        return torch.tensordot(rows, self.knots, dims=1)


class ResidualWeights(nn.Module):
    """A flat vector of parameters that changes over time, composed once per distinct frame."""

    is_residual: Tensor
    """(P,) 1 where the vector may change, else 0; only there where it has residuals."""

    def __init__(
        self,
        initial: Tensor,  # (P,) theta_0
        is_residual: Tensor,  # (P,) bool, True where the vector may change
        n_frames: int,
        config: ResFieldConfig,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.rank = min(config.rank, n_frames) if n_frames > 1 else 0
        self.base = nn.Parameter(initial)
        if self.rank:
            self.register_buffer("is_residual", is_residual.to(initial.dtype), persistent=False)
            self.coefficients = TimeCoefficients(n_frames, (self.rank,), config)
            self.coefficients.knots.data.normal_(0.0, config.deviation, generator=generator)
            spanning = torch.empty(self.rank, initial.shape[0])
            spanning.normal_(0.0, config.deviation, generator=generator)
            self.spanning = nn.Parameter(spanning * self.is_residual)

    def forward(self, frames: tuple[int, ...]) -> Tensor:
        """Returns (T, P), the vector at each of some frames (ResFields, Eq. 4)."""
        if not self.rank:
            return self.base.expand(len(frames), -1)
        return self.base + self.coefficients(frames) @ (self.spanning * self.is_residual)
