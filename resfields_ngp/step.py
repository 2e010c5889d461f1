"""One training step on one screen: rays -> samples -> rendering -> losses."""

from __future__ import annotations

import torch
from torch import Tensor

from .field import Field
from .losses import (
    LossConfig,
    colour_loss,
    curvature_loss,
    depth_loss,
    distortion_loss,
    eikonal_loss,
    hull_loss,
    mask_loss,
    silhouette_loss,
    sparseness_loss,
)
from .occupancy import Occupancy
from .records import Batch, FrameSlices, Rays, StepResult
from .rendering import Shading, render_samples
from .resfield import temporal_roughness
from .schedules import Background
from .transfers import on_device

N_FREE_POINTS = 1024
"""Random points per step for the losses that hold everywhere in the box."""


def render_step(
    field: Field,
    occupancy: Occupancy,
    batch: Batch,
    config: LossConfig,
    fraction: float,
    generator: torch.Generator,
    background: Background = "auto",
) -> StepResult:
    """Renders a batch and compares it with the images; differentiable in the field's parameters."""
    rays, masks = batch.rays, batch.masks
    jitter = torch.rand(rays.n_rays, generator=generator, device=generator.device)
    with torch.no_grad():
        sharpness = float(field.head.sharpness(fraction))
    samples = occupancy.march(rays, field.backend, sharpness, jitter)
    backdrop = backdrop_rgbs(background, rays.n_rays, masks is not None, generator)
    rendering, shading = render_samples(field, rays, samples, fraction, backdrop)

    losses: dict[str, Tensor] = {}
    targets, pixel_weights = batch.rgbs, batch.rgbs.new_ones(rays.n_rays)
    if masks is not None:
        targets = batch.rgbs + (1.0 - masks)[:, None] * backdrop
        losses["mask"] = config.mask * mask_loss(rendering.opacities, masks)
    losses["colour"] = config.colour * colour_loss(
        rendering.rgbs, targets, pixel_weights, config.colour_kind
    )
    if batch.depths is not None and config.depth:
        losses["depth"] = config.depth * depth_loss(
            rendering.depths, rendering.opacities, batch.depths
        )
    if config.distortion and not field.head.n_tangents:
        losses["distortion"] = config.distortion * distortion_loss(
            shading.weights, samples.middles, samples.lengths, samples.ray_indices, rays.n_rays
        )
    if config.smoothness:
        losses["smoothness"] = config.smoothness * temporal_roughness(field)
    if field.head.n_tangents:
        losses |= _surface_losses(
            field, occupancy, shading, samples.slices, config, fraction, generator
        )
        if masks is not None and config.hull:
            lost = ((masks > 0.5) & (rendering.opacities.detach() < 0.2)).nonzero()[:, 0]
            losses["silhouette"] = config.hull * _silhouette(field, occupancy, rays, lost, fraction)
    return StepResult(losses, samples.n_samples, rays.n_rays)


def backdrop_rgbs(
    background: Background, n_rays: int, has_masks: bool, generator: torch.Generator
) -> Tensor | float:
    """Returns what lies behind the subject: a grey level, or (R, 3) random colours.

    A random backdrop, in picture and target alike, never lets transparency pay.
    """
    if background == "random" or (background == "auto" and has_masks):
        return torch.rand((n_rays, 3), generator=generator, device=generator.device)
    return 1.0 if background == "white" else 0.0


def hull_step(
    field: Field,
    occupancy: Occupancy,
    frames: tuple[int, ...],
    config: LossConfig,
    n_points: int,
    generator: torch.Generator,
) -> StepResult:
    """Fits the signed distance to the hull's core before rendering begins.

    Without masks it is fitted to a ball.
    """
    positions, slices = _free_points(frames, n_points, generator)
    jets = field.query(positions, slices, 0.0, 3)
    if occupancy.has_masks:
        targets = occupancy.cached_distances(positions, slices)
    else:
        targets = (positions - 0.5).norm(dim=1) - 0.35
    # Near the surface a distance matters most.
    closeness = torch.exp(-10.0 * targets.abs())
    error = ((jets[:, 0, 0] - targets).abs() * closeness).sum() / closeness.sum().clamp(min=1e-6)
    losses = {"warmup": 10.0 * error, "eikonal": config.eikonal * eikonal_loss(jets[:, 1:, 0])}
    return StepResult(losses, positions.shape[0], 0)


def _surface_losses(
    field: Field,
    occupancy: Occupancy,
    shading: Shading,
    slices: FrameSlices,
    config: LossConfig,
    fraction: float,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Terms of a signed distance, on the rays' samples and on free points of the box."""
    gradients = shading.outputs.gradients
    losses = {"eikonal": config.eikonal * eikonal_loss(gradients)}
    if config.sparseness or (config.hull and occupancy.has_masks):
        points, at = _free_points(slices.frames, N_FREE_POINTS, generator)
        sdfs = field.query(points, at, fraction, 0)[:, 0, 0]
        losses["sparseness"] = config.sparseness * sparseness_loss(sdfs)
        if occupancy.has_masks:
            losses["hull"] = config.hull * hull_loss(sdfs, occupancy.hull_distances(points, at))
    if config.curvature:
        chosen = (shading.weights.detach() > 0.1).nonzero()[:, 0]
        at = FrameSlices(
            slices.frames,
            tuple(torch.searchsorted(chosen, on_device(slices.offsets, chosen.device)).tolist()),
        )
        shape, device = (chosen.shape[0], 3), generator.device
        shift = torch.randn(shape, generator=generator, device=device) * 0.01
        moved = field.query((shading.positions[chosen] + shift).clamp(0.0, 1.0), at, fraction, 3)
        losses["curvature"] = config.curvature * curvature_loss(gradients[chosen], moved[:, 1:, 0])
    return losses


def _silhouette(
    field: Field, occupancy: Occupancy, rays: Rays, lost: Tensor, fraction: float
) -> Tensor:
    """Pulls a surface into the path of foreground rays that see none, where the hull allows one."""
    bounds = on_device(rays.slices.offsets, lost.device)
    slices = FrameSlices(rays.slices.frames, tuple(torch.searchsorted(lost, bounds).tolist()))
    some = Rays(rays.origins[lost], rays.directions[lost], slices)
    samples = occupancy.march_hull(some, field.backend, 0.02)
    directions = some.directions[samples.ray_indices]
    positions = some.origins[samples.ray_indices] + samples.t_starts[:, None] * directions
    sdfs = field.query(positions.clamp(0.0, 1.0), samples.slices, fraction, 0)[:, 0, 0]
    return silhouette_loss(sdfs, samples.ray_indices, some.n_rays, rays.n_rays)


def _free_points(
    frames: tuple[float, ...], n_points: int, generator: torch.Generator
) -> tuple[Tensor, FrameSlices]:
    """Returns uniform points of the box, shared evenly among frames."""
    each = max(1, n_points // len(frames))
    shape = (each * len(frames), 3)
    positions = torch.rand(shape, generator=generator, device=generator.device)
    return positions, FrameSlices(frames, tuple(each * i for i in range(len(frames) + 1)))
