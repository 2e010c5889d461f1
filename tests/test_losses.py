from __future__ import annotations

import math

import pytest
import torch

from resfields_ngp.losses import (
    LossConfig,
    albedo_loss,
    area_loss,
    bending_loss,
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

EMPTY_3 = torch.zeros(0, 3)


def uniform(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_l1_colour_is_the_weighted_mean_difference():
    rgbs, targets = uniform(4, 3), uniform(4, 3, seed=1)
    weights = torch.tensor([1.0, 0.0, 1.0, 2.0])
    per_pixel = (rgbs - targets).abs().mean(1)
    expected = (per_pixel[0] + per_pixel[2] + 2 * per_pixel[3]) / 4
    assert torch.allclose(colour_loss(rgbs, targets, weights), expected)


def test_huber_colour_is_quadratic_within_a_tenth_and_has_slope_one_beyond():
    errors = torch.tensor([0.05, -0.1, 0.3])
    found = [
        colour_loss(error.expand(1, 3), EMPTY_3.new_zeros(1, 3), torch.ones(1), "huber")
        for error in errors
    ]
    assert torch.allclose(torch.stack(found), torch.tensor([0.05**2 / 0.2, 0.05, 0.25]))


def test_mask_loss_is_the_cross_entropy():
    opacities, masks = torch.tensor([0.2, 0.9, 0.5]), torch.tensor([0.0, 1.0, 1.0])
    expected = -(math.log(0.8) + math.log(0.9) + math.log(0.5)) / 3
    assert float(mask_loss(opacities, masks)) == pytest.approx(expected, rel=1e-5)


def test_pixels_that_do_not_count_teach_no_mask():
    opacities = torch.tensor([0.2, 0.9, 0.5], requires_grad=True)
    masks, weights = torch.tensor([0.0, 1.0, 0.0]), torch.tensor([1.0, 1.0, 0.0])
    found = torch.autograd.grad(mask_loss(opacities, masks, weights), opacities)[0]
    expected = torch.autograd.grad(mask_loss(opacities, masks), opacities)[0]
    assert torch.equal(found, expected * weights) and expected[2] != 0


@pytest.mark.parametrize("opacity", [0.0, 1.0])
def test_mask_loss_of_a_sure_error_is_bounded(opacity: float):
    loss = mask_loss(torch.tensor([opacity]), torch.tensor([1.0 - opacity]))
    assert float(loss) == pytest.approx(-math.log(1e-3), rel=1e-3)


def test_eikonal_is_the_squared_deviation_from_length_one():
    gradients = torch.tensor([[2.0, 0.0, 0.0], [0.0, 0.6, 0.8], [0.0, 0.0, 0.0]])
    assert torch.allclose(eikonal_loss(gradients), torch.tensor(2.0 / 3), atol=1e-5)


def test_hull_loss_counts_only_what_is_nearer_than_the_hull():
    loss = hull_loss(torch.tensor([0.1, 0.3, -0.2]), torch.tensor([0.2, 0.2, -0.5]))
    assert torch.allclose(loss, torch.tensor(0.1 / 3))


def test_depth_loss_counts_known_pixels_only():
    depths, opacities = torch.tensor([1.0, 2.0, 5.0]), torch.tensor([1.0, 0.5, 1.0])
    targets = torch.tensor([1.5, 4.0, 0.0])
    assert torch.allclose(depth_loss(depths, opacities, targets), torch.tensor(0.25))


def test_sparseness_is_one_on_the_surface_and_falls_off():
    distances = torch.tensor([0.0, 0.02, -0.02])
    expected = (1 + 2 * math.exp(-1.0)) / 3
    assert float(sparseness_loss(distances, 50.0)) == pytest.approx(expected)


def test_the_area_pulls_on_a_ball_by_two_over_its_radius():
    radius, reach = 0.3, 0.02
    corners = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]).double()
    points = torch.nn.functional.normalize(uniform(50, 3).double() - 0.5, dim=1)
    sdfs = torch.zeros(50, dtype=torch.float64, requires_grad=True)
    taps = radius * points[:, None] + corners * reach / 3**0.5
    around = (taps.norm(dim=2) - radius).mean(1)
    area_loss(sdfs, around, reach).backward()
    # Along a few directions the mean of four taps differs from the ball's own by a little.
    assert torch.allclose(sdfs.grad * 50, torch.full((50,), -2.0 / radius).double(), rtol=0.05)


