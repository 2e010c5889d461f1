from __future__ import annotations

import pytest
import torch
from ball_scene import RADIUS, SHARP, BallField, ball_occupancy, seeded, small_field

from resfields_ngp.backends import open_backend
from resfields_ngp.occupancy import Occupancy, OccupancyConfig
from resfields_ngp.records import FrameSlices, Rays
from resfields_ngp.rendering import render, render_samples

BACKENDS = [open_backend(name, "cpu") for name in ("reference", "cpu")]
each_backend = pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
CONFIG = OccupancyConfig(
    band=5.0, min_band=0.5, step=0.5, min_step=0.001, max_step=0.02, stretch=2.0, refresh_every=8
)
N_RAYS = 50


def occupancy() -> Occupancy:
    return ball_occupancy(CONFIG)


def rays(n_rays: int = N_RAYS) -> Rays:
    origins = 0.5 + 2.0 * torch.nn.functional.normalize(
        torch.randn(n_rays, 3, generator=seeded()), dim=1
    )
    targets = 0.1 + 0.8 * torch.rand(n_rays, 3, generator=seeded(1))
    directions = torch.nn.functional.normalize(targets - origins, dim=1)
    return Rays(origins, directions, FrameSlices((2, 1, 0), (0, n_rays // 3, n_rays // 3, n_rays)))


def closest_approach(bundle: Rays) -> torch.Tensor:
    """Returns (R,) the distance of each ray from the ball's centre."""
    return (bundle.origins - 0.5).cross(bundle.directions, dim=1).norm(dim=1)


@each_backend
def test_a_ball_renders_its_silhouette_depth_and_normals(backend):
    bundle = rays()
    rendering = render(BallField(backend, 2000.0), occupancy(), bundle)  # pyright: ignore
    closest = closest_approach(bundle)
    hits, misses = closest < 0.95 * RADIUS, closest > 1.05 * RADIUS
    assert hits.sum() > 10 and misses.sum() > 5
    assert (rendering.opacities[hits] > 0.99).all()
    assert (rendering.opacities[misses] < 0.01).all()
    middle = ((0.5 - bundle.origins) * bundle.directions).sum(1)
    depths = middle - (RADIUS**2 - closest**2).clamp(min=0.0).sqrt()
    # Sharpness 2000 spreads the surface over some thousandths.
    assert torch.allclose(rendering.depths[hits], depths[hits], atol=0.01)
    points = bundle.origins + depths[:, None] * bundle.directions
    normals = torch.nn.functional.normalize(points - 0.5, dim=1)
    assert ((rendering.normals * normals).sum(1)[hits] > 0.98).all()


@each_backend
def test_weights_sum_to_opacity_and_weigh_depth(backend):
    bundle = rays()
    samples = occupancy().march(bundle, backend, SHARP, None)
    field = BallField(backend)
    rendering, shading = render_samples(field, bundle, samples, 1.0, 0.0)  # pyright: ignore
    sums = torch.zeros(N_RAYS).index_add(0, samples.ray_indices, shading.weights.detach())
    assert torch.allclose(rendering.opacities, sums, atol=1e-5)
    assert (shading.weights >= 0).all() and (sums < 1.0 + 1e-5).all()
    middles = 0.5 * (samples.t_starts + samples.t_ends)
    depths = torch.zeros(N_RAYS).index_add(
        0, samples.ray_indices, shading.weights.detach() * middles
    )
    assert torch.allclose(rendering.depths, depths, atol=1e-4)


@each_backend
def test_what_is_not_opaque_shows_the_background(backend):
    bundle, field = rays(), BallField(backend)
    black, grey = (render(field, occupancy(), bundle, level) for level in (0.0, 0.6))  # pyright: ignore
    expected = black.rgbs + 0.6 * (1.0 - black.opacities)[:, None]
    assert torch.allclose(grey.rgbs, expected, atol=1e-6)
    samples = occupancy().march(bundle, backend, SHARP, None)
    colours = torch.rand(N_RAYS, 3, generator=seeded(5))
    found, _ = render_samples(field, bundle, samples, 1.0, colours)  # pyright: ignore
    expected = black.rgbs + colours * (1.0 - black.opacities)[:, None]
    assert torch.allclose(found.rgbs, expected, atol=1e-6)


@each_backend
def test_chunks_do_not_change_the_picture(backend, monkeypatch):
    field, bundle = BallField(backend), rays()
    whole = render(field, occupancy(), bundle, 0.2)  # pyright: ignore[reportArgumentType]
    monkeypatch.setattr("resfields_ngp.rendering.CHUNK_RAYS", 7)
    parts = render(field, occupancy(), bundle, 0.2)  # pyright: ignore[reportArgumentType]
    for name in ("rgbs", "opacities", "depths", "normals"):
        assert torch.allclose(getattr(whole, name), getattr(parts, name), atol=1e-6), name


@each_backend
def test_no_rays_and_rays_that_miss_the_box_are_rendered(backend):
    field = BallField(backend)
    nothing = render(field, occupancy(), rays(0))  # pyright: ignore[reportArgumentType]
    assert nothing.rgbs.shape == nothing.normals.shape == (0, 3)
    bundle = rays()
    away = Rays(bundle.origins, -bundle.directions, bundle.slices)
    rendering = render(field, occupancy(), away, 0.3)  # pyright: ignore[reportArgumentType]
    assert (rendering.rgbs == 0.3).all() and not rendering.opacities.any()


@pytest.mark.parametrize("head", ["neus", "nerf"])
def test_backends_render_the_same_picture(head: str):
    pictures = []
    for backend in BACKENDS:
        field = small_field(backend, head)
        field.trained.fill_(1.0)
        pictures.append(render(field, occupancy(), rays(), 0.2))
    for name in ("rgbs", "opacities", "depths"):
        one, other = (getattr(picture, name) for picture in pictures)
        assert torch.allclose(one, other, atol=1e-4), name


@each_backend
def test_gradients_of_a_rendering_are_finite(backend):
    field, bundle = small_field(backend), rays()
    samples = occupancy().march(bundle, backend, 30.0, None)
    rendering, _ = render_samples(field, bundle, samples, 0.5, 0.0)
    (rendering.rgbs.sum() + rendering.depths.sum() + rendering.normals.sum()).backward()
    for name, parameter in field.named_parameters():
        assert torch.isfinite(parameter.grad).all() and parameter.grad.any(), name


def test_rendered_normals_of_a_density_point_outwards():
    field = small_field(BACKENDS[1], "nerf")
    field.trained.fill_(1.0)
    with torch.no_grad():
        # A density that grows with x: what is seen faces towards smaller x.
        field.encoder.table.zero_()
        for parameter in field.trunk.parameters():
            parameter.zero_()
        spec, weights = field.trunk.spec, field.trunk.weights.base
        weights[field.encoder.n_features] = 1.0  # first hidden unit sees 2 x - 1
        weights[spec.offsets[-2]] = 5.0
    rendering = render(field, occupancy(), rays())
    seen = rendering.opacities > 0.3
    normals = torch.nn.functional.normalize(rendering.normals[seen], dim=1)
    assert seen.any() and torch.allclose(normals[:, 0], torch.tensor(-1.0), atol=1e-4)
