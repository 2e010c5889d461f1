from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from ball_scene import (
    RADIUS,
    BallField,
    ball_capture,
    ball_occupancy,
    ball_space,
    seeded,
    small_field,
)

from resfields_ngp import surface_losses
from resfields_ngp.backends import open_backend
from resfields_ngp.heads.base import Outputs
from resfields_ngp.losses import LossConfig
from resfields_ngp.occupancy import OccupancyConfig
from resfields_ngp.pixels import PixelSource
from resfields_ngp.records import Batch, FrameSlices
from resfields_ngp.rendering import Shading
from resfields_ngp.step import StepResult, backdrop_rgbs, hull_step, render_step
from resfields_ngp.surface_losses import Place

BACKENDS = [open_backend(name, "cpu") for name in ("reference", "cpu")]
CPU = BACKENDS[1]
CONFIG = OccupancyConfig(
    band=4.0, min_band=0.25, step=1.0, min_step=0.002, max_step=0.03, stretch=2.0, refresh_every=8
)
LOSSES = LossConfig(colour_kind="l1", mask=0.1, sparseness=0.1, area=0.01, curvature=0.1)
ALWAYS = {"colour", "mask", "eikonal"}


def ball_depths(batch: Batch) -> torch.Tensor:
    """Returns the exact distance along each ray to the ball, 0 where it misses."""
    middles = ((0.5 - batch.rays.origins) * batch.rays.directions).sum(1)
    closest = (batch.rays.origins - 0.5).cross(batch.rays.directions, dim=1).norm(dim=1)
    return torch.where(closest < RADIUS, middles - (RADIUS**2 - closest**2).abs().sqrt(), 0.0)


def some_batch(has_masks: bool = True, has_depths: bool = True) -> Batch:
    capture = ball_capture()
    batch = PixelSource(capture, ball_space(), capture.views).draw((2, 0), 96, 0.5, seeded())
    return replace(
        batch,
        masks=batch.masks if has_masks else None,
        depths=ball_depths(batch) if has_depths else None,
    )


def step(
    losses: LossConfig = LOSSES,
    head: str = "neus",
    has_masks: bool = True,
    has_depths: bool = True,
    backend=CPU,
    seed: int = 0,
) -> tuple[StepResult, dict[str, torch.Tensor]]:
    """Returns the result of one step and the gradients of its sum."""
    field = small_field(backend, head)
    for parameter in field.parameters():
        parameter.grad = torch.zeros_like(parameter)
    occupancy, batch = ball_occupancy(CONFIG, has_masks), some_batch(has_masks, has_depths)
    result = render_step(field, occupancy, batch, losses, 0.3, seeded(seed))
    torch.stack(list(result.losses.values())).sum().backward()
    return result, {name: p.grad for name, p in field.named_parameters() if p.grad is not None}


def test_every_term_takes_part_where_everything_is_there():
    result, gradients = step()
    others = {"hull", "silhouette", "depth", "sparseness", "area", "albedo", "curvature"}
    assert set(result.losses) == ALWAYS | others
    assert result.n_rays == 96 and result.n_samples > 96
    for name, value in result.losses.items():
        assert torch.isfinite(value) and (value >= 0 or name == "area"), name
    for name, gradient in gradients.items():
        assert torch.isfinite(gradient).all(), name


@pytest.mark.parametrize(
    ("setting", "gone"),
    [
        ("hull", {"hull", "silhouette"}),
        ("depth", {"depth"}),
        ("sparseness", {"sparseness"}),
        ("area", {"area"}),
        ("albedo", {"albedo"}),
        ("curvature", {"curvature"}),
        ("eikonal", {"eikonal"}),
        ("mask", {"mask"}),
        ("colour", {"colour"}),
    ],
)
def test_a_weight_of_zero_switches_its_term_off(setting: str, gone: set[str]):
    losses = step(replace(LOSSES, **{setting: 0.0}))[0].losses
    assert all(losses[name] == 0.0 for name in gone & set(losses))
    assert gone <= set(step()[0].losses)


@pytest.mark.parametrize(("name", "has_masks"), [("curvature", True), ("distortion", False)])
def test_a_weight_of_zero_switches_a_densitys_term_off(name: str, has_masks: bool):
    for weight in (0.1, 0.0):
        losses = step(replace(LOSSES, **{name: weight}), "nerf", has_masks)[0].losses
        assert (name in losses) == (weight > 0.0)


@pytest.mark.parametrize(
    ("background", "has_masks", "expected"),
    [
        ("auto", False, 0.0),
        ("black", True, 0.0),
        ("white", True, 1.0),
        ("white", False, 1.0),
    ],
)
def test_backdrops_are_black_or_white_where_asked(background, has_masks: bool, expected: float):
    assert backdrop_rgbs(background, 5, has_masks, seeded()) == expected


@pytest.mark.parametrize(("background", "has_masks"), [("auto", True), ("random", False)])
def test_random_backdrops_differ_from_ray_to_ray(background, has_masks: bool):
    found = backdrop_rgbs(background, 500, has_masks, seeded())
    assert found.shape == (500, 3) and found.std() == pytest.approx(12**-0.5, abs=0.02)


def test_an_empty_ray_costs_nothing_on_its_own_background_only():
    field, batch = small_field(CPU, "nerf"), some_batch(has_masks=False, has_depths=False)
    occupancy = ball_occupancy(CONFIG)
    occupancy.distances.fill_(1.0)  # nothing to sample: every ray shows the backdrop
    white = replace(batch, rgbs=torch.ones_like(batch.rgbs))
    losses = [
        render_step(field, occupancy, white, LOSSES, 0.3, seeded(), kind).losses["colour"]
        for kind in ("white", "black", "random")
    ]
    assert losses[0] == 0.0 and losses[1] == 1.0 and 0.3 < losses[2] < 0.7


