"""What heads give from a network's outputs: any signal, a level set, alphas and colours."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from ..backends.base import Backend
from ..backends.unpacking import unpacked
from ..encoders import spherical_harmonics
from ..mlp import ResFieldMlp
from ..ranges import check_ranges, check_width
from ..records import FrameSlices


@dataclass(frozen=True)
class Outputs:
    """What a head reads of the geometry network at N samples."""

    values: Tensor
    """(N, n_outputs): first what opacity comes from, then features for the colour network."""
    gradients: Tensor
    """(N, 3) of the first output by position, model units; (N, 0) without tangents."""

    @staticmethod
    def of(
        jets: Tensor,  # (N, 1 + D, n_outputs)
    ) -> Outputs:
        """Takes from the network's jets what heads read; differentiable."""
        return Outputs(*unpacked(jets))

    def at(
        self,
        indices: Tensor,  # (M,) each at most once
    ) -> Outputs:
        """Returns some rows; differentiable."""
        packed = torch.cat([self.values, self.gradients], dim=1)
        taken: Tensor = _Take.apply(packed, indices)  # pyright: ignore - untyped
        return Outputs(*taken.split([self.values.shape[1], self.gradients.shape[1]], dim=1))


class _Take(torch.autograd.Function):
    """Rows at distinct indices; the gradient is copied back, not summed up as for repeated ones."""

    @staticmethod
    def forward(ctx, rows: Tensor, indices: Tensor) -> Tensor:
        ctx.save_for_backward(indices)
        ctx.shape = rows.shape
        return rows.index_select(0, indices)

    @staticmethod
    def backward(ctx, grad_taken: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (indices,) = ctx.saved_tensors
        return grad_taken.new_zeros(ctx.shape).index_copy_(0, indices, grad_taken), None


class Head(nn.Module):
    """Reads the outputs of a network as a signal."""

    n_outputs: int
    """Outputs of the network that this head reads."""
    n_tangents: int
    """3 where training needs the outputs' derivatives by position, else 0."""

    output_scales: Tensor
    """(n_outputs,) factors of the network's outputs: how far a step moves each."""


class SurfaceHead(Head):
    """A head whose signal has a surface."""

    outward: float = 1.0
    """Sign of the first output's gradient: 1 where it grows outwards, as a distance does."""

    @abstractmethod
    def levels(
        self,
        values: Tensor,  # (N, n_outputs)
    ) -> Tensor:  # (N,)
        """Returns a function negative inside and 0 on the surface; model units if a distance."""


class RadianceHead(SurfaceHead):
    """Turns the geometry network's outputs into what the renderer needs; it knows only alphas."""

    has_albedo: bool = False
    """Whether colours are albedos times what the light makes of the normal."""

    @abstractmethod
    def sharpness(self, fraction: float) -> Tensor | float:
        """Returns how fast opacity rises across the surface, per model unit."""

    @abstractmethod
    def alphas(
        self,
        outputs: Outputs,
        directions: Tensor,  # (N, 3) of the samples' rays
        lengths: Tensor,  # (N,) of the samples' intervals, model units
        fraction: float,
    ) -> Tensor:  # (N,)
        """Returns the opacity of each interval, at a fraction of training in [0, 1]."""

    @abstractmethod
    def rgbs(
        self,
        outputs: Outputs,
        directions: Tensor,  # (N, 3)
        slices: FrameSlices,
        backend: Backend,
    ) -> Tensor:  # (N, 3)
        """Returns colours in [0, 1], or a little beyond."""

    def albedos(
        self,
        outputs: Outputs,
        directions: Tensor,  # (N, 3)
        slices: FrameSlices,
        backend: Backend,
    ) -> Tensor:  # (N, 3)
        """Returns colours without light: the colours themselves where none is told apart."""
        return self.rgbs(outputs, directions, slices, backend)


class ColourNetworkConfig(Protocol):
    """A head's settings of its colour network."""

    @property
    def n_neurons(self) -> int:
        """Width of its hidden layers."""
        ...


def check_colour_network(config: ColourNetworkConfig) -> None:
    """Raises ValueError where a head's settings of its colour network are out of range."""
    check_width("head", config.n_neurons)
    check_ranges(
        "head",
        config,
        view_degree=(0, 4),
        n_geometry_features=(0, 127),
        n_hidden_layers=(0, 16),
    )


def unit(
    vectors: Tensor,  # (N, 3)
) -> Tensor:  # (N, 3)
    """Returns the vectors at length 1, those (nearly) 0 as they are; quicker than `normalize`."""
    return vectors * (vectors * vectors).sum(1, keepdim=True).clamp(min=1e-12).rsqrt()


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


def network_rgbs(
    network: ResFieldMlp,
    inputs: list[Tensor],  # each (N, F)
    directions: Tensor,  # (N, 3)
    view_degree: int,
    slices: FrameSlices,
    backend: Backend,
) -> Tensor:  # (N, 3) in [0, 1]
    """Returns a colour network's colours from its inputs and `view_degree` bands of the view."""
    if view_degree:
        inputs = [*inputs, spherical_harmonics(directions, view_degree)]
    return bounded(network(torch.cat(inputs, dim=1)[:, None], slices, backend)[:, 0])
