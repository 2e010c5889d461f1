from __future__ import annotations

import math

import pytest
import torch

from resfields_ngp.backends import open_backend
from resfields_ngp.encoders import spherical_harmonics
from resfields_ngp.heads import NeusConfig, NeusHead
from resfields_ngp.heads.base import Outputs, unit
from resfields_ngp.heads.neus import laplace_alphas, logistic_alphas
from resfields_ngp.records import FrameSlices
from resfields_ngp.resfield import ResFieldConfig

BACKEND = open_backend("reference", "cpu")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def neus_head(**settings) -> NeusHead:
    chosen = {"sharpness_start": 20.0, "sharpness_end": 500.0, "cosine_anneal": 0.2} | settings
    config = NeusConfig(n_geometry_features=4, n_neurons=16, n_hidden_layers=1, **chosen)
    return NeusHead(config, 3, ResFieldConfig(rank=2), seeded())


def some_jets(n: int = 12) -> torch.Tensor:
    return torch.randn(n, 4, 5, generator=seeded(1))


def outputs_of(jets: torch.Tensor) -> Outputs:
    """Returns what heads read, at random places."""
    return Outputs.of(jets, torch.rand(len(jets), 3, generator=seeded(7)))


def some_directions(n: int = 12) -> torch.Tensor:
    return unit(torch.randn(n, 3, generator=seeded(2)))


