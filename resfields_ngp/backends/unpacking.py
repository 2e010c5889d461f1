"""What heads read of a network's jets: all outputs, and the derivatives of the first one."""

from __future__ import annotations

import torch
from torch import Tensor


def unpacked(
    jets: Tensor,  # (N, 1 + D, n_outputs)
) -> tuple[Tensor, Tensor]:  # (N, n_outputs), (N, D)
    """Returns the outputs and the derivatives of the first one; differentiable."""
    return _Unpack.apply(jets)  # pyright: ignore - apply's result has no type


class _Unpack(torch.autograd.Function):
    """Two slices of the jets at once: autograd would fill and add whole jets for each."""

    @staticmethod
    def forward(ctx, jets: Tensor) -> tuple[Tensor, Tensor]:
        ctx.shape = jets.shape
        return jets[:, 0].contiguous(), jets[:, 1:, 0].contiguous()

    @staticmethod
    def backward(ctx, grad_values: Tensor, grad_gradients: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        grad_jets = grad_values.new_zeros(ctx.shape)
        grad_jets[:, 0] = grad_values
        grad_jets[:, 1:, 0] = grad_gradients
        return grad_jets
