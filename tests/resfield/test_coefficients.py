from __future__ import annotations

import pytest
import torch

from resfields_ngp.config_tree import ConfigError
from resfields_ngp.resfield import (
    AttentionCoefficients,
    ResFieldConfig,
    TimeCoefficients,
    dct_basis,
    knot_weights,
    segment_weights,
    smooth_rows,
    temporal_roughness,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


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


@pytest.mark.parametrize(("n_frames", "n_rows"), [(2, 1), (12, 3), (40, 10), (7, 6)])
def test_smooth_rows_are_uncorrelated_and_change_no_faster_than_their_cosines(n_frames, n_rows):
    rows = smooth_rows(n_frames, [n_rows] * 3, n_rows, seeded())
    assert rows.shape == (n_frames, 3, n_rows)
    assert torch.allclose(rows.mean(0), torch.zeros(3, n_rows), atol=1e-5)
    for each in rows.unbind(1):
        assert torch.allclose(each.T @ each, n_frames * torch.eye(n_rows), atol=1e-4)
    if n_rows > 1:
        assert not torch.allclose(rows[:, 0], rows[:, 1], atol=0.1)  # a rotation of its own
    # A cosine is an eigenvector of the differences between neighbours: 4 sin^2(pi k / 2F).
    change = (rows[1:] - rows[:-1]).square().sum(dim=(0, 2)) / n_frames
    orders = torch.arange(1, n_rows + 1)
    expected = (4 * (torch.pi * orders / (2 * n_frames)).sin().square()).sum()
    assert torch.allclose(change, expected.expand(3), rtol=1e-4)


def test_smooth_rows_take_from_as_many_cosines_as_they_are_given() -> None:
    waves = [4, 9, 29]
    rows = smooth_rows(30, waves, 4, seeded())
    for count, each in zip(waves, rows.unbind(1), strict=True):
        assert torch.allclose(each.T @ each, 30 * torch.eye(4), atol=1e-4)
        parts = dct_basis(30, 29).T @ each  # of each cosine
        assert parts[count - 1].norm() > 0.1
        assert torch.allclose(parts[count:], torch.zeros(29 - count, 4), atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"rank": -1}, "rank"),
        ({"n_knots": 1}, "n_knots"),
        ({"n_knots": -2}, "n_knots"),
        ({"coefficients": "spline"}, "coefficients"),
        ({"factorisation": "svd"}, "factorisation"),
        ({"fusion": "divide"}, "fusion"),
        ({"factorisation": "resnet", "fusion": "multiply"}, "fusion"),
        ({"coefficient_rate": 0.0}, "coefficient_rate"),
        ({"coefficient_decay": -1.0}, "coefficient_decay"),
        ({"factorisation": "loe", "coefficients": "interpolation"}, "coefficients"),
    ],
)
def test_settings_out_of_range_name_the_setting(settings: dict, name: str):
    with pytest.raises(ValueError, match=rf"residual\.{name} is .*allow"):
        ResFieldConfig(**settings)


def test_more_knots_than_frames_are_refused():
    config = ResFieldConfig(coefficients="interpolation", n_knots=6)
    expected = r"residual\.n_knots is 6; allowed: 1 to the number of frames, 5"
    with pytest.raises(ConfigError, match=expected):
        TimeCoefficients(5, (3,), config)


@pytest.mark.parametrize(("n_frames", "n_segments"), [(4, 2), (7, 3), (12, 12), (5, 1)])
def test_segments_are_as_equal_as_can_be_and_in_order(n_frames: int, n_segments: int):
    weights = segment_weights(n_frames, n_segments)
    assert torch.equal(weights.sum(1), torch.ones(n_frames))
    assert (weights.argmax(1).diff() >= 0).all()
    assert weights.sum(0).max() - weights.sum(0).min() <= 1.0 and weights.sum(0).min() >= 1.0


def test_attention_averages_over_time_and_a_strong_key_attends_to_itself():
    module = AttentionCoefficients(5, (3,), ResFieldConfig())
    module.knots.data.normal_(generator=seeded())
    even = module((0, 3))
    assert torch.allclose(even, module.knots.mean(0).expand(2, -1), atol=1e-6)
    module.keys.data.copy_(torch.cat([torch.eye(3), -torch.eye(3)])[:5] * 20.0)
    assert torch.allclose(module((0, 3)), module.knots[[0, 3]], atol=1e-6)


def test_roughness_is_the_mean_squared_change_from_frame_to_frame():
    module = torch.nn.ModuleList(
        [TimeCoefficients(4, (2,), ResFieldConfig()), TimeCoefficients(1, (2,), ResFieldConfig())]
    )
    module[0].knots.data.copy_(torch.tensor([[0.0, 1.0], [1.0, 1.0], [1.0, 3.0], [1.0, 3.0]]))
    found = temporal_roughness(module)
    assert found.item() == pytest.approx((1.0 + 4.0) / 6.0)
    found.backward()
    assert module[0].knots.grad is not None and module[0].knots.grad.any()


def test_coefficients_that_stand_still_are_smooth():
    module = TimeCoefficients(4, (2,), ResFieldConfig())
    module.knots.data.fill_(0.7)
    assert temporal_roughness(module).item() == 0.0