def intervals(n: int, uneven: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns middles and lengths of n intervals that fill [0, 1], float64."""
    cuts = torch.rand(n - 1, generator=seeded(), dtype=torch.float64).sort().values
    if not uneven:
        cuts = torch.arange(1, n, dtype=torch.float64) / n
    bounds = torch.cat([torch.zeros(1), cuts, torch.ones(1)])
    return 0.5 * (bounds[1:] + bounds[:-1]), bounds.diff()


@pytest.mark.parametrize("cosine", [-1.0, -0.3])
@pytest.mark.parametrize("sharpness", [5.0, 80.0])
@pytest.mark.parametrize("n", [1, 7, 60])
def test_logistic_alphas_match_closed_form_for_a_plane(n: int, sharpness: float, cosine: float):
    middles, lengths = intervals(n)
    plane = 0.1
    sdfs = plane + cosine * middles
    alphas = logistic_alphas(sdfs, torch.full_like(sdfs, cosine), lengths, sharpness)
    # 1 - alpha is a ratio of Phi at an interval's ends: the product over a ray telescopes.
    start = 1.0 / (1.0 + math.exp(-sharpness * plane))
    end = 1.0 / (1.0 + math.exp(-sharpness * (plane + cosine)))
    assert float((1.0 - alphas).prod()) == pytest.approx(end / start, rel=1e-9)


def test_logistic_alphas_are_zero_where_the_ray_leaves_or_grazes():
    sdfs, lengths = torch.linspace(-1, 1, 9), torch.full((9,), 0.1)
    assert not logistic_alphas(sdfs, torch.zeros(9), lengths, 100.0).any()


@pytest.mark.parametrize("sharpness", [5.0, 80.0])
def test_laplace_alphas_match_the_integral_for_a_plane(sharpness: float):
    middles, lengths = intervals(4000, uneven=False)
    plane = 0.4
    alphas = laplace_alphas(plane - middles, lengths, sharpness)
    before = 0.5 * (1.0 - math.exp(-sharpness * plane))
    depth = 1.0 - plane
    behind = sharpness * depth - 0.5 * (1.0 - math.exp(-sharpness * depth))
    assert float((1.0 - alphas).log().sum()) == pytest.approx(-(before + behind), rel=1e-5)


@pytest.mark.parametrize("sharpness", [1.0, 1e3, 1e6, 1e9])
@pytest.mark.parametrize("kind", ["logistic", "laplace"])
def test_alphas_and_gradients_are_finite_however_sharp(kind: str, sharpness: float):
    sdfs = torch.tensor([-1.0, -1e-3, 0.0, 1e-8, 1e-3, 1.0]).requires_grad_()
    cosines = torch.tensor([-1.0, -0.5, 0.0, -1e-6, -1.0, -1.0]).requires_grad_()
    steepness = torch.tensor(sharpness).requires_grad_()
    for length in (0.0, 1e-4, 1.0):
        lengths = torch.full((6,), length)
        if kind == "logistic":
            alphas = logistic_alphas(sdfs, cosines, lengths, steepness)
        else:
            alphas = laplace_alphas(sdfs, lengths, steepness)
        assert (alphas >= 0).all() and (alphas <= 1).all()
        alphas.sum().backward()
    for leaf in (sdfs, cosines, steepness):
        assert leaf.grad is None or torch.isfinite(leaf.grad).all()


@pytest.mark.parametrize("density", ["logistic", "laplace"])
def test_alphas_of_the_head_are_its_densitys(density):
    head, jets, lengths = neus_head(density=density), some_jets(), torch.full((12,), 0.02)
    directions = some_directions()
    found = head.alphas(outputs_of(jets), directions, lengths, 1.0)
    if density == "logistic":
        cosines = (directions * jets[:, 1:, 0]).sum(1).clamp(max=0.0)
        expected = logistic_alphas(jets[:, 0, 0], cosines, lengths, head.sharpness(1.0))
    else:
        expected = laplace_alphas(jets[:, 0, 0], lengths, head.sharpness(1.0))
    assert torch.allclose(found, expected)


def test_back_faces_have_gradients_early_only():
    jets = torch.zeros(1, 4, 5)
    jets[0, 3, 0] = 1.0  # the distance grows along z; the ray leaves at a slant
    directions, lengths = torch.tensor([[0.6, 0.0, 0.8]]), torch.tensor([0.02])
    head = neus_head()
    seen = [
        head.alphas(outputs_of(jets), directions, lengths, fraction).item()
        for fraction in (0.0, 0.1, 0.2)
    ]
    assert seen[0] > seen[1] > seen[2] == 0.0
    assert (
        neus_head(cosine_anneal=0.0).alphas(outputs_of(jets), directions, lengths, 0.0).item()
        == 0.0
    )


def test_sharpness_grows_geometrically_within_a_factor_of_two():
    head = neus_head()
    found = [head.sharpness(fraction).item() for fraction in (0.0, 0.5, 1.0)]
    assert found == pytest.approx([20.0, 100.0, 500.0], rel=1e-5)
    for correction, factor in ((-1e3, 0.5), (1e3, 2.0)):
        head.log_correction.data.fill_(correction)
        assert head.sharpness(1.0).item() == pytest.approx(500.0 * factor, rel=1e-5)


def test_normals_have_unit_length_and_no_nan_where_there_is_none():
    vectors = torch.randn(50, 3, generator=seeded()) * torch.logspace(-5, 5, 50)[:, None]
    assert torch.allclose(unit(vectors).norm(dim=1), torch.ones(50), atol=1e-5)
    nothing = torch.zeros(2, 3).requires_grad_()
    unit(nothing).sum().backward()
    assert not unit(nothing).any() and torch.isfinite(nothing.grad).all()


@pytest.mark.parametrize("view_degree", [0, 3])
def test_colours_depend_on_the_view_only_where_asked(view_degree: int):
    head, slices = neus_head(view_degree=view_degree), FrameSlices((0, 2), (0, 5, 12))
    rgbs = head.rgbs(outputs_of(some_jets()), some_directions(), slices, 1.0, BACKEND)
    assert rgbs.shape == (12, 3) and (rgbs >= 0).all() and (rgbs <= 1).all()
    others = head.rgbs(outputs_of(some_jets()), -some_directions(), slices, 1.0, BACKEND)
    assert torch.equal(rgbs, others) == (view_degree == 0)


def lamp_head(lamp: torch.Tensor) -> NeusHead:
    """Returns a head whose light is the fit to half ambient and half a far lamp's."""
    head = neus_head()
    normals = unit(torch.randn(20000, 3, generator=seeded(3)))
    shades = lamp_shades(normals, lamp)[:, None].expand(-1, 3)
    basis = spherical_harmonics(normals, 3)
    head.light.data = torch.linalg.lstsq(basis, shades).solution
    return head


def lamp_shades(normals: torch.Tensor, lamp: torch.Tensor) -> torch.Tensor:
    return 0.5 + 0.5 * (normals @ lamp).clamp(min=0.0)


def test_light_holds_a_lamp_to_five_per_cent():
    lamp = unit(torch.tensor([[0.35, 0.8, 0.5]]))[0]
    normals = unit(torch.randn(1000, 3, generator=seeded(4)))
    errors = lamp_head(lamp).shades(normals) - lamp_shades(normals, lamp)[:, None]
    # Ramamoorthi and Hanrahan 2001: two degrees hold 99 % of a clamped cosine's energy.
    assert errors.abs().max() < 0.05 and errors.square().mean().sqrt() < 0.02


def test_shades_are_the_harmonics_times_the_light():
    head, normals = neus_head(), unit(torch.randn(50, 3, generator=seeded(4))).requires_grad_()
    head.light.data.normal_(generator=seeded(5))
    weights = torch.randn(50, 3, generator=seeded(6))
    found, expected = [], []
    for results, shades in (
        (found, head.shades(unit(normals))),
        (expected, spherical_harmonics(unit(normals), 3) @ head.light),
    ):
        (shades * weights).sum().backward()
        results += [shades.detach(), normals.grad, head.light.grad]
        normals.grad = head.light.grad = None
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_light_starts_white_and_the_same_from_everywhere():
    head, normals = neus_head(), unit(torch.randn(9, 3, generator=seeded(4)))
    assert torch.allclose(head.shades(normals), torch.ones(9, 3), atol=1e-6)


def test_colours_are_albedos_times_shades_and_albedos_know_no_normal():
    head, slices = lamp_head(torch.tensor([0.0, 1.0, 0.0])), FrameSlices((0, 2), (0, 5, 12))
    jets, directions = some_jets(), some_directions()
    outputs = outputs_of(jets)
    albedos = head.albedos(outputs, directions, slices, 1.0, BACKEND)
    shades = head.shades(unit(outputs.gradients))
    rgbs = head.rgbs(outputs, directions, slices, 1.0, BACKEND)
    assert torch.allclose(rgbs, albedos * shades) and (rgbs - albedos).abs().max() > 0.1
    jets[:, 1:] *= -1.0
    turned = outputs_of(jets)
    assert torch.equal(head.albedos(turned, directions, slices, 1.0, BACKEND), albedos)


def test_a_colour_that_only_normals_explain_turns_them():
    head, slices = lamp_head(torch.tensor([0.0, 1.0, 0.0])), FrameSlices.single(0, 1)
    jets = torch.zeros(1, 4, 5)
    jets[0, 1:, 0] = torch.tensor([0.8, 0.6, 0.0])
    jets.requires_grad_()
    brighter = head.rgbs(
        outputs_of(jets), torch.tensor([[1.0, 0.0, 0.0]]), slices, 1.0, BACKEND
    ).sum()
    brighter.backward()
    gradient = jets.grad[0, 1:, 0]
    # Towards the lamp, and not along the normal, whose length does not count.
    assert gradient[1] > 1e-3 and abs(float(gradient @ jets[0, 1:, 0].detach())) < 1e-6


@pytest.mark.parametrize("lighting", ["harmonics", "network"])
def test_colours_see_the_normal_but_not_the_length_of_its_gradient(lighting: str):
    head, slices = neus_head(lighting=lighting), FrameSlices.single(1, 12)
    if head.has_albedo:
        head.light.data += torch.randn(9, 3, generator=seeded(5))
    jets = some_jets()
    rgbs = head.rgbs(outputs_of(jets), some_directions(), slices, 1.0, BACKEND)
    longer, turned = jets.clone(), jets.clone()
    longer[:, 1:, 0] *= 3.0
    turned[:, 1:, 0] *= -1.0
    assert torch.allclose(
        head.rgbs(outputs_of(longer), some_directions(), slices, 1.0, BACKEND), rgbs, atol=1e-6
    )
    assert not torch.allclose(
        head.rgbs(outputs_of(turned), some_directions(), slices, 1.0, BACKEND), rgbs
    )


def test_the_level_is_the_signed_distance():
    values = some_jets()[:, 0]
    assert torch.equal(neus_head().levels(values), values[:, 0])


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"head\.sharpness_start is 30.* sharpness_end 20"):
        NeusConfig(sharpness_start=30.0, sharpness_end=20.0)
    with pytest.raises(ValueError, match=r"head\.view_degree is 5; allowed: 0 to 4"):
        NeusConfig(view_degree=5)
