"""Half precision without underflow: gradients are scaled on the device, nobody waits for it."""

from __future__ import annotations

import torch
from torch import Tensor

LARGEST_GRADIENT = 16.0
"""float16 gradients are scaled to this maximum: room to grow by 4000 on the way back, while what
is 200,000 times smaller is still a normal number."""


def gradient_scale(
    gradients: Tensor,  # (N, F)
    largest_sum: float | None = None,
) -> Tensor:  # ()
    """Returns the power of two that brings gradients into the range of float16.

    Args:
        gradients: Of outputs.
        largest_sum: Where given, no column's magnitudes add up to more, scaled.
    """
    if gradients.numel() == 0:
        return gradients.new_ones(())
    largest = torch.linalg.vector_norm(gradients, float("inf"))
    scale = LARGEST_GRADIENT / largest.clamp(min=1e-30)
    if largest_sum is not None:
        sums = torch.linalg.vector_norm(gradients, 1.0, dim=0).amax()
        scale = torch.minimum(scale, largest_sum / sums.clamp(min=1e-30))
    return torch.exp2(torch.floor(torch.log2(scale)).clamp(-100.0, 100.0))


class GradientScaling:
    """Scales gradients up where they enter a half-precision stage, and down where they leave it.

    One object serves one pass through one stage: `leaving` wraps its outputs, `entering` each of
    its inputs; between the two, in the backward pass, gradients are scaled.

    Args:
        largest_sum: See `gradient_scale`.
    """

    def __init__(self, largest_sum: float | None = None) -> None:
        self.largest_sum = largest_sum
        self.scale: Tensor | None = None

    def leaving(self, outputs: Tensor) -> Tensor:
        """Returns the stage's outputs, unchanged; their gradient sets the scale."""
        return _ScaledUp.apply(outputs, self)

    def entering(self, inputs: Tensor) -> Tensor:
        """Returns an input of the stage, unchanged."""
        return _ScaledDown.apply(inputs, self)


class _ScaledUp(torch.autograd.Function):
    @staticmethod
    def forward(ctx, outputs, scaling):
        ctx.scaling = scaling
        return outputs.view_as(outputs)

    @staticmethod
    def backward(ctx, gradients):  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.scaling.scale = gradient_scale(gradients, ctx.scaling.largest_sum)
        # tiny-cuda-nn takes no other, and a product keeps the order of its factor.
        return (gradients * ctx.scaling.scale).contiguous(), None


class _ScaledDown(torch.autograd.Function):
    @staticmethod
    def forward(ctx, inputs, scaling):
        ctx.scaling = scaling
        return inputs.view_as(inputs)

    @staticmethod
    def backward(ctx, gradients):  # pyright: ignore[reportIncompatibleMethodOverride]
        return gradients / ctx.scaling.scale, None
