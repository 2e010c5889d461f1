"""The specification: every kernel in plain torch, on any device; slow, short, obviously right."""

from __future__ import annotations

import functools
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

from ..records import FrameSlices, Samples
from ..transfers import on_device
from .base import Backend
from .specs import ACTIVATION_SHARPNESS, PRIMES, Activation, GridSpec, pad_inputs

_CORNERS = [(i & 1, i >> 1 & 1, i >> 2 & 1) for i in range(8)]  # the first 4 for two axes


class ReferenceBackend(Backend):
    """Plain torch kernels; autograd gives their gradients."""

    name = "reference"

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        if self.device.type == "cuda":
            self.is_asynchronous = True

    def hash_grid(self, positions, slices, coefficients, slots, table, spec, n_tangents):
        """See `Backend.hash_grid`."""
        rows = slices.spread(torch.arange(len(slices.frames), device=positions.device))
        levels = []
        for level in range(spec.n_levels):
            places = positions[:, : spec.n_dims]
            weights, tangents, corners = _corner_weights(places, spec.scales[level])
            start, stop = spec.offsets[level], spec.offsets[level + 1]
            values = 0.0
            for lookup in range(spec.n_lookups):
                slot = None if slots is None else slots[:, level, lookup].to(positions.device)[rows]
                indices = _entry_indices(corners, slot, spec, level)
                entries = table[start:stop][indices]  # (N, 8, C, F)
                channels = slice(lookup * spec.n_channels, (lookup + 1) * spec.n_channels)
                values = values + torch.einsum(
                    "necf,nc->nef", entries, coefficients[rows, level, channels]
                )
            jets = torch.cat([weights[:, None], tangents], dim=1)[:, : 1 + n_tangents]
            levels.append(torch.einsum("nde,nef->ndf", jets, values))
        return torch.cat(levels, dim=2)

    def mlp(self, jets, slices, weights, spec):
        """See `Backend.mlp`."""
        jets = pad_inputs(jets, spec.shapes[0][1])
        outputs = [jets.new_zeros(0, jets.shape[1], spec.n_outputs)]
        # Frames without rows take part: so has the result of no rows its (zero) gradients.
        for i, (begin, end) in enumerate(pairwise(slices.offsets)):
            hidden = jets[begin:end]
            for layer, shape in enumerate(spec.shapes):
                matrix = weights[i, spec.offsets[layer] : spec.offsets[layer + 1]].view(shape)
                hidden = hidden @ matrix.T
                if layer + 1 < len(spec.shapes):
                    hidden = activate(hidden, spec.activation)
            outputs.append(hidden[:, :, : spec.n_outputs])
        return torch.cat(outputs)

    def march(self, rays, distances, band, step, stretch, jitter, capacity=None):
        """See `Backend.march`; walks all rays in step."""
        n_rays, device = rays.n_rays, rays.origins.device
        near, far = box_interval(rays.origins, rays.directions)
        frames = rays.slices.spread(on_device(rays.slices.frames, device))
        t = near + (jitter if jitter is not None else 0.5) * step
        before, length = torch.full_like(t, 1e9), torch.full_like(t, step)
        entered = torch.zeros(n_rays, dtype=torch.bool, device=device)
        alive = t < far
        kept = [(torch.zeros(0, dtype=torch.int64, device=device), t[:0], t[:0])]
        while alive.any():
            index = alive.nonzero()[:, 0]
            points = rays.origins[index] + t[index, None] * rays.directions[index]
            distance = sample_distances(distances, frames[index], points)
            in_band = distance.abs() <= band
            last = length[index]
            slope = ((distance - before[index]).abs() / last).clamp(1.0 / stretch, 1.0)
            overshot = (distance < -band) & ~entered[index] & (last > step)
            traced = torch.minimum(0.5 * (distance.abs() - band), 2.0 * last).clamp(min=step)
            traced = torch.where(overshot, step, traced)
            t[index] -= torch.where(overshot, last, 0.0)
            length[index] = torch.where(in_band, step / slope, traced)
            hits = index[in_band]
            kept.append((hits, t[hits], t[hits] + length[hits]))
            entered[hits] = True
            solid = (distance < -band) & entered[index]
            before[index] = distance
            t[index] += length[index]
            alive[index] = (t[index] < far[index]) & ~solid
        ray_indices, starts, ends = (torch.cat(column) for column in zip(*kept, strict=True))
        ray_indices, order = torch.sort(ray_indices, stable=True)
        bounds = torch.tensor(rays.slices.offsets, device=device)
        slices = FrameSlices(
            rays.slices.frames, tuple(torch.searchsorted(ray_indices, bounds).tolist())
        )
        return Samples(ray_indices, starts[order], ends[order], slices)

    def interpolate(self, grids, positions, slices):
        """See `Backend.interpolate`."""
        frames = slices.spread(on_device(slices.frames, positions.device))
        return sample_distances(grids, frames, positions)

    def composite(self, alphas, samples, n_rays):
        """See `Backend.composite`; cumulative sums of log(1 - alpha), restarted at each ray."""
        logs = torch.log1p(-alphas.clamp(max=1.0 - 1e-7)).double()
        before = torch.cumsum(logs, 0) - logs
        first = torch.searchsorted(samples.ray_indices, torch.arange(n_rays, device=alphas.device))
        at_first = torch.cat([before, before.new_zeros(1)])[first]
        return alphas * torch.exp(before - at_first[samples.ray_indices]).to(alphas.dtype)

    def accumulate(self, weights, values, ray_indices, n_rays, packing=None):
        """See `Backend.accumulate`."""
        sums = values.new_zeros(n_rays, values.shape[1])
        return sums.index_add(0, ray_indices, weights[:, None] * values)


