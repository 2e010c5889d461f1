"""A flat weight vector that changes over time: what all forms of the residual share."""

from __future__ import annotations

from abc import abstractmethod
from itertools import pairwise

import torch
from torch import Tensor, nn

from ..backends.specs import MlpSpec
from ..config_tree import ConfigError
from .config import ResFieldConfig


class ResidualWeights(nn.Module):
    """The weights of a network, composed once per distinct frame into one flat vector.

    A backend sees the vector only, whatever its form. With rank 0 or a single frame the vector
    is static and its base is the only parameter.
    """

    is_residual: Tensor
    """(P,) 1 where the vector may change, else 0; only there where it has residuals."""

    def __init__(
        self,
        initial: Tensor,  # (P,) theta_0
        spec: MlpSpec,
        n_frames: int,
        config: ResFieldConfig,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.spec, self.config, self.n_frames = spec, config, n_frames
        self.rank = self.allowed_rank() if n_frames > 1 else 0
        self.layers = self._chosen_layers()
        self.base = nn.Parameter(initial)
        if self.rank:
            self._check_rank()
            chosen = torch.zeros_like(initial)
            for layer in self.layers:
                chosen[spec.offsets[layer] : spec.offsets[layer + 1]] = 1.0
            self.register_buffer("is_residual", chosen, persistent=False)
            self.build(generator)

    def forward(self, frames: tuple[int, ...]) -> Tensor:
        """Returns (T, P), the vector at each of some frames."""
        if not self.rank:
            return self.base.expand(len(frames), -1)
        return self.fused(self.residuals(frames))

    def fused(self, residuals: Tensor) -> Tensor:
        """Returns (T, P): base and residuals, added or multiplied."""
        if self.config.fusion == "multiply":
            return self.base * (1.0 + residuals)
        return self.base + residuals

    def allowed_rank(self) -> int:
        """Returns the rank in use: more rows than frames span nothing further."""
        return min(self.config.rank, self.n_frames)

    def most_rank(self, layer: int) -> int:
        """Returns the highest rank that a layer has use for."""
        rows, columns = self.spec.shapes[layer]
        return rows * columns

    @abstractmethod
    def build(self, generator: torch.Generator) -> None:
        """Makes the parameters of the residual."""

    @abstractmethod
    def residuals(self, frames: tuple[int, ...]) -> Tensor:  # (T, P)
        """Returns what the vector differs by at each of some frames; 0 in other layers."""

    def by_layer(self, parts: list[Tensor]) -> Tensor:
        """Returns (T, P) from the (T, out, in) residuals of each chosen layer."""
        blocks = dict(zip(self.layers, parts, strict=True))
        n_times = parts[0].shape[0]
        columns = [
            blocks[i].flatten(1) if i in blocks else self.base.new_zeros(n_times, end - begin)
            for i, (begin, end) in enumerate(pairwise(self.spec.offsets))
        ]
        return torch.cat(columns, dim=1)

    def _chosen_layers(self) -> tuple[int, ...]:
        n_layers = len(self.spec.shapes)
        layers = self.config.layers or tuple(range(n_layers))
        if not all(0 <= layer < n_layers for layer in layers):
            raise ConfigError(
                f"residual.layers is {layers}; this network has layers 0 to {n_layers - 1}"
            )
        return tuple(sorted(set(layers)))

    def _check_rank(self) -> None:
        for layer in self.layers:
            most = self.most_rank(layer)
            if self.config.rank > most:
                rows, columns = self.spec.shapes[layer]
                raise ConfigError(
                    f"residual.rank is {self.config.rank}; {self.config.factorisation} on layer "
                    f"{layer} of this network, {rows} x {columns} weights, allows 0 to {most}"
                )
