"""Losses of a shape in one step: on samples, on free points, on rays that miss it.

Rows that count are listed where that is cheap. Where listing means waiting for a device, a number
of rows that is known beforehand is drawn there instead, and weighted.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .backends.reference import box_interval
from .field import Field
from .heads.base import unit
from .losses import (
    LossConfig,
    albedo_loss,
    area_loss,
    bending_loss,
    curvature_loss,
    distortion_loss,
    eikonal_loss,
    hull_loss,
    silhouette_loss,
    sparseness_loss,
)
from .occupancy import Occupancy
from .records import FrameSlices, Rays, Samples
from .rendering import Shading
from .transfers import on_device

N_FREE_POINTS = 1024
"""Random points per step for the losses that hold everywhere in the box."""
N_BENT = 4096
"""Samples whose normals, or slopes, are compared."""
NEARBY = 0.01
"""Model units, standard deviation by axis, to what they are compared with."""
N_MATCHED = 2048
"""Samples whose albedos are compared."""
N_TENSE = 1024
"""Samples on which the area pulls."""
AREA_REACH = 0.03
"""Model units across which the area is felt: a ridge is drawn in over so much of its slopes."""
AREA_END = 0.5
"""Fraction of training from which the area pulls no more: pictures alone then shape the rest."""
_TETRAHEDRON = (1, 1, 1, 1, -1, -1, -1, 1, -1, -1, -1, 1)
N_LOST = 256
"""Rays that miss the surface, where they are drawn."""
HULL_STEP = 0.02
"""Model units from point to point on a ray that misses the surface."""
_N_HULL_POINTS = 64
"""Points of such a ray where they are drawn: about as many as its way through the box has steps."""


@dataclass(frozen=True)
class Place:
    """Where and when in its training a field is asked."""

    field: Field
    """What is learned."""
    occupancy: Occupancy
    """Where it may be."""
    fraction: float
    """Fraction of training in [0, 1]."""
    generator: torch.Generator
    """Source of random draws."""


def surface_losses(
    place: Place, shading: Shading, slices: FrameSlices, config: LossConfig
) -> dict[str, Tensor]:
    """Returns a distance's weighted terms on the rays' samples and on free points of the box."""
    gradients, occupancy = shading.outputs.gradients, place.occupancy
    losses = {"eikonal": config.eikonal * eikonal_loss(gradients)}
    if config.sparseness or (config.hull and occupancy.has_masks):
        points, at = free_points(slices.frames, N_FREE_POINTS, place.generator)
        sdfs = place.field.query(points, at, place.fraction, 0)[:, 0, 0]
        losses["sparseness"] = config.sparseness * sparseness_loss(sdfs)
        if occupancy.has_masks:
            hull_distances = occupancy.hull_distances(points, at, place.field.backend)
            losses["hull"] = config.hull * hull_loss(sdfs, hull_distances)
    if config.area and place.fraction < AREA_END:
        fading = 1.0 - place.fraction / AREA_END
        losses["area"] = config.area * fading * _area(place, shading, slices)
    if config.albedo and place.field.head.has_albedo:
        losses["albedo"] = config.albedo * _albedo(place, shading, slices)
    if config.curvature:
        losses["curvature"] = config.curvature * _curvature(place, shading, slices)
    return losses


def density_losses(
    place: Place, shading: Shading, samples: Samples, n_rays: int, config: LossConfig
) -> dict[str, Tensor]:
    """Returns a density's weighted terms on the rays' samples.

    What a hull bounds is smoothed; what nothing bounds is first to gather, and smoothing would
    spread it through the box.
    """
    if place.occupancy.has_masks:
        if not config.curvature:
            return {}
        return {"curvature": config.curvature * _bending(place, shading, samples.slices)}
    if not config.distortion:
        return {}
    distortion = distortion_loss(
        shading.weights, samples.middles, samples.lengths, samples.ray_indices, n_rays
    )
    return {"distortion": config.distortion * distortion}


def silhouette(
    place: Place,
    rays: Rays,
    is_lost: Tensor,  # (R,) bool
) -> Tensor:  # ()
    """Pulls a surface into the path of foreground rays that see none, where the hull allows one."""
    if place.field.backend.is_asynchronous:
        return _silhouette_of_some(place, rays, is_lost)
    lost = is_lost.nonzero()[:, 0]
    some = Rays(rays.origins[lost], rays.directions[lost], _slices_of(lost, rays.slices))
    samples = place.occupancy.march_hull(some, place.field.backend, HULL_STEP)
    directions = some.directions[samples.ray_indices]
    positions = some.origins[samples.ray_indices] + samples.t_starts[:, None] * directions
    sdfs = place.field.query(positions.clamp(0.0, 1.0), samples.slices, place.fraction, 0)
    return silhouette_loss(sdfs[:, 0, 0], samples.ray_indices, some.n_rays, rays.n_rays)


def free_points(
    frames: tuple[float, ...], n_points: int, generator: torch.Generator
) -> tuple[Tensor, FrameSlices]:
    """Returns uniform points of the box, shared evenly among frames."""
    each = max(1, n_points // len(frames))
    shape = (each * len(frames), 3)
    positions = torch.rand(shape, generator=generator, device=generator.device)
    return positions, FrameSlices.even(frames, each)


def _area(place: Place, shading: Shading, slices: FrameSlices) -> Tensor:
    """Compares distances on the surface with those around it."""
    chosen, at, counts = _on_surface(place, shading, slices, N_TENSE)
    shape, device = (chosen.shape[0], 1, 1), place.generator.device
    is_flipped = torch.rand(shape, generator=place.generator, device=device) < 0.5
    corners = on_device(_TETRAHEDRON, device).view(4, 3) * (AREA_REACH / 3.0**0.5)
    positions = shading.positions[chosen][:, None] + torch.where(is_flipped, -corners, corners)
    of_corners = FrameSlices(at.frames, tuple(4 * offset for offset in at.offsets))
    with torch.no_grad():
        positions = positions.view(-1, 3).clamp(0.0, 1.0)
        around = place.field.query(positions, of_corners, place.fraction, 0)[:, 0, 0]
    return area_loss(
        shading.outputs.values[chosen, 0], around.view(-1, 4).mean(1), AREA_REACH, counts
    )


def _albedo(place: Place, shading: Shading, slices: FrameSlices) -> Tensor:
    """Compares albedos of samples on the surface with those a small step away."""
    chosen, at, counts = _on_surface(place, shading, slices, N_MATCHED)
    head, backend = place.field.head, place.field.backend
    here = shading.outputs.at(chosen)
    positions = (shading.positions[chosen] + _nearby(place, len(chosen))).clamp(0.0, 1.0)
    there = place.field.outputs(positions, at, place.fraction, 0)
    head_on = -unit(here.gradients.detach())
    albedos, others = (
        head.albedos(each, head_on, at, place.fraction, backend) for each in (here, there)
    )
    return albedo_loss(albedos, others, counts)


def _curvature(place: Place, shading: Shading, slices: FrameSlices) -> Tensor:
    """Compares normals of samples on the surface with those a small step away."""
    chosen, at, counts = _on_surface(place, shading, slices, N_BENT)
    positions = (shading.positions[chosen] + _nearby(place, len(chosen))).clamp(0.0, 1.0)
    moved = place.field.outputs(positions, at, place.fraction, 3)
    return curvature_loss(shading.outputs.gradients[chosen], moved.gradients, counts)


def _bending(place: Place, shading: Shading, slices: FrameSlices) -> Tensor:
    """Compares levels of samples that are seen with those a small step to either side."""
    chosen, at, counts = _on_surface(place, shading, slices, N_BENT)
    positions, shift = shading.positions[chosen], _nearby(place, len(chosen))
    levels = place.field.head.levels
    ahead, behind = (
        levels(place.field.query((positions + step).clamp(0.0, 1.0), at, place.fraction, 0)[:, 0])
        for step in (shift, -shift)
    )
    return bending_loss(levels(shading.outputs.values[chosen]), ahead, behind, NEARBY, counts)


def _nearby(place: Place, count: int) -> Tensor:  # (count, 3)
    """Draws steps of about `NEARBY` in random directions."""
    device = place.generator.device
    return torch.randn((count, 3), generator=place.generator, device=device) * NEARBY


def _on_surface(
    place: Place, shading: Shading, slices: FrameSlices, count: int
) -> tuple[Tensor, FrameSlices, Tensor | None]:
    """Returns about `count` samples or fewer, their slices, and which count, None being all."""
    weights = shading.weights.detach()
    if place.field.backend.is_asynchronous:
        stride = max(1, weights.shape[0] // count)
        chosen = torch.arange(0, weights.shape[0], stride, device=weights.device)
        at = FrameSlices(slices.frames, tuple(-(-offset // stride) for offset in slices.offsets))
        return chosen, at, (weights[chosen] > 0.1).float()
    chosen = (weights > 0.1).nonzero()[:, 0]
    chosen = chosen[:: max(1, len(chosen) // count)].contiguous()
    return chosen, _slices_of(chosen, slices), None


def _silhouette_of_some(place: Place, rays: Rays, is_lost: Tensor) -> Tensor:
    """Returns the silhouette's loss from `N_LOST` rays; frames have equally many rays."""
    frames, device = rays.slices.frames, is_lost.device
    each = rays.n_rays // len(frames)
    count = min(each, max(1, N_LOST // len(frames)))
    is_lost = is_lost.view(len(frames), each)
    # Evenly among those lost, which lie view by view; each drawn stands for as many as are left.
    ranks, n_lost = is_lost.cumsum(1), is_lost.sum(1, keepdim=True)
    shares = count / n_lost.clamp(min=count)
    is_drawn = is_lost & ((ranks * shares).floor() > ((ranks - 1) * shares).floor())
    chosen = is_drawn.float().topk(count, dim=1).indices
    weights = is_drawn.gather(1, chosen) / shares
    chosen = (chosen + each * torch.arange(len(frames), device=device)[:, None]).flatten()
    origins, directions = rays.origins[chosen], rays.directions[chosen]
    near, far = box_interval(origins, directions)
    steps = (torch.arange(_N_HULL_POINTS, device=device) + 0.5) / _N_HULL_POINTS
    distances = near[:, None] + (far - near)[:, None] * steps
    positions = origins[:, None] + distances[..., None] * directions[:, None]
    positions = positions.view(-1, 3).clamp(0.0, 1.0)
    slices = FrameSlices.even(frames, count * _N_HULL_POINTS)
    sdfs = place.field.query(positions, slices, place.fraction, 0)[:, 0, 0]
    hull_distances = place.occupancy.hull_distances(positions, slices, place.field.backend)
    within = hull_distances <= 2.0 * place.occupancy.margin
    within = within & (far > near).repeat_interleave(_N_HULL_POINTS)
    ray_indices = torch.arange(len(chosen), device=device).repeat_interleave(_N_HULL_POINTS)
    sdfs = torch.where(within, sdfs, float("inf"))
    return silhouette_loss(sdfs, ray_indices, len(chosen), rays.n_rays, weights.flatten())


def _slices_of(chosen: Tensor, slices: FrameSlices) -> FrameSlices:
    """Returns which of some ascending rows (M,) belong to which frame."""
    bounds = torch.searchsorted(chosen, on_device(slices.offsets, chosen.device))
    return FrameSlices(slices.frames, tuple(bounds.tolist()))