def test_the_area_leaves_planes_and_hollows_alone_and_counts_by_weights():
    sdfs, around = torch.tensor([0.1, -0.2, 0.3]), torch.tensor([0.1, -0.3, 0.4])
    assert area_loss(sdfs[:2], around[:2], 0.1) == 0.0
    # Curvatures that the reach cannot resolve are cut off at 1 / reach.
    assert torch.allclose(area_loss(sdfs, around, 0.1), torch.tensor(-10.0 * 0.3 / 3))
    weights = torch.tensor([1.0, 0.0, 1.0])
    assert torch.allclose(area_loss(sdfs, around, 0.1, weights), torch.tensor(-10.0 * 0.3 / 2))


def test_curvature_is_one_less_the_cosine_whatever_the_lengths():
    gradients = torch.tensor([[1.0, 0.0, 0.0], [0.0, 3.0, 0.0]])
    neighbours = torch.tensor([[0.0, 2.0, 0.0], [0.0, 1.0, 0.0]])
    assert torch.allclose(curvature_loss(gradients, neighbours), torch.tensor(0.5))


def test_bending_is_zero_for_planes_and_the_second_derivative_for_parabolas():
    points, shift = uniform(40, 3), uniform(40, 3) * 0.1
    both = (points + shift, points - shift)
    slope = torch.tensor([0.3, -2.0, 0.7])
    assert bending_loss(points @ slope, *(each @ slope for each in both), 0.1) < 1e-5
    squares, *sides = (each.square().sum(1) for each in (points, *both))
    expected = 2.0 * shift.square().sum(1) / 0.1
    assert torch.allclose(bending_loss(squares, *sides, 0.1), expected.mean())
    weights = torch.cat([torch.ones(10), torch.zeros(30)])
    assert torch.allclose(bending_loss(squares, *sides, 0.1, weights), expected[:10].mean())
    assert bending_loss(*torch.zeros(3, 0), 0.1) == 0.0


def test_silhouette_pulls_the_lowest_distance_of_each_ray_that_misses():
    sdfs = torch.tensor([0.5, 0.2, -0.1, 0.3, 0.4]).requires_grad_()
    rays = torch.tensor([0, 0, 1, 1, 3])  # ray 2 has no samples
    loss = silhouette_loss(sdfs, rays, 4, 10)
    assert torch.allclose(loss, torch.tensor(0.06))
    loss.backward()
    assert torch.allclose(sdfs.grad, torch.tensor([0.0, 0.1, 0.0, 0.0, 0.1]))


def test_losses_vanish_at_the_truth():
    rgbs, normals = uniform(4, 3), torch.nn.functional.normalize(uniform(4, 3), dim=1)
    depths = uniform(4)
    for kind in ("l1", "huber"):
        assert colour_loss(rgbs, rgbs, torch.ones(4), kind) == 0.0
    # The clamp leaves a thousandth of doubt.
    assert mask_loss(torch.tensor([0.0, 1.0]), torch.tensor([0.0, 1.0])) < 1.1e-3
    assert eikonal_loss(normals) < 1e-12
    assert hull_loss(depths, depths) == 0.0
    assert depth_loss(depths, torch.ones(4), depths) == 0.0
    assert curvature_loss(normals, normals) < 1e-6
    assert albedo_loss(rgbs, rgbs) == 0.0
    assert silhouette_loss(-depths, torch.tensor([0, 0, 1, 1]), 2, 2) == 0.0


def test_albedo_loss_is_the_mean_change_of_brightness_by_weights():
    ones, brighter = torch.ones(2, 3), torch.tensor([[1.1] * 3, [1.3] * 3])
    # The hue moves by what keeps it steady near black alone.
    assert torch.allclose(albedo_loss(ones, brighter), torch.tensor(0.2), rtol=0.2)
    second = albedo_loss(ones, brighter, torch.tensor([0.0, 1.0]))
    brighter[0] += 1.0
    assert albedo_loss(ones, brighter, torch.tensor([0.0, 1.0])) == second


