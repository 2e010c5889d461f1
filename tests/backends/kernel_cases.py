"""Inputs of the kernels and comparisons of their outputs, for the tests of every backend."""

from __future__ import annotations

import torch
from torch import Tensor

from resfields_ngp.backends import GridSpec, MlpSpec
from resfields_ngp.records import FrameSlices, Rays, Samples

SPATIAL = GridSpec(5, 2, 2, 9, 4, 1.5)  # two dense levels, three hashed
TEMPORAL = GridSpec(5, 2, 1, 9, 4, 1.5, (1, 2, 2, 3, 3))
PLANE = GridSpec(5, 2, 3, 9, 8, 1.7, n_dims=2, aspect=0.6)
VIDEO = GridSpec(5, 2, 1, 9, 6, 1.5, (1, 2, 2, 3, 3), n_dims=2, aspect=0.6)
MANY = FrameSlices((4, 0, 2), (0, 30, 30, 90))  # the middle frame has no rows
CASES = {
    "random": MANY,
    "one frame": FrameSlices.single(1, 40),
    "empty": FrameSlices.single(1, 0),
    "edge": MANY,
}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def grid_inputs(spec: GridSpec, slices: FrameSlices, case: str) -> list:
    """Returns positions, coefficients, slots and table."""
    n_frames = len(slices.frames)
    positions = torch.rand(slices.n_rows, 3, generator=seeded())
    if case == "edge":
        positions = positions.round()
    shape = (n_frames, spec.n_levels, spec.n_lookups * spec.n_channels)
    coefficients = torch.randn(shape, generator=seeded(1))
    table = torch.randn(spec.table_shape, generator=seeded(2))
    slots = None
    if spec.time_resolutions:
        sizes = torch.tensor(spec.time_resolutions)[None, :, None]
        uniform = torch.rand((n_frames, spec.n_levels, 2), generator=seeded(3))
        slots = (uniform * sizes).long()
    return [positions, coefficients, slots, table]


def leaves(*tensors: Tensor) -> list[Tensor]:
    return [tensor.clone().requires_grad_() for tensor in tensors]


def grid_outputs(backend, inputs: list, slices: FrameSlices, spec: GridSpec, n_tangents: int):
    """Returns the jets and the gradients of a random projection of them."""
    positions, coefficients, slots, table = inputs
    positions, coefficients, table = leaves(positions, coefficients, table)
    jets = backend.hash_grid(positions, slices, coefficients, slots, table, spec, n_tangents)
    (jets * torch.randn(jets.shape, generator=seeded(4))).sum().backward()
    return [jets.detach(), positions.grad, coefficients.grad, table.grad]


def assert_alike(found: list, expected: list, tolerance: float) -> None:
    """Compares tensors by the norm of their difference."""
    for index, (one, other) in enumerate(zip(found, expected, strict=True)):
        assert one.shape == other.shape
        assert (one - other).norm() <= tolerance * other.norm(), index


def assert_all_close(found: list, expected: list, tolerance: float = 1e-5) -> None:
    """Compares tensors; float32 sums in another order differ by some parts in a million."""
    for index, (one, other) in enumerate(zip(found, expected, strict=True)):
        assert one.shape == other.shape
        scale = max(1.0, float(other.abs().max())) if other.numel() else 1.0
        assert torch.allclose(one, other, rtol=0, atol=tolerance * scale), index


def mlp_outputs(backend, jets: Tensor, slices: FrameSlices, weights: Tensor, spec: MlpSpec):
    jets, weights = leaves(jets, weights)
    outputs = backend.mlp(jets, slices, weights, spec)
    (outputs * torch.randn(outputs.shape, generator=seeded(4))).sum().backward()
    return [outputs.detach(), jets.grad, weights.grad]


def mlp_weights_gradient(
    backend, jets: Tensor, slices: FrameSlices, weights: Tensor, spec: MlpSpec
):
    """Returns the last of `mlp_outputs` where no gradient by the inputs is asked for."""
    (weights,) = leaves(weights)
    outputs = backend.mlp(jets, slices, weights, spec)
    (outputs * torch.randn(outputs.shape, generator=seeded(4))).sum().backward()
    return weights.grad


def sloped_outputs(backend, jets: Tensor, slices: FrameSlices, weights: Tensor, spec: MlpSpec):
    features, others, weights = leaves(jets[:, :, :6], jets[:, :, 6:], weights)
    found = backend.sloped_mlp(features, others, slices, weights, spec)
    torch.stack(
        [(f * torch.randn(f.shape, generator=seeded(4))).sum() for f in found]
    ).sum().backward()
    return [*(each.detach() for each in found), features.grad, others.grad, weights.grad]


def mlp_inputs(spec: MlpSpec, slices: FrameSlices, n_tangents: int) -> tuple[Tensor, Tensor]:
    jets = torch.randn(slices.n_rows, 1 + n_tangents, spec.n_inputs, generator=seeded())
    weights = torch.randn(len(slices.frames), spec.n_weights, generator=seeded(1))
    return jets, weights * spec.n_neurons**-0.5


def sphere_grid(n_frames: int, resolution: int = 24) -> Tensor:
    """Returns distances of spheres that grow with the frame."""
    axis = (torch.arange(resolution) + 0.5) / resolution - 0.5
    x, y, z = torch.meshgrid(axis, axis, axis, indexing="ij")
    away = (x * x + y * y + z * z).sqrt()
    return torch.stack([away - 0.2 - 0.05 * frame for frame in range(n_frames)])


def some_rays(slices: FrameSlices) -> Rays:
    """Returns rays towards the box, every fourth away from it."""
    n_rays = slices.n_rows
    origins = torch.nn.functional.normalize(torch.randn(n_rays, 3, generator=seeded()), dim=1)
    origins = 0.5 + 2.0 * origins
    targets = 0.5 + 0.4 * (torch.rand(n_rays, 3, generator=seeded(1)) - 0.5)
    directions = torch.nn.functional.normalize(targets - origins, dim=1)
    directions[::4] *= -1.0
    return Rays(origins, directions, slices)


def packed(counts: list[int]) -> Samples:
    """Returns samples with so many intervals on each ray."""
    ray_indices = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    bounds = FrameSlices.single(0, sum(counts))
    starts = torch.arange(float(sum(counts)))
    return Samples(ray_indices, starts, starts + 1.0, bounds)
