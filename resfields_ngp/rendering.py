"""From packed samples to pixels: alphas to weights to each ray's colour, depth, opacity, normal."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .field import Field
from .heads.base import Outputs, unit
from .occupancy import Occupancy
from .records import FrameSlices, Rays, Rendering, Samples
from .transfers import on_device

MIN_WEIGHT = 1e-3
"""Samples below this weight are not coloured: they cannot change a pixel by a grey level."""
CHUNK_RAYS = 16384
"""Rays of one pass without gradients."""


@dataclass(frozen=True)
class Shading:
    """What rendering found out about its samples, for the losses."""

    positions: Tensor
    """(N, 3) middles of the intervals, model space."""
    outputs: Outputs
    """The geometry network's outputs there."""
    weights: Tensor
    """(N,) compositing weights."""


def render_samples(
    field: Field,
    rays: Rays,
    samples: Samples,
    fraction: float,
    background: Tensor | float,
    n_tangents: int | None = None,
) -> tuple[Rendering, Shading]:
    """Renders rays from their samples.

    Args:
        field: The field.
        rays: R rays.
        samples: Their packed intervals.
        fraction: Fraction of training in [0, 1], for the schedules.
        background: Colour behind everything, a grey level or (R, 3).
        n_tangents: 3 for normals; None takes what the head's opacities need, and leaves them 0.

    Returns:
        The rendering, differentiable in the field's parameters but for its normals' directions,
        and the shading of its samples.
    """
    directions = rays.directions[samples.ray_indices]
    lengths, middles = samples.lengths, samples.middles
    positions = (rays.origins[samples.ray_indices] + middles[:, None] * directions).clamp(0.0, 1.0)
    tangents = field.head.n_tangents if n_tangents is None else n_tangents
    outputs = field.outputs(positions, samples.slices, fraction, tangents)
    alphas = field.head.alphas(outputs, directions, lengths, fraction)
    weights = field.backend.composite(alphas, samples, rays.n_rays)

    accumulate = field.backend.accumulate
    if field.backend.is_asynchronous:
        # How many are worth colouring is not known here without waiting; all are coloured.
        rgbs = field.head.rgbs(outputs, directions, samples.slices, fraction, field.backend)
        colours = accumulate(weights, rgbs, samples.ray_indices, rays.n_rays, samples.packing)
    else:
        seen = (weights.detach() > MIN_WEIGHT).nonzero()[:, 0]
        bounds = torch.searchsorted(seen, on_device(samples.slices.offsets, seen.device))
        slices = FrameSlices(samples.slices.frames, tuple(bounds.tolist()))
        parts = (outputs.at(seen), directions[seen], slices, fraction, field.backend)
        rgbs = field.head.rgbs(*parts)
        colours = accumulate(weights[seen], rgbs, samples.ray_indices[seen], rays.n_rays)
    others = [torch.ones_like(middles)[:, None], middles[:, None]]
    if n_tangents:
        others.append(field.head.outward * unit(outputs.gradients.detach()))
    stacked = torch.cat(others, dim=1)
    sums = accumulate(weights, stacked, samples.ray_indices, rays.n_rays, samples.packing)
    normals = sums[:, 2:] if n_tangents else torch.zeros_like(rays.origins)
    opacities = sums[:, 0]
    rendering = Rendering(
        colours + (1.0 - opacities)[:, None] * background, opacities, sums[:, 1], normals
    )
    return rendering, Shading(positions, outputs, weights)


@torch.no_grad()
def render(
    field: Field,
    occupancy: Occupancy,
    rays: Rays,
    background: float = 0.0,
) -> Rendering:
    """Renders any number of rays in bounded memory, as far as the field is trained.

    Not differentiable.
    """
    fraction = field.trained_fraction
    sharpness = float(field.head.sharpness(fraction))
    parts = []
    for chunk in _chunks(rays):
        samples = occupancy.march(chunk, field.backend, sharpness, None)
        parts.append(render_samples(field, chunk, samples, fraction, background, 3)[0])
    columns = ("rgbs", "opacities", "depths", "normals")
    return Rendering(*(torch.cat([getattr(part, name) for part in parts]) for name in columns))


def _chunks(rays: Rays):
    """Yields the rays in pieces of at most `CHUNK_RAYS`; at least one piece, perhaps empty."""
    for begin in range(0, max(rays.n_rays, 1), CHUNK_RAYS):
        end = min(begin + CHUNK_RAYS, rays.n_rays)
        offsets = tuple(min(max(offset, begin), end) - begin for offset in rays.slices.offsets)
        yield Rays(
            rays.origins[begin:end],
            rays.directions[begin:end],
            FrameSlices(rays.slices.frames, offsets),
        )