def test_albedo_loss_leaves_edges_between_hues_alone():
    white, orange = torch.full((1, 3), 0.9), torch.tensor([[0.9, 0.5, 0.1]])
    albedos = orange.clone().requires_grad_()
    albedo_loss(albedos, white).backward()
    assert albedos.grad.abs().max() < 1e-3
    albedos.grad = None
    albedo_loss(albedos, 0.8 * orange).backward()
    assert albedos.grad.min() > 0.1


CASES = {
    "l1": lambda v: colour_loss(v, torch.zeros_like(v), torch.ones(v.shape[0])),
    "huber": lambda v: colour_loss(v, torch.zeros_like(v), torch.ones(v.shape[0]), "huber"),
    "mask": lambda v: mask_loss(v[:, 0], torch.ones(v.shape[0])),
    "eikonal": eikonal_loss,
    "hull": lambda v: hull_loss(v[:, 0], torch.ones(v.shape[0])),
    "depth": lambda v: depth_loss(v[:, 0], v[:, 1], v[:, 2].detach()),
    "sparseness": lambda v: sparseness_loss(v[:, 0]),
    "area": lambda v: area_loss(v[:, 0], v[:, 0], 0.1),
    "albedo": lambda v: albedo_loss(v, v.flip(1)),
    "curvature": lambda v: curvature_loss(v, v.flip(1)),
    "bending": lambda v: bending_loss(v[:, 0], v[:, 1], v[:, 2], 0.01),
    "silhouette": lambda v: silhouette_loss(v[:, 0], torch.arange(v.shape[0]), v.shape[0] + 1, 5),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("value", [None, 0.0, 1.0, 1e4])
def test_losses_and_gradients_are_finite(name: str, value: float | None):
    values = uniform(6, 3) if value is None else torch.full((6, 3), value)
    values.requires_grad_()
    loss = CASES[name](values)
    loss.backward()
    assert torch.isfinite(loss) and loss >= 0 and torch.isfinite(values.grad).all()


@pytest.mark.parametrize("name", CASES)
def test_losses_of_nothing_are_zero(name: str):
    assert CASES[name](EMPTY_3) == 0.0


@pytest.mark.parametrize("name", CASES)
def test_losses_do_not_hide_nan(name: str):
    values = uniform(6, 3)
    values[2] = math.nan
    if name == "depth":
        assert torch.isnan(depth_loss(values[:, 0], values[:, 1], torch.ones(6)))
    else:
        assert torch.isnan(CASES[name](values))


def test_weights_below_zero_and_unknown_kinds_are_refused():
    with pytest.raises(ValueError, match=r"losses\.eikonal is -1"):
        LossConfig(eikonal=-1.0)
    with pytest.raises(ValueError, match=r"losses\.colour_kind is 'l2'; allowed: l1, huber"):
        LossConfig(colour_kind="l2")  # pyright: ignore[reportArgumentType]


def test_distortion_is_the_double_sum_over_each_rays_samples():
    ray_indices = torch.tensor([0, 0, 0, 2, 2])
    middles = torch.tensor([0.1, 0.4, 0.5, 0.2, 0.9])
    weights = uniform(5).requires_grad_()
    lengths = 0.1 * uniform(5, seed=1)
    expected = (weights**2 * lengths).sum() / 3.0
    for i in range(5):
        for j in range(5):
            if ray_indices[i] == ray_indices[j]:
                expected = expected + weights[i] * weights[j] * (middles[i] - middles[j]).abs()
    found = distortion_loss(weights, middles, lengths, ray_indices, 4)
    assert torch.allclose(found, expected / 4, atol=1e-6)
    (own,) = torch.autograd.grad(found, weights)
    (other,) = torch.autograd.grad(expected / 4, weights)
    assert torch.allclose(own, other, atol=1e-6)


def test_distortion_of_nothing_and_of_one_thin_sample_is_nothing():
    nothing = torch.zeros(0)
    assert distortion_loss(nothing, nothing, nothing, nothing.long(), 3) == 0.0
    one = torch.ones(1)
    assert distortion_loss(one, one, 0.0 * one, torch.zeros(1).long(), 1) == 0.0
