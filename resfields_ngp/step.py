"""One training step on one screen: rays -> samples -> rendering -> losses."""

from __future__ import annotations

import torch
from torch import Tensor

from .field import Field
from .losses import (
    LossConfig,
    colour_loss,
    depth_loss,
    eikonal_loss,
    mask_loss,
)
from .occupancy import Occupancy
from .records import Batch, StepResult
from .rendering import render_samples
from .resfield import temporal_roughness
from .schedules import Background
from .sharing import sharing
from .surface_losses import Place, density_losses, free_points, silhouette, surface_losses


@sharing()
def render_step(
    field: Field,
    occupancy: Occupancy,
    batch: Batch,
    config: LossConfig,
    fraction: float,
    generator: torch.Generator,
    background: Background = "auto",
    capacity: int | None = None,
) -> StepResult:
    """Renders a batch and compares it with the images; differentiable in the field's parameters.

    With a `capacity` for samples of each frame nothing depends on what the march finds but values:
    such a step can be recorded.
    """
    jitter = torch.rand(batch.rays.n_rays, generator=generator, device=generator.device)
    sharpness = field.sharpness(fraction)
    samples = occupancy.march(batch.rays, field.backend, sharpness, jitter, capacity)
    if samples.packing is not None and samples.packing.is_whole is not None:
        batch = batch.where(samples.packing.is_whole)
    rays, masks = batch.rays, batch.masks
    backdrop = backdrop_rgbs(background, rays.n_rays, masks is not None, generator)
    rendering, shading = render_samples(field, rays, samples, fraction, backdrop)

    losses: dict[str, Tensor] = {}
    targets = batch.rgbs
    if masks is not None:
        targets = batch.rgbs + (1.0 - masks)[:, None] * backdrop
        losses["mask"] = config.mask * mask_loss(rendering.opacities, masks, batch.weights)
    losses["colour"] = config.colour * colour_loss(
        rendering.rgbs, targets, batch.weights, config.colour_kind
    )
    if batch.depths is not None and config.depth:
        losses["depth"] = config.depth * depth_loss(
            rendering.depths, rendering.opacities, batch.depths
        )
    if config.smoothness:
        losses["smoothness"] = config.smoothness * temporal_roughness(field)
    place = Place(field, occupancy, fraction, generator)
    if field.head.n_tangents:
        losses |= surface_losses(place, shading, samples.slices, config)
        if masks is not None and config.hull:
            is_lost = (masks > 0.5) & (rendering.opacities.detach() < 0.2)
            losses["silhouette"] = config.hull * silhouette(place, rays, is_lost)
    else:
        losses |= density_losses(place, shading, samples, rays.n_rays, config)
    n_found = None if samples.packing is None else samples.packing.n_found
    return StepResult(losses, samples.n_samples, rays.n_rays, n_found)


def backdrop_rgbs(
    background: Background, n_rays: int, has_masks: bool, generator: torch.Generator
) -> Tensor | float:
    """Returns what lies behind the subject: a grey level, or (R, 3) random colours.

    A random backdrop, in picture and target alike, never lets transparency pay.
    """
    if background == "random" or (background == "auto" and has_masks):
        return torch.rand((n_rays, 3), generator=generator, device=generator.device)
    return 1.0 if background == "white" else 0.0


DENSITY_LEVELS = (-0.03, 0.08)
"""Levels of a density that warm-up asks for, at most: dense within the core, clear outside."""


def hull_step(
    field: Field,
    occupancy: Occupancy,
    frames: tuple[int, ...],
    config: LossConfig,
    n_points: int,
    generator: torch.Generator,
) -> StepResult:
    """Fits the signed distance, or the density, to the hull's core before rendering begins.

    Without masks it is fitted to a ball.
    """
    head = field.head
    positions, slices = free_points(frames, n_points, generator)
    found = field.outputs(positions, slices, 0.0, head.n_tangents)
    if occupancy.has_masks:
        targets = occupancy.cached_distances(positions, slices, field.backend)
    else:
        targets = (positions - 0.5).norm(dim=1) - 0.35
    # Near the surface a distance matters most.
    closeness = torch.exp(-10.0 * targets.abs())
    if not head.n_tangents:
        targets = targets.clamp(*DENSITY_LEVELS)
    gaps = (head.levels(found.values) - targets).abs()
    error = (gaps * closeness).sum() / closeness.sum().clamp(min=1e-6)
    losses = {"warmup": 10.0 * error}
    if head.n_tangents:
        losses["eikonal"] = config.eikonal * eikonal_loss(found.gradients)
    return StepResult(losses, positions.shape[0], 0)
