"""Inputs of the GPU backends' kernels, of any size and the same on every backend."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from resfields_ngp.backends import Backend, GridSpec, MlpSpec
from resfields_ngp.records import FrameSlices, Rays, Samples

GRID = GridSpec(12, 2, 4, 15, 8, 1.35)
"""Twelve levels of a base and three residuals, two features each."""
PER_RAY = 16
"""Samples of a ray."""
N_OTHERS = 3
"""Inputs of a network beside the grid's features: the position."""
SMALL_GRID = GridSpec(3, 2, 4, 7, 4, 2.0)
NETWORK = MlpSpec(GRID.n_features + N_OTHERS, 16, 64, 2)
SMALL_NETWORK = MlpSpec(SMALL_GRID.n_features + N_OTHERS, 16, 32, 1)


class Case:
    """Inputs of one size, the same on every backend."""

    def __init__(self, n_rows: int, n_frames: int, device: torch.device, small: bool) -> None:
        self.grid, self.network = (SMALL_GRID, SMALL_NETWORK) if small else (GRID, NETWORK)
        bounds = tuple(n_rows * i // n_frames for i in range(n_frames + 1))
        self.slices = FrameSlices(tuple(range(n_frames)), bounds)
        generator = torch.Generator().manual_seed(n_rows + n_frames)

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator).to(device)

        self.positions = torch.rand((n_rows, 3), generator=generator).to(device)
        self.coefficients = normal(n_frames, self.grid.n_levels, self.grid.n_channels)
        self.table = normal(*self.grid.table_shape) * 0.1
        self.jets = normal(n_rows, 4, self.network.n_inputs)
        self.weights = normal(n_frames, self.network.n_weights) * self.network.n_neurons**-0.5
        self.ray_indices = torch.arange(n_rows, device=device) // PER_RAY
        self.step = 0.04 if small else 0.005
        # Opacities and lengths of samples alike.
        self.lengths = torch.rand(n_rows, generator=generator).to(device)
        self.values = normal(n_rows, 7)
        axis = (torch.arange(32) + 0.5) / 32 - 0.5
        away = torch.cartesian_prod(axis, axis, axis).norm(dim=1).view(1, 32, 32, 32)
        self.distances = (away - 0.3).expand(n_frames, -1, -1, -1).contiguous().to(device)

    def kernels(self, backend: Backend, n_tangents: int) -> dict[str, tuple[Callable, list]]:
        """Returns each kernel as a function of its differentiable inputs, and those."""

        def grid(coefficients: Tensor, table: Tensor) -> Tensor:
            arguments = (self.positions, self.slices, coefficients, None, table, self.grid)
            return backend.hash_grid(*arguments, n_tangents)

        def mlp(jets: Tensor, weights: Tensor) -> Tensor:
            return backend.mlp(jets, self.slices, weights, self.network)

        def sloped_mlp(features: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
            return backend.sloped_mlp(features, others, self.slices, weights, self.network)

        jets = self.jets[:, : 1 + n_tangents].contiguous()
        features, others = (
            part.contiguous() for part in jets.split([self.grid.n_features, N_OTHERS], dim=2)
        )
        kernels: dict[str, tuple[Callable, list]] = {
            "hash_grid": (grid, [self.coefficients, self.table]),
            "mlp": (mlp, [jets, self.weights]),
        }
        if n_tangents:
            kernels["sloped_mlp"] = (sloped_mlp, [features, self.weights])
        return kernels

    def ray_kernels(self, backend: Backend) -> dict[str, tuple[Callable, list]]:
        """Returns compositing and sums along rays, as `kernels` does."""
        n_rays = -(-self.slices.n_rows // PER_RAY)
        samples = Samples(self.ray_indices, self.lengths, self.lengths, self.slices)

        def composite(alphas: Tensor) -> Tensor:
            return backend.composite(alphas, samples, n_rays)

        def accumulate(weights: Tensor, values: Tensor) -> Tensor:
            return backend.accumulate(weights, values, self.ray_indices, n_rays)

        return {
            "composite": (composite, [self.lengths]),
            "accumulate": (accumulate, [self.lengths, self.values]),
        }

    def march(self, backend: Backend) -> Samples:
        """Walks `PER_RAY` times fewer rays than rows through shells of balls."""
        offsets = tuple(offset // PER_RAY for offset in self.slices.offsets)
        n_rays = offsets[-1]
        origins = self.positions[:n_rays] * torch.tensor([1.0, 1.0, 0.0]).to(self.positions)
        directions = torch.tensor([0.0, 0.0, 1.0]).to(self.positions).expand(n_rays, 3).contiguous()
        rays = Rays(origins - directions, directions, FrameSlices(self.slices.frames, offsets))
        return backend.march(rays, self.distances, 6 * self.step, self.step, 1.0, None)
