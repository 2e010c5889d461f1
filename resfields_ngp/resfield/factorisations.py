"""The forms of the residual; names are those of the published layer's ``compression``.

Vocabulary
    v, coefficients    one row a knot: how much of each residual a moment takes.
    Theta, spanning    R parameter vectors, shared by all moments.
    rows, columns      of a layer's matrix, [out, in].
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..backends.specs import ACTIVATION_SHARPNESS
from ..config_tree import ConfigError
from .coefficients import AttentionCoefficients, TimeCoefficients, segment_weights
from .weights import ResidualWeights


class LowRankWeights(ResidualWeights):
    """``vm``: ``sum_r v_r(t) Theta_r`` (ResFields, Eq. 4)."""

    make_coefficients = TimeCoefficients

    def build(self, generator):
        """See `ResidualWeights.build`."""
        deviation = self.config.deviation
        self.coefficients = self.make_coefficients(self.n_frames, (self.rank,), self.config)
        self.coefficients.knots.data.normal_(0.0, deviation, generator=generator)
        spanning = torch.empty(self.rank, self.spec.n_weights)
        spanning.normal_(0.0, deviation, generator=generator)
        self.spanning = nn.Parameter(spanning * self.is_residual)

    def residuals(self, frames):
        """See `ResidualWeights.residuals`."""
        return self.coefficients(frames) @ (self.spanning * self.is_residual)


class AttentionWeights(LowRankWeights):
    """``vm_attention``: low rank, its coefficients averaged over time by attention."""

    make_coefficients = AttentionCoefficients


class FullWeights(ResidualWeights):
    """``none``: a vector of its own for every knot, no factorisation; starts at 0."""

    def build(self, generator):
        """See `ResidualWeights.build`."""
        self.coefficients = TimeCoefficients(self.n_frames, (self.spec.n_weights,), self.config)

    def residuals(self, frames):
        """See `ResidualWeights.residuals`."""
        return self.coefficients(frames) * self.is_residual


class LocallyConstantWeights(ResidualWeights):
    """``loe``: a vector for each of R equally long segments of time (levels of experts)."""

    def build(self, generator):
        """See `ResidualWeights.build`."""
        segments = segment_weights(self.n_frames, self.rank)
        shape = (self.spec.n_weights,)
        self.coefficients = TimeCoefficients(self.n_frames, shape, self.config, segments)

    def residuals(self, frames):
        """See `ResidualWeights.residuals`."""
        return self.coefficients(frames) * self.is_residual


class CpWeights(ResidualWeights):
    """``cp``: ``sum_r v_r(t) a_r b_r^T``, a column a_r and a row b_r for each layer's matrix."""

    def allowed_rank(self) -> int:
        """Returns the rank: matrices of rank 1 may well be more than frames."""
        return self.config.rank

    def build(self, generator):
        """See `ResidualWeights.build`."""
        deviation = self.config.deviation
        self.coefficients = TimeCoefficients(self.n_frames, (self.rank,), self.config)
        self.coefficients.knots.data.normal_(0.0, deviation, generator=generator)
        # The product of both factors deviates as vm's spanning set does.
        self.rows, self.columns = _factors(self, math.sqrt(deviation), generator)

    def residuals(self, frames):
        """See `ResidualWeights.residuals`."""
        coefficients = self.coefficients(frames)
        parts = [
            torch.einsum("tr,ro,ri->toi", coefficients, rows, columns)
            for rows, columns in zip(self.rows, self.columns, strict=True)
        ]
        return self.by_layer(parts)


