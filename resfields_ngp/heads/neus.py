"""Dynamic surfaces: opacity is a logistic (NeuS) or Laplace (VolSDF) function of signed distance.

Vocabulary
    sharpness   1 / s of NeuS's logistic density, 1 / beta of VolSDF's Laplace; per model unit.
    cosines     direction . gradient: negative where the ray enters the surface.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from ..backends.base import Backend
from ..encoders import harmonic_quadrics, spherical_harmonics
from ..ranges import check_ranges
from ..records import FrameSlices
from ..resfield import ResFieldConfig
from .base import Outputs, RadianceHead, unit
from .colours import ColourGridConfig, Colours, check_colours

_LIGHT_DEGREE = 3
"""Bands of spherical harmonics of the light: what a matt surface shows of any, to one per cent."""


@dataclass(frozen=True)
class NeusConfig:
    """Signed-distance head."""

    kind: Literal["neus"] = "neus"
    """Which head this is."""
    distance_scale: float = 0.25
    """Factor of the network's distance output: surfaces settle while colours still learn fast."""
    density: Literal["logistic", "laplace"] = "logistic"
    """Opacity: logistic (NeuS, arXiv:2106.10689) or Laplace (VolSDF, arXiv:2106.12052)."""
    sharpness_start: float = 40.0
    """Sharpness at the first step, per model unit (the model box is one unit wide)."""
    sharpness_end: float = 600.0
    """Sharpness at the end; grows geometrically, times a learned correction of at most 2."""
    cosine_anneal: float = 0.2
    """Fraction of training in which back faces receive gradients (NeuS's cos annealing)."""
    view_degree: int = 0
    """Bands of spherical harmonics of the view direction that colours depend on, 0 (none) to 4."""
    lighting: Literal["harmonics", "network"] = "harmonics"
    """How colours depend on normals. harmonics: albedo times a fixed light, spherical harmonics of
    the normal up to degree 2 (Ramamoorthi and Hanrahan 2001), so shades tell of shape. network: the
    colour network sees normals and makes of them what it likes."""
    n_geometry_features: int = 15
    """Features that the geometry network hands to the colour network."""
    n_neurons: int = 64
    """Width of the colour network, a multiple of 16 up to 128."""
    n_hidden_layers: int = 1
    """Hidden layers of the colour network."""
    colour_grid: ColourGridConfig = field(default_factory=ColourGridConfig)
    """What colours are read from besides."""

    def __post_init__(self) -> None:
        if not 0.0 < self.sharpness_start <= self.sharpness_end:
            raise ValueError(
                f"head.sharpness_start is {self.sharpness_start} and sharpness_end "
                f"{self.sharpness_end}; allowed: 0 < start <= end"
            )
        check_ranges("head", self, cosine_anneal=(0.0, 1.0), distance_scale=(1e-6, math.inf))
        check_colours(self)


