from __future__ import annotations

import math

import pytest
import torch

from resfields_ngp.backends import open_backend
from resfields_ngp.encoders import Frequency, FrequencyConfig
from resfields_ngp.records import FrameSlices

BACKEND = open_backend("reference", "cpu")


def encode(points: torch.Tensor, n_tangents: int = 3, released: float = 1.0) -> torch.Tensor:
    config = FrequencyConfig(n_frequencies=5, start_frequencies=2)
    encoder = Frequency(config, 3, torch.Generator().manual_seed(0))
    return encoder(points, FrameSlices.single(0, len(points)), BACKEND, n_tangents, released)


def test_features_are_sines_and_cosines_at_octaves():
    found = encode(torch.tensor([[0.1, 0.2, 0.3]]), 0)[0, 0].view(5, 2, 3)
    for octave in range(5):
        for axis, x in enumerate((0.1, 0.2, 0.3)):
            angle = 2**octave * math.pi * x
            assert found[octave, :, axis].tolist() == pytest.approx(
                [math.sin(angle), math.cos(angle)], abs=1e-5
            )


@pytest.mark.parametrize("released", [0.0, 0.4, 1.0])
def test_tangents_are_the_jacobian(released: float):
    points = torch.rand(6, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    jets = encode(points, 3, released)
    for feature in range(jets.shape[2]):
        (gradients,) = torch.autograd.grad(jets[:, 0, feature].sum(), points, retain_graph=True)
        assert torch.allclose(jets[:, 1:, feature], gradients, atol=1e-4)


def test_octaves_fade_in_one_after_the_other():
    points = torch.rand(6, 3, generator=torch.Generator().manual_seed(0))
    full = encode(points, 0).view(6, 5, 6)
    for released, weights in ((0.0, [1, 1, 0, 0, 0]), (0.5, [1, 1, 1, 0.5, 0])):
        found = encode(points, 0, released).view(6, 5, 6)
        assert torch.allclose(found, full * torch.tensor(weights).view(1, 5, 1))


def test_a_number_of_octaves_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"encoder\.n_frequencies is 0; allowed: 1 to 16"):
        FrequencyConfig(n_frequencies=0)