class TuckerWeights(ResidualWeights):
    """``tucker``: ``sum_abc v_a(t) G_abc r_b c_c^T``, a core G for each layer's matrix."""

    def most_rank(self, layer: int) -> int:
        """Returns the matrix's shorter side: no mode has a higher rank."""
        return min(self.spec.shapes[layer])

    def build(self, generator):
        """See `ResidualWeights.build`."""
        deviation, rank = self.config.deviation, self.config.rank
        self.coefficients = TimeCoefficients(self.n_frames, (self.rank,), self.config)
        self.coefficients.knots.data.normal_(0.0, deviation, generator=generator)
        self.rows, self.columns = _factors(self, rank**-0.5, generator)
        cores = [torch.empty(self.rank, rank, rank) for _ in self.layers]
        self.cores = nn.ParameterList(
            [core.normal_(0.0, deviation, generator=generator) for core in cores]
        )

    def residuals(self, frames):
        """See `ResidualWeights.residuals`."""
        coefficients = self.coefficients(frames)
        parts = []
        for core, rows, columns in zip(self.cores, self.rows, self.columns, strict=True):
            mixed = torch.tensordot(coefficients, core, dims=1)  # (T, R, R)
            parts.append(rows.T @ mixed @ columns)
        return self.by_layer(parts)


def _factors(
    weights: ResidualWeights, deviation: float, generator: torch.Generator
) -> tuple[nn.ParameterList, nn.ParameterList]:
    """Returns (R, out) and (R, in) factors of each chosen layer's matrix, drawn normally."""
    sides = []
    for side in (0, 1):
        widths = [weights.spec.shapes[layer][side] for layer in weights.layers]
        factors = [torch.empty(weights.config.rank, width) for width in widths]
        drawn = [factor.normal_(0.0, deviation, generator=generator) for factor in factors]
        sides.append(nn.ParameterList(drawn))
    return sides[0], sides[1]


class FrameBiasWeights(ResidualWeights):
    """``resnet``: biases of their own for every knot; starts at 0.

    These networks have no biases. The padding of the inputs holds 1, which gives the first layer
    its biases; the last unit of every hidden layer is set to pass that 1 on to the next one.
    """

    units: Tensor
    """(B,) places in the flat vector that act as the B biases."""
    is_free: Tensor
    """(P,) 0 at the weights of the units that pass the 1 on."""
    passed: Tensor
    """(P,) the weights that make these units 1, 0 elsewhere."""

    def build(self, generator):
        """See `ResidualWeights.build`.

        Raises:
            ConfigError: The inputs have no padding.
        """
        spec = self.spec
        if spec.n_inputs == spec.shapes[0][1]:
            raise ConfigError(
                f"residual.factorisation is resnet, which needs a padded input; this network's "
                f"{spec.n_inputs} fill a multiple of 16: change the number of features by one"
            )
        free, passed, units = torch.ones(spec.n_weights), torch.zeros(spec.n_weights), []
        for layer, (rows, columns) in enumerate(spec.shapes):
            begin, one = spec.offsets[layer], columns - 1
            is_hidden = layer + 1 < len(spec.shapes)
            if is_hidden:
                last = begin + (rows - 1) * columns
                free[last : last + columns] = 0.0
                passed[last + one] = inverse_activation(1.0, spec.activation)
            if layer in self.layers:
                units.append(begin + torch.arange(rows - is_hidden) * columns + one)
        self.register_buffer("is_free", free, persistent=False)
        self.register_buffer("passed", passed, persistent=False)
        self.register_buffer("units", torch.cat(units), persistent=False)
        self.coefficients = TimeCoefficients(self.n_frames, (len(self.units),), self.config)

    def residuals(self, frames):
        """See `ResidualWeights.residuals`."""
        zeros = self.base.new_zeros(len(frames), self.spec.n_weights)
        return zeros.index_copy(1, self.units, self.coefficients(frames))

    def fused(self, residuals):
        """See `ResidualWeights.fused`; the units that pass the 1 on stay as they are."""
        return self.base * self.is_free + self.passed + residuals


def inverse_activation(value: float, activation: str) -> float:
    """Returns what an activation takes to a value above 0 (see `backends.specs.Activation`)."""
    k = ACTIVATION_SHARPNESS
    if activation == "softplus":
        return math.log(math.expm1(k * value)) / k
    return value if activation == "relu" else value - 1.0 / (k * k * value)
