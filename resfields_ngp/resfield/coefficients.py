"""Coefficients: what changes over time, one row a knot, and how frames take from knots."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..config_tree import ConfigError
from ..transfers import on_device
from .config import ResFieldConfig


def knot_weights(n_frames: int, n_knots: int) -> Tensor:
    """Returns (n_frames, n_knots) weights of linear interpolation between evenly spaced knots.

    Raises:
        ConfigError: There are more knots than frames.

    >>> knot_weights(3, 2).tolist()
    [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]
    """
    if not 1 <= n_knots <= n_frames:
        raise ConfigError(
            f"residual.n_knots is {n_knots}; allowed: 1 to the number of frames, {n_frames}"
        )
    weights = torch.zeros(n_frames, n_knots)
    for frame in range(n_frames):
        # Multiplied first: a frame at a knot is there exactly and takes nothing from others.
        at = frame * (n_knots - 1) / max(n_frames - 1, 1)
        low = min(int(at), max(n_knots - 2, 0))
        weights[frame, low] = 1.0 - (at - low)
        if n_knots > 1:
            weights[frame, low + 1] += at - low
    return weights


def segment_weights(n_frames: int, n_segments: int) -> Tensor:
    """Returns (n_frames, n_segments), 1 where a frame lies in one of equally long segments.

    >>> segment_weights(4, 2).tolist()
    [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]
    """
    segments = torch.arange(n_frames) * n_segments // n_frames
    return nn.functional.one_hot(segments, n_segments).float()


def dct_basis(n_frames: int, n_bases: int) -> Tensor:
    """Returns the first cosines of the orthonormal DCT-II beyond the constant one.

    ``sqrt(2 / n) cos(pi (2 i + 1) k / (2 n))`` for k = 1 .. n_bases; (n_frames, n_bases).

    >>> basis = dct_basis(5, 4)
    >>> torch.allclose(basis.T @ basis, torch.eye(4), atol=1e-6)
    True
    """
    moments = 2.0 * torch.arange(n_frames) + 1.0
    orders = torch.arange(1, n_bases + 1)
    return math.sqrt(2.0 / n_frames) * torch.cos(
        math.pi * moments[:, None] * orders / (2 * n_frames)
    )


def smooth_rows(
    n_frames: int, n_waves: Sequence[int], n_rows: int, generator: torch.Generator
) -> Tensor:  # (n_frames, n_sets, n_rows)
    """Returns coefficients that change slowly over time and yet all differ.

    Each set is drawn at random from the span of the slowest cosines: over the frames its
    coefficients are uncorrelated, of mean 0 and mean square 1. What moves smoothly is of few
    cosines (Akhter et al., Nonrigid Structure from Motion in Trajectory Space, 2008).

    Args:
        n_frames: F.
        n_waves: How many cosines each set is drawn from, n_rows to F - 1.
        n_rows: Coefficients of a set, at most F - 1.
        generator: Source of the draws.
    """
    cosines = math.sqrt(n_frames) * dct_basis(n_frames, max(n_waves))
    mixtures = (torch.randn(count, n_rows, generator=generator) for count in n_waves)
    sets = [cosines[:, : len(each)] @ torch.linalg.qr(each).Q for each in mixtures]
    return torch.stack(sets, dim=1)


class TimeCoefficients(nn.Module):
    """Rows of coefficients at knots in time, interpolated linearly at frames between them."""

    knots: Tensor
    """(n_knots, *shape)."""
    weights: Tensor
    """(n_frames, n_knots)."""

    def __init__(
        self,
        n_frames: int,
        shape: tuple[int, ...],
        config: ResFieldConfig,
        weights: Tensor | None = None,  # (n_frames, n_knots) in place of those of `config`
    ) -> None:
        super().__init__()
        if weights is None:
            interpolates = config.coefficients == "interpolation"
            automatic = min(n_frames, max(2, math.ceil(n_frames / 2)))
            n_knots = (config.n_knots or automatic) if interpolates else n_frames
            weights = knot_weights(n_frames, n_knots)
        self.register_buffer("weights", weights, persistent=False)
        self.knots = nn.Parameter(torch.zeros(weights.shape[1], *shape))

    def forward(self, frames: tuple[int, ...]) -> Tensor:
        """Returns (T, *shape) coefficients of some frames."""
        return torch.tensordot(
            self.weights[on_device(frames, self.weights.device)], self.values(), dims=1
        )

    def values(self) -> Tensor:
        """Returns (n_knots, *shape), the rows that frames take from."""
        return self.knots


class AttentionCoefficients(TimeCoefficients):
    """Rows averaged over time: knots attend to each other by the likeness of learned keys.

    ``softmax(K K^T / R) V`` with a key of R numbers a knot (`vm_attention` of the published layer,
    which normalises over the other axis; here every row is an average).
    """

    def __init__(self, n_frames: int, shape: tuple[int, ...], config: ResFieldConfig) -> None:
        super().__init__(n_frames, shape, config)
        self.keys = nn.Parameter(torch.ones_like(self.knots))

    def values(self) -> Tensor:
        """See `TimeCoefficients.values`."""
        likeness = self.keys @ self.keys.T / self.keys.shape[1]
        return likeness.softmax(dim=1) @ self.knots


def coefficient_modules(module: nn.Module) -> list[TimeCoefficients]:
    """Returns all the coefficients in a module, in its own order."""
    return [each for each in module.modules() if isinstance(each, TimeCoefficients)]


def temporal_roughness(module: nn.Module) -> Tensor:  # ()
    """Returns the mean squared change of coefficients from frame to frame, summed over networks.

    Differentiable in the coefficients; 0 where nothing changes over time.
    """
    total = torch.zeros((), device=next(module.parameters()).device)
    for each in coefficient_modules(module):
        n_frames = each.weights.shape[0]
        if n_frames > 1:
            rows = each(tuple(range(n_frames)))
            total = total + (rows[1:] - rows[:-1]).square().mean()
    return total