class NeusHead(RadianceHead):
    """NeuS and VolSDF opacity, colour from features, normal and (optionally) view direction."""

    quadrics: Tensor
    """See `harmonic_quadrics`."""

    Config = NeusConfig

    def __init__(
        self,
        config: NeusConfig,
        n_frames: int,
        residual: ResFieldConfig,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.config = config
        self.n_outputs = 1 + config.n_geometry_features
        self.n_tangents = 3
        scales = torch.ones(self.n_outputs)
        scales[0] = config.distance_scale
        self.register_buffer("output_scales", scales, persistent=False)
        self.log_correction = nn.Parameter(torch.zeros(()))
        self.has_albedo = config.lighting == "harmonics"
        if self.has_albedo:
            light = torch.zeros(_LIGHT_DEGREE**2, 3)
            light[0] = 1.0 / spherical_harmonics(torch.eye(3)[:1], 1)
            self.light = nn.Parameter(light)
            self.register_buffer("quadrics", harmonic_quadrics(), persistent=False)
        n_others = 0 if self.has_albedo else 3
        self.colours = Colours(config, n_others, n_frames, residual, generator)

    def sharpness(self, fraction: float) -> Tensor:
        """Returns the scheduled sharpness times the learned correction, within a factor of 2."""
        growth = self.config.sharpness_end / self.config.sharpness_start
        scheduled = self.config.sharpness_start * growth**fraction
        return scheduled * torch.exp(math.log(2.0) * torch.tanh(self.log_correction))

    def alphas(self, outputs, directions, lengths, fraction):
        """See `RadianceHead.alphas`."""
        sdfs, gradients = outputs.values[:, 0], outputs.gradients
        sharpness = self.sharpness(fraction)
        if self.config.density == "laplace":
            return laplace_alphas(sdfs, lengths, sharpness)
        cosines = (directions * gradients).sum(1)
        return logistic_alphas(sdfs, self._annealed(cosines, fraction), lengths, sharpness)

    def _annealed(self, cosines: Tensor, fraction: float) -> Tensor:
        """Mixes in half the back-facing cosines early: a wrong start can turn around (NeuS)."""
        end = self.config.cosine_anneal
        ratio = min(1.0, fraction / end) if end > 0 else 1.0
        front = -(-cosines).relu()
        return ratio * front - (1.0 - ratio) * (0.5 - 0.5 * cosines).relu()

    def rgbs(
        self,
        outputs: Outputs,
        directions: Tensor,
        slices: FrameSlices,
        fraction: float,
        backend: Backend,
    ) -> Tensor:
        """See `RadianceHead.rgbs`."""
        albedos = self.albedos(outputs, directions, slices, fraction, backend)
        return albedos * self.shades(unit(outputs.gradients)) if self.has_albedo else albedos

    def albedos(
        self,
        outputs: Outputs,
        directions: Tensor,
        slices: FrameSlices,
        fraction: float,
        backend: Backend,
    ) -> Tensor:
        """See `RadianceHead.albedos`."""
        others = [] if self.has_albedo else [unit(outputs.gradients)]
        return self.colours(outputs, others, directions, slices, fraction, backend)

    def shades(
        self,
        normals: Tensor,  # (N, 3) unit, model axes
    ) -> Tensor:  # (N, 3)
        """Returns what the light makes of a white surface; the same in every frame.

        ``h^T M h`` with h the normal and a 1, M of a channel of the light (Ramamoorthi and Hanrahan
        2001, Eq. 12): harmonics up to degree 2 in a few products.
        """
        homogeneous = torch.cat([normals, torch.ones_like(normals[:, :1])], dim=1)
        products = homogeneous @ (self.quadrics @ self.light).flatten(1)
        return (products.view(-1, 4, 3) * homogeneous[:, :, None]).sum(1)

    def levels(self, values: Tensor) -> Tensor:
        """See `SurfaceHead.levels`: the signed distance itself."""
        return values[:, 0]


def logistic_alphas(
    sdfs: Tensor,  # (N,) at the middle of each interval
    cosines: Tensor,  # (N,) at most 0
    lengths: Tensor,  # (N,)
    sharpness: Tensor | float,
) -> Tensor:  # (N,)
    """Opacity of an interval through a locally plane surface (NeuS, Eq. 13).

    ``(Phi(f_0) - Phi(f_1)) / Phi(f_0)`` with Phi the logistic distribution and f_0, f_1 the
    distances at the ends. As ``1 - exp(log Phi(f_1) - log Phi(f_0))`` it neither overflows nor
    divides by zero.
    """
    half = 0.5 * cosines * lengths
    logs = torch.nn.functional.logsigmoid
    ends, starts = logs((sdfs + half) * sharpness), logs((sdfs - half) * sharpness)
    return -torch.expm1((ends - starts).clamp(max=0.0))


def laplace_alphas(
    sdfs: Tensor,  # (N,)
    lengths: Tensor,  # (N,)
    sharpness: Tensor | float,
) -> Tensor:  # (N,)
    """Opacity with VolSDF's density ``sharpness * Psi(-sdf)``, Psi the Laplace CDF (its Eq. 2)."""
    decay = 0.5 * torch.exp(-sdfs.abs() * sharpness)
    densities = sharpness * torch.where(sdfs > 0, decay, 1.0 - decay)
    return -torch.expm1(-densities * lengths)
