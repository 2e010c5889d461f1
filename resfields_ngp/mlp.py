"""The ResField MLP: a fused network, its weights composed once per distinct frame of a batch."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .backends.base import Backend
from .backends.specs import MlpSpec
from .records import FrameSlices, between_frames
from .resfield import ResFieldConfig, residual_weights
from .sharing import shared


class ResFieldMlp(nn.Module):
    """Bias-free MLP in tiny-cuda-nn's layout with time-residual weights.

    Args:
        spec: The network's shape.
        n_frames: Frames of the capture.
        residual: How the weights change over time.
        generator: Draws the initial weights.
        output_scales: (n_outputs,) factors of the outputs; None is 1.
    """

    scales: Tensor | None
    """(P,) factors of the weights, which are cheaper to scale than the outputs."""

    def __init__(
        self,
        spec: MlpSpec,
        n_frames: int,
        residual: ResFieldConfig,
        generator: torch.Generator,
        output_scales: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.weights = residual_weights(
            xavier_uniform(spec, generator), spec, n_frames, residual, generator
        )

        scales = None
        if output_scales is not None:
            scales = torch.ones(spec.n_weights)
            last = scales[spec.offsets[-2] :].view(spec.shapes[-1])
            last[: spec.n_outputs] = output_scales[:, None]
        self.register_buffer("scales", scales, persistent=False)

    def forward(
        self,
        jets: Tensor,  # (N, 1 + D, n_inputs)
        slices: FrameSlices,
        backend: Backend,
    ) -> Tensor:  # (N, 1 + D, n_outputs)
        """Runs each frame's rows through the network at that frame."""
        return backend.mlp(jets, slices, self._at(slices), self.spec)

    def sloped(
        self,
        features: Tensor,  # (N, 1 + D, F)
        others: Tensor,  # (N, 1 + D, G)
        slices: FrameSlices,
        backend: Backend,
    ) -> tuple[Tensor, Tensor]:  # (N, n_outputs), (N, D)
        """Returns the outputs, and of their derivatives those of the first one."""
        return backend.sloped_mlp(features, others, slices, self._at(slices), self.spec)

    def _at(self, slices: FrameSlices) -> Tensor:  # (T, P)
        return shared(self, slices.frames, lambda: self._composed(slices.frames))

    def _composed(self, frames: tuple[float, ...]) -> Tensor:  # (T, P)
        weights = between_frames(self.weights, frames)
        return weights if self.scales is None else weights * self.scales


def xavier_uniform(spec: MlpSpec, generator: torch.Generator) -> Tensor:
    """Returns (P,) initial weights, uniform in +-sqrt(6 / (in + out)) as tiny-cuda-nn's are."""
    matrices = []
    for rows, columns in spec.shapes:
        bound = math.sqrt(6.0 / (rows + columns))
        matrices.append(torch.empty(rows * columns).uniform_(-bound, bound, generator=generator))
    return torch.cat(matrices)