def activate(
    jets: Tensor,  # (N, 1 + D, F)
    activation: Activation,
) -> Tensor:
    """Returns sigma(z) in row 0 and sigma'(z) dz in the others."""
    values, tangents = jets[:, :1], jets[:, 1:]
    k = ACTIVATION_SHARPNESS
    if activation == "relu":
        outputs, slopes = values.relu(), (values > 0).to(values.dtype)
    elif activation == "softplus":
        outputs, slopes = functional.softplus(values, beta=k), torch.sigmoid(k * values)
    else:
        root = torch.sqrt(values * values + 4.0 / (k * k))
        outputs, slopes = 0.5 * (values + root), 0.5 * (1.0 + values / root)
    return torch.cat([outputs, slopes * tangents], dim=1)


def box_interval(origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """Returns (R,) where rays enter [0, 1]^3, at least 0, and leave it; a miss leaves first."""
    safe = torch.where(directions.abs() < 1e-9, torch.full_like(directions, 1e-9), directions)
    to_low, to_high = -origins / safe, (1.0 - origins) / safe
    near = torch.minimum(to_low, to_high).amax(1).clamp(min=0.0)
    return near, torch.maximum(to_low, to_high).amin(1)


def sample_distances(distances: Tensor, frames: Tensor, points: Tensor) -> Tensor:
    """Interpolates each point's frame trilinearly between cell centres, clamped at the border."""
    resolution = distances.shape[1]
    grid = (points * resolution - 0.5).clamp(0.0, resolution - 1.0)
    low = grid.floor().clamp(max=resolution - 2).long()
    x, y, z = low.unbind(1)
    shares = _shares(grid - low)
    total = torch.zeros_like(points[:, 0])
    for i, j, k in _CORNERS:
        weight = shares[0][i] * shares[1][j] * shares[2][k]
        total = total + weight * distances[frames, x + i, y + j, z + k].float()
    return total


def _shares(fractions: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Returns the (N,) weights of the lower and the upper side, for each axis of (N, D)."""
    return [(1.0 - upper, upper) for upper in fractions.unbind(1)]


def _product(factors: list[Tensor]) -> Tensor:
    return functools.reduce(Tensor.mul, factors)


def _corner_weights(positions: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """Returns trilinear weights (N, 8), their derivatives (N, 3, 8) and the corners (N, 8, 3).

    Bilinear ones where positions have two axes: (N, 4), (N, 2, 4) and (N, 4, 2).
    """
    n_dims = positions.shape[1]
    scaled = positions * scale + 0.5
    low = scaled.detach().floor()
    shares, lowest = _shares(scaled - low), low.long().unbind(1)
    weights, tangents, corners = [], [], []
    for corner in _CORNERS[: 2**n_dims]:
        sides = corner[:n_dims]
        factors = [shares[axis][side] for axis, side in enumerate(sides)]
        weights.append(_product(factors))
        slopes = [(2 * side - 1) * scale for side in sides]
        others = [_product(factors[:axis] + factors[axis + 1 :]) for axis in range(n_dims)]
        tangents.append(torch.stack([o * s for o, s in zip(others, slopes, strict=True)], dim=1))
        corners.append(torch.stack([x + side for x, side in zip(lowest, sides, strict=True)], 1))
    return torch.stack(weights, 1), torch.stack(tangents, 2), torch.stack(corners, 1)


def _entry_indices(corners: Tensor, slot: Tensor | None, spec: GridSpec, level: int) -> Tensor:
    """Returns (N, 8) entries in the level: dense, x fastest, where it fits, else hashed."""
    mask = 0xFFFFFFFF  # uint32 arithmetic, as on the GPU
    x, y, *others = (corners & mask).unbind(2)
    time = torch.zeros_like(x) if slot is None else slot[:, None].expand_as(x)
    # Over two axes time is the third one.
    z, time = (others[0], time) if others else (time, torch.zeros_like(x))
    if spec.is_hashed[level]:
        index = x ^ (y * PRIMES[1] & mask) ^ (z * PRIMES[2] & mask) ^ (time * PRIMES[3] & mask)
    else:
        columns, rows = spec.resolutions[level], spec.n_rows[level]
        index = (x + columns * (y + rows * (z + columns * time))) & mask
    return index % spec.sizes[level]