def test_samples_on_the_surface_are_picked_evenly_and_without_a_warning():
    slices, weights = FrameSlices((0, 2), (0, 16, 40)), torch.full((40,), 0.5)
    weights[::2] = 0.05
    nowhere = torch.zeros(40, 3)
    shading = Shading(nowhere, Outputs(torch.zeros(40, 1), nowhere, nowhere), weights)
    place = Place(small_field(CPU, "neus"), ball_occupancy(CONFIG, True), 0.3, seeded())
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            chosen, at, _ = surface_losses._on_surface(place, shading, slices, 5)
    finally:
        torch.set_warn_always(False)
    assert chosen.tolist() == [1, 9, 17, 25, 33] and at == FrameSlices((0, 2), (0, 2, 5))


def test_smoothness_is_asked_of_coefficients_only_where_wanted():
    losses = step(replace(LOSSES, smoothness=0.5))[0].losses
    assert losses["smoothness"] > 0 and "smoothness" not in step()[0].losses


def test_terms_are_weighted():
    once, twice = (step(replace(LOSSES, eikonal=w))[0].losses["eikonal"] for w in (0.1, 0.2))
    assert torch.allclose(twice, 2.0 * once)


@pytest.mark.parametrize("has_depths", [False, True])
@pytest.mark.parametrize("has_masks", [False, True])
@pytest.mark.parametrize("head", ["neus", "nerf"])
def test_terms_need_what_they_compare_with(head: str, has_masks: bool, has_depths: bool):
    result, gradients = step(head=head, has_masks=has_masks, has_depths=has_depths)
    expected = {"colour"} | ({"mask"} if has_masks else set())
    expected |= {"depth"} if has_depths else set()
    expected |= {"curvature" if has_masks else "distortion"} if head == "nerf" else set()
    if head == "neus":
        expected |= {"eikonal", "sparseness", "area", "albedo", "curvature"}
        expected |= {"hull", "silhouette"} if has_masks else set()
    assert set(result.losses) == expected
    assert all(torch.isfinite(gradient).all() for gradient in gradients.values())


@pytest.mark.parametrize("has_masks", [False, True])
@pytest.mark.parametrize("head", ["neus", "nerf"])
def test_backends_take_the_same_first_step(head: str, has_masks: bool):
    one, other = (step(head=head, has_masks=has_masks, backend=backend) for backend in BACKENDS)
    assert one[0].n_samples == pytest.approx(other[0].n_samples, abs=2)
    for name, value in one[0].losses.items():
        assert torch.allclose(value, other[0].losses[name], rtol=1e-3, atol=1e-5), name
    for name, gradient in one[1].items():
        scale = max(float(gradient.abs().max()), 1e-4)
        assert torch.allclose(gradient, other[1][name], atol=0.01 * scale), name


def test_steps_are_seeded():
    one, same, other = (step(seed=seed)[0].losses for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["colour"], other["colour"])


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
def test_the_truth_costs_next_to_nothing(backend):
    field, occupancy = BallField(backend, sharpness=1000.0), ball_occupancy(CONFIG)
    capture = ball_capture()
    source = PixelSource(capture, ball_space(), capture.views)
    batch = source.draw((1, 2), 300, 0.5, seeded())
    batch = replace(batch, depths=ball_depths(batch))
    result = render_step(field, occupancy, batch, LOSSES, 1.0, seeded())  # pyright: ignore
    losses = {name: value.item() for name, value in result.losses.items()}
    # Pixels at the outline are neither in nor out; the hull's grid is interpolated.
    assert losses["mask"] < 0.1 * 0.1 and losses["depth"] < 0.1 * 0.01
    assert losses["eikonal"] < 1e-6 and losses["curvature"] < 0.1 * 0.01
    assert losses["hull"] < 0.003 and losses["silhouette"] < 1e-3


def test_a_ray_that_lost_the_subject_pulls_the_surface_back():
    field, occupancy, batch = small_field(CPU), ball_occupancy(CONFIG), some_batch()
    occupancy.distances.fill_(1.0)
    with torch.no_grad():
        field.trunk.weights.base.copy_(field.trunk.weights.base.abs())  # positive everywhere
    result = render_step(field, occupancy, batch, LOSSES, 0.3, seeded())
    assert result.n_samples == 0 and result.losses["silhouette"] > 0
    result.losses["silhouette"].backward()
    gradient = field.trunk.weights.base.grad
    assert gradient is not None and torch.isfinite(gradient).all() and gradient.any()


@pytest.mark.parametrize(("head", "has_masks"), [("neus", False), ("neus", True), ("nerf", True)])
def test_warming_up_fits_the_level_to_the_hulls(head: str, has_masks: bool):
    field, occupancy = small_field(CPU, head), ball_occupancy(CONFIG, has_masks)
    terms = {"warmup", "eikonal"} if head == "neus" else {"warmup"}
    optimiser = torch.optim.Adam(field.parameters(), 0.01)
    generator, errors = seeded(), []
    for _ in range(60):
        result = hull_step(field, occupancy, (0, 2), LOSSES, 200, generator)
        assert set(result.losses) == terms and result.n_samples == 200
        optimiser.zero_grad()
        sum(result.losses.values(), torch.zeros(())).backward()
        optimiser.step()
        errors.append(float(result.losses["warmup"].detach()))
    assert np.mean(errors[-5:]) < 0.3 * np.mean(errors[:5])
