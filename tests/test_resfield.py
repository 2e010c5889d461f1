from __future__ import annotations

import pytest
import torch

from resfields_ngp.resfield import ResFieldConfig, ResidualWeights, TimeCoefficients, knot_weights

N_FRAMES, N_WEIGHTS = 5, 12


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def residual_weights(is_residual: torch.Tensor | None = None, **settings) -> ResidualWeights:
    config = ResFieldConfig(**({"rank": 3, "deviation": 0.5} | settings))
    chosen = torch.ones(N_WEIGHTS, dtype=torch.bool) if is_residual is None else is_residual
    initial = torch.randn(N_WEIGHTS, generator=seeded(1))
    return ResidualWeights(initial, chosen, N_FRAMES, config, seeded())


def test_weights_are_equation_4():
    module = residual_weights()
    frames = (3, 0, 4)
    expected = torch.stack(
        [
            module.base
            + sum(module.coefficients.knots[frame, r] * module.spanning[r] for r in range(3))
            for frame in frames
        ]
    )
    assert torch.allclose(module(frames), expected, atol=1e-6)


def test_zero_coefficients_equal_the_static_vector():
    module = residual_weights()
    module.coefficients.knots.data.zero_()
    assert torch.equal(module((1, 4)), module.base.expand(2, -1))


@pytest.mark.parametrize(("rank", "n_frames"), [(0, 5), (3, 1)])
def test_without_residuals_the_vector_is_static(rank: int, n_frames: int):
    initial = torch.randn(N_WEIGHTS, generator=seeded(1))
    chosen = torch.ones(N_WEIGHTS, dtype=torch.bool)
    module = ResidualWeights(initial, chosen, n_frames, ResFieldConfig(rank=rank), seeded())
    assert [name for name, _ in module.named_parameters()] == ["base"]
    assert torch.equal(module((0, 0)), initial.expand(2, -1))


def test_weights_not_chosen_never_change_over_time():
    chosen = torch.arange(N_WEIGHTS) % 3 == 0
    module = residual_weights(chosen)
    weights = module(tuple(range(N_FRAMES)))
    assert torch.equal(weights[:, ~chosen], module.base[~chosen].expand(N_FRAMES, -1))
    assert (weights[:, chosen].std(0) > 0).all()
    weights.square().sum().backward()
    assert not module.spanning.grad[:, ~chosen].any()


def test_a_frame_has_gradients_by_its_own_row_only():
    module = residual_weights()
    module((2,)).sum().backward()
    touched = module.coefficients.knots.grad.abs().sum(1) > 0
    assert touched.tolist() == [False, False, True, False, False]


def test_rank_is_at_most_the_number_of_frames():
    assert residual_weights(rank=64).rank == N_FRAMES


@pytest.mark.parametrize("n_frames", [2, 7, 50, 93])
def test_lookup_is_the_identity_to_the_last_bit(n_frames: int):
    assert torch.equal(knot_weights(n_frames, n_frames), torch.eye(n_frames))


@pytest.mark.parametrize(("n_frames", "n_knots"), [(9, 2), (9, 4), (50, 8), (13, 5)])
def test_interpolation_is_linear_between_knots_and_exact_at_them(n_frames: int, n_knots: int):
    weights = knot_weights(n_frames, n_knots)
    # A function that is linear in time is reproduced, and nobody takes from more than two knots.
    knot_times = torch.linspace(0, 1, n_knots)
    assert torch.allclose(weights @ knot_times, torch.linspace(0, 1, n_frames), atol=1e-6)
    assert torch.allclose(weights.sum(1), torch.ones(n_frames))
    assert ((weights > 0).sum(1) <= 2).all() and (weights >= 0).all()
    for frame in range(n_frames):
        if frame * (n_knots - 1) % (n_frames - 1) == 0:
            assert weights[frame, frame * (n_knots - 1) // (n_frames - 1)] == 1.0


@pytest.mark.parametrize(("n_frames", "expected"), [(1, 1), (2, 2), (3, 2), (9, 5)])
def test_interpolation_takes_half_the_frames_but_never_stands_still(n_frames: int, expected: int):
    config = ResFieldConfig(coefficients="interpolation")
    assert TimeCoefficients(n_frames, (3,), config).knots.shape == (expected, 3)


def test_interpolated_coefficients_meet_halfway():
    config = ResFieldConfig(coefficients="interpolation", n_knots=3)
    module = TimeCoefficients(5, (2,), config)
    module.knots.data.normal_(generator=seeded())
    found = module((0, 1, 2, 4))
    assert torch.equal(found[[0, 2, 3]], module.knots)
    assert torch.allclose(found[1], module.knots[:2].mean(0))


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"rank": -1}, "rank"),
        ({"n_knots": 1}, "n_knots"),
        ({"n_knots": -2}, "n_knots"),
        ({"coefficients": "spline"}, "coefficients"),
    ],
)
def test_settings_out_of_range_name_the_setting(settings: dict, name: str):
    with pytest.raises(ValueError, match=rf"residual\.{name} is .*; allowed"):
        ResFieldConfig(**settings)


def test_more_knots_than_frames_are_refused():
    with pytest.raises(ValueError, match="n_knots is 6; allowed: 1 to the number of frames, 5"):
        residual_weights(coefficients="interpolation", n_knots=6)
