from __future__ import annotations

import math

import pytest
import torch

from resfields_ngp.backends import open_backend
from resfields_ngp.heads import NerfConfig, NerfHead
from resfields_ngp.heads.base import Outputs
from resfields_ngp.records import FrameSlices
from resfields_ngp.resfield import ResFieldConfig

BACKEND = open_backend("reference", "cpu")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def nerf_head(view_degree: int = 2) -> NerfHead:
    config = NerfConfig(
        surface_density=50.0,
        view_degree=view_degree,
        n_geometry_features=4,
        n_neurons=16,
        n_hidden_layers=1,
    )
    return NerfHead(config, 3, ResFieldConfig(rank=2), seeded())


def some_jets(n: int = 12) -> torch.Tensor:
    return torch.randn(n, 1, 5, generator=seeded(1))


def outputs_of(jets: torch.Tensor) -> Outputs:
    """Returns what heads read, at random places."""
    return Outputs.of(jets, torch.rand(len(jets), 3, generator=seeded(7)))


def some_directions(n: int = 12) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(n, 3, generator=seeded(2)), dim=1)


def test_alphas_are_the_absorbed_part_of_the_light():
    jets, lengths = some_jets(), torch.rand(12, generator=seeded(3))
    densities = 10.0 * jets[:, 0, 0].exp()
    found = nerf_head().alphas(outputs_of(jets), some_directions(), lengths, 0.5)
    assert torch.allclose(found, 1.0 - torch.exp(-densities * lengths), atol=1e-6)


def test_two_halves_absorb_as_much_as_the_whole():
    jets, lengths = some_jets(), torch.rand(12, generator=seeded(3)) * 0.1
    whole = nerf_head().alphas(outputs_of(jets), some_directions(), lengths, 0.5)
    half = nerf_head().alphas(outputs_of(jets), some_directions(), lengths / 2, 0.5)
    assert torch.allclose((1.0 - half) ** 2, 1.0 - whole, atol=1e-6)


def test_alphas_and_gradients_are_finite_for_huge_outputs():
    jets = torch.tensor([-1e4, 0.0, 1e4]).view(3, 1, 1).expand(3, 1, 5).clone().requires_grad_()
    alphas = nerf_head().alphas(outputs_of(jets), some_directions(3), torch.ones(3), 0.5)
    alphas.sum().backward()
    assert torch.isfinite(alphas).all() and torch.isfinite(jets.grad).all()
    assert alphas[0] == 0.0 and alphas[2] == 1.0


def test_levels_are_negative_exactly_where_density_exceeds_the_surfaces():
    values, head = some_jets(200)[:, 0] * 3.0, nerf_head()
    levels = head.levels(values)
    assert torch.equal(levels < 0, head.densities(values) > 50.0)
    assert (levels < 0).any() and (levels > 0).any()
    order = head.densities(values).argsort()
    assert (levels[order].diff() <= 0).all()


@pytest.mark.parametrize("view_degree", [0, 2])
def test_colours_depend_on_the_view_only_where_asked(view_degree: int):
    head, slices = nerf_head(view_degree), FrameSlices((0, 2), (0, 5, 12))
    rgbs = head.rgbs(outputs_of(some_jets()), some_directions(), slices, 1.0, BACKEND)
    assert rgbs.shape == (12, 3) and (rgbs >= 0).all() and (rgbs <= 1).all()
    others = head.rgbs(outputs_of(some_jets()), -some_directions(), slices, 1.0, BACKEND)
    assert torch.equal(rgbs, others) == (view_degree == 0)


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"head\.surface_density is 0.0; allowed: above 0"):
        NerfConfig(surface_density=0.0)
    with pytest.raises(ValueError, match=r"head\.view_degree is -1; allowed: 0 to 4"):
        NerfConfig(view_degree=-1)


def test_the_surface_lies_where_the_density_crosses_the_threshold():
    head = nerf_head()
    radii = torch.linspace(0.0, 0.5, 501)
    values = torch.zeros(501, 5)
    values[:, 0] = 20.0 * (0.3 - radii)  # densities 10 exp(20 (0.3 - r))
    crossing = radii[head.levels(values) < 0].max()
    assert crossing == pytest.approx(0.3 - math.log(5.0) / 20.0, abs=2e-3)
