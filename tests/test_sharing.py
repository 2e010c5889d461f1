"""What a step shares is made once, and learns from all of its uses."""

from __future__ import annotations

from unittest import mock

import torch
from ball_scene import ball_capture, ball_occupancy, ball_space, seeded, small_field

from resfields_ngp.backends import open_backend
from resfields_ngp.losses import LossConfig
from resfields_ngp.occupancy import OccupancyConfig
from resfields_ngp.pixels import PixelSource
from resfields_ngp.resfield import ResidualWeights, TimeCoefficients
from resfields_ngp.sharing import shared, sharing
from resfields_ngp.step import render_step

BACKEND = open_backend("reference", "cpu")


def test_outside_everything_is_made_anew():
    makes = mock.Mock(side_effect=lambda: torch.zeros(1))
    assert shared(makes, 1, makes) is not shared(makes, 1, makes)


def test_within_each_is_made_once_for_its_owner_key_and_gradients():
    owner, other = object(), object()

    def made(owner: object, key: object) -> torch.Tensor:
        return shared(owner, key, lambda: torch.zeros(1))

    with sharing():
        first = made(owner, (0, 1))
        assert made(owner, (0, 1)) is first
        assert made(owner, (1, 0)) is not first and made(other, (0, 1)) is not first
        with torch.no_grad():
            assert made(owner, (0, 1)) is first
            without = made(owner, (2,))
        assert made(owner, (2,)) is not without  # which has no gradient
        with sharing():
            assert made(owner, (0, 1)) is not first
        assert made(owner, (0, 1)) is first
    with sharing():
        assert made(owner, (0, 1)) is not first


def stepped(function) -> tuple[dict[str, torch.Tensor], int, int]:
    """Returns the gradients of a step, and how often weights and coefficients were composed."""
    field, capture = small_field(BACKEND), ball_capture()
    batch = PixelSource(capture, ball_space(), capture.views).draw((2, 0), 96, 0.5, seeded())
    losses = LossConfig(area=0.01, curvature=0.1)
    forward, rows = ResidualWeights.forward, TimeCoefficients.forward
    with (
        mock.patch.object(ResidualWeights, "forward", autospec=True, side_effect=forward) as one,
        mock.patch.object(TimeCoefficients, "forward", autospec=True, side_effect=rows) as two,
    ):
        result = function(field, ball_occupancy(OccupancyConfig()), batch, losses, 0.3, seeded())
    result.total.backward()
    found = {name: p.grad for name, p in field.named_parameters() if p.grad is not None}
    return found, one.call_count, two.call_count


def test_a_step_composes_weights_once_and_learns_the_same():
    gradients, n_weights, n_rows = stepped(render_step)
    expected, more_weights, more_rows = stepped(render_step.__wrapped__)
    assert (n_weights, n_rows) == (2, 3)  # two networks; their coefficients and the grid's
    assert more_weights > 2 * n_weights and more_rows > 2 * n_rows
    assert gradients.keys() == expected.keys() and len(expected) > 5
    for name, gradient in expected.items():
        assert torch.allclose(gradients[name], gradient, rtol=1e-4, atol=1e-7), name
