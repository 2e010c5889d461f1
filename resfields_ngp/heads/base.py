"""What heads give from a network's outputs: any signal, a level set, alphas and colours."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..backends.base import Backend
from ..backends.unpacking import unpacked
from ..records import FrameSlices


@dataclass(frozen=True)
class Outputs:
    """What a head reads of the geometry network at N samples."""

    values: Tensor
    """(N, n_outputs): first what opacity comes from, then features for the colour network."""
    gradients: Tensor
    """(N, 3) of the first output by position, model units; (N, 0) without tangents."""
    positions: Tensor
    """(N, 3) where the encoder was asked: of a motion, where it led. Without gradient."""

    @staticmethod
    def of(
        jets: Tensor,  # (N, 1 + D, n_outputs)
        positions: Tensor,  # (N, 3)
    ) -> Outputs:
        """Takes from the network's jets what heads read; differentiable in the jets."""
        return Outputs(*unpacked(jets), positions)

    def at(
        self,
        indices: Tensor,  # (M,) each at most once
    ) -> Outputs:
        """Returns some rows; differentiable."""
        packed = torch.cat([self.values, self.gradients], dim=1)
        taken: Tensor = _Take.apply(packed, indices)  # pyright: ignore - untyped
        values, gradients = taken.split([self.values.shape[1], self.gradients.shape[1]], dim=1)
        return Outputs(values, gradients, self.positions.index_select(0, indices))


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
        fraction: float,
        backend: Backend,
    ) -> Tensor:  # (N, 3)
        """Returns colours in [0, 1], or a little beyond, at a fraction of training in [0, 1]."""

    def albedos(
        self,
        outputs: Outputs,
        directions: Tensor,  # (N, 3)
        slices: FrameSlices,
        fraction: float,
        backend: Backend,
    ) -> Tensor:  # (N, 3)
        """Returns colours without light: the colours themselves where none is told apart."""
        return self.rgbs(outputs, directions, slices, fraction, backend)


def unit(
    vectors: Tensor,  # (N, 3)
) -> Tensor:  # (N, 3)
    """Returns the vectors at length 1, those (nearly) 0 as they are; quicker than `normalize`."""
    return vectors * (vectors * vectors).sum(1, keepdim=True).clamp(min=1e-12).rsqrt()
