"""The field: encoder -> ResField MLP -> head, at (position, frame, direction)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .backends.base import Backend, MlpSpec
from .encoders import ENCODERS, EncoderConfig
from .heads import HEADS, HeadConfig
from .mlp import ResFieldMlp
from .records import FrameSlices, check_shape
from .resfield import ResFieldConfig

QUERY_ROWS = 65536
"""Rows of one query without gradients; bounds the memory of rendering and meshing."""


@dataclass(frozen=True)
class NetworkConfig:
    """Geometry network: from encoded positions to the head's outputs."""

    n_neurons: int = 64
    """Width of the hidden layers, a multiple of 16 up to 128."""
    n_hidden_layers: int = 2
    """Hidden layers."""
    release_end: float = 0.5
    """Fraction of training by which all of the encoder's detail takes part (coarse to fine)."""

    def __post_init__(self) -> None:
        if self.n_neurons % 16 or not 16 <= self.n_neurons <= 128:
            raise ValueError(f"network.n_neurons is {self.n_neurons}; allowed: 16, 32, .. 128")


class Field(nn.Module):
    """A field over space and time."""

    def __init__(
        self,
        encoder: EncoderConfig,
        network: NetworkConfig,
        head: HeadConfig,
        residual: ResFieldConfig,
        n_frames: int,
        generator: torch.Generator,
        backend: Backend,
    ) -> None:
        super().__init__()
        self.config = network
        self.backend = backend
        self.encoder = ENCODERS[encoder.kind](encoder, n_frames, generator)  # pyright: ignore
        self.head = HEADS[head.kind](head, n_frames, residual, generator)  # pyright: ignore
        spec = MlpSpec(
            self.encoder.n_features + 3, self.head.n_outputs, network.n_neurons, network.n_hidden_layers
        )
        self.trunk = ResFieldMlp(spec, n_frames, residual, generator)
        self.register_buffer("trained", torch.zeros((), dtype=torch.float64))

    @property
    def trained_fraction(self) -> float:
        """The fraction of training that the parameters have seen; what inference renders with."""
        return float(self.trained)

    def query(
        self,
        positions: Tensor,  # (N, 3) model space
        slices: FrameSlices,
        fraction: float,
        n_tangents: int,
    ) -> Tensor:  # (N, 1 + n_tangents, n_outputs)
        """Returns the geometry network's outputs, with derivatives by position when `n_tangents` is 3.

        Args:
            positions: Where.
            slices: Which rows belong to which frame.
            fraction: Fraction of training in [0, 1]; releases the encoder's fine detail.
            n_tangents: 0 or 3.
        """
        check_shape("positions", positions, "N 3")
        released = min(1.0, fraction / self.config.release_end) if self.config.release_end > 0 else 1.0
        jets = self.encoder(positions, slices, self.backend, n_tangents, released)
        return self.trunk(torch.cat([jets, position_jets(positions, n_tangents)], dim=2), slices, self.backend)

    @torch.no_grad()
    def sdfs(self, positions: Tensor, frame: int) -> Tensor:
        """Returns (N,) the head's level function at one frame: negative inside, 0 on the surface, model units.

        Not differentiable; runs in bounded memory.
        """
        chunks = [
            self.head.levels(self._values(part, frame))
            for part in positions.split(QUERY_ROWS)
        ]
        return torch.cat(chunks) if chunks else positions.new_zeros(0)

    @torch.no_grad()
    def normals(self, positions: Tensor, frame: int) -> Tensor:
        """Returns (N, 3) unit normals, outward, model axes. Not differentiable."""
        return torch.cat([self._surface(part, frame)[1] for part in positions.split(QUERY_ROWS)])

    @torch.no_grad()
    def rgbs(self, positions: Tensor, frame: int, directions: Tensor | None = None) -> Tensor:
        """Returns (N, 3) colours seen along `directions` (N, 3), or head-on where None. Not differentiable."""
        views = [None] * (-(-positions.shape[0] // QUERY_ROWS)) if directions is None else directions.split(QUERY_ROWS)
        chunks = [positions.new_zeros(0, 3)]
        for part, view in zip(positions.split(QUERY_ROWS), views, strict=False):
            jets, normals = self._surface(part, frame)
            slices = FrameSlices.single(frame, part.shape[0])
            chunks.append(self.head.rgbs(jets, -normals if view is None else view, slices, self.backend))
        return torch.cat(chunks)

    def _values(self, positions: Tensor, frame: int) -> Tensor:
        slices = FrameSlices.single(frame, positions.shape[0])
        return self.query(positions, slices, self.trained_fraction, 0)[:, 0]

    def _surface(self, positions: Tensor, frame: int) -> tuple[Tensor, Tensor]:
        """Returns the jets and the unit normals at one frame."""
        jets = self.query(positions, FrameSlices.single(frame, positions.shape[0]), self.trained_fraction, 3)
        outputs = jets.shape[2]
        with torch.enable_grad():
            # A head's level is a function of the outputs; its gradient is the chain rule through them.
            values = jets[:, 0].detach().requires_grad_()
            slopes = torch.autograd.grad(self.head.levels(values).sum(), values)[0]
        gradients = (jets[:, 1:] * slopes.view(-1, 1, outputs)).sum(2)
        return jets, torch.nn.functional.normalize(gradients, dim=1, eps=1e-9)


def position_jets(
    positions: Tensor,  # (N, 3)
    n_tangents: int,
) -> Tensor:  # (N, 1 + n_tangents, 3)
    """Returns positions mapped to [-1, 1] with their derivatives."""
    values = (2.0 * positions - 1.0)[:, None]
    if not n_tangents:
        return values
    tangents = 2.0 * torch.eye(3, device=positions.device)
    return torch.cat([values, tangents.expand(positions.shape[0], 3, 3)], dim=1)
