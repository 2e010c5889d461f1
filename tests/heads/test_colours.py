"""Laws of colours: what they are read from, and when their grid takes part."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch

from resfields_ngp.backends import open_backend
from resfields_ngp.heads.base import Outputs
from resfields_ngp.heads.colours import ColourGridConfig, Colours
from resfields_ngp.records import FrameSlices
from resfields_ngp.resfield import ResFieldConfig

BACKEND = open_backend("reference", "cpu")
N_FRAMES = 6
SLICES = FrameSlices((0, 4), (0, 5, 12))


@dataclass(frozen=True)
class Config:
    """A head's settings of its colours."""

    view_degree: int = 0
    n_geometry_features: int = 4
    n_neurons: int = 16
    n_hidden_layers: int = 1
    colour_grid: ColourGridConfig = field(default_factory=ColourGridConfig)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def colours(rank: int = 2, **grid) -> Colours:
    """Returns colours whose grid is as large as a trained one's."""
    config = Config(colour_grid=ColourGridConfig(**({"n_levels": 3, "n_residuals": 2} | grid)))
    found = Colours(config, 0, N_FRAMES, ResFieldConfig(rank=rank), seeded())
    if found.grid is not None:
        found.grid.table.data.normal_(generator=seeded(1))
    return found


def outputs(shift: float = 0.0) -> Outputs:
    """Returns what a geometry network gives at 12 places, which may be moved."""
    positions = 0.8 * torch.rand(12, 3, generator=seeded(2)) + 0.1 + shift
    values = torch.randn(12, 5, generator=seeded(3))
    return Outputs(values, torch.zeros(12, 3), positions)


def rgbs(of: Colours, at: Outputs, fraction: float) -> torch.Tensor:
    return of(at, (), torch.zeros(12, 3), SLICES, fraction, BACKEND)


def test_the_grid_takes_part_from_its_time_on():
    found = colours(release_start=0.4, release_end=0.6)
    before = rgbs(found, outputs(), 0.4)
    assert torch.equal(rgbs(found, outputs(0.05), 0.4), before)  # only geometry features so far
    for fraction in (0.45, 0.6):
        assert not torch.allclose(
            rgbs(found, outputs(0.05), fraction), rgbs(found, outputs(), fraction)
        )
    assert torch.equal(rgbs(found, outputs(), 0.6), rgbs(found, outputs(), 1.0))


def test_levels_come_one_after_the_other():
    found = colours(release_start=0.0, release_end=1.0)
    assert found.grid is not None
    rgbs(found, outputs(), 0.5).sum().backward()
    gradient = found.grid.table.grad
    assert gradient is not None
    bounds = found.grid.spec.offsets
    parts = [gradient[a:b].abs().sum() for a, b in zip(bounds, bounds[1:], strict=False)]
    assert parts[0] > 0 and parts[1] > 0 and parts[2] == 0


@pytest.mark.parametrize("n_residuals", [0, 2])
def test_the_grid_changes_over_time_only_by_its_residuals(n_residuals: int):
    found = colours(rank=0, n_residuals=n_residuals)
    one, other = (
        found(outputs(), (), torch.zeros(12, 3), FrameSlices.single(frame, 12), 1.0, BACKEND)
        for frame in (0, 4)
    )
    assert torch.equal(one, other) == (n_residuals == 0)


def test_without_levels_there_is_no_grid_and_places_do_not_count():
    found = colours(n_levels=0)
    assert found.grid is None and found.network.spec.n_inputs == 4
    assert torch.equal(rgbs(found, outputs(0.05), 1.0), rgbs(found, outputs(), 1.0))


@pytest.mark.parametrize(
    ("setting", "allowed"),
    [
        ({"n_levels": -1}, "n_levels is -1; allowed: 0 to 32"),
        ({"release_start": 0.9}, "release_end is 0.8; allowed: 0.9 to 1"),
        ({"release_end": 1.5}, "release_end is 1.5; allowed: 0.3 to 1"),
        ({"n_residuals": -2}, "n_residuals is -2; allowed: -1 or more"),
    ],
)
def test_settings_out_of_range_are_refused(setting: dict, allowed: str):
    with pytest.raises(ValueError, match=rf"head\.colour_grid\.{allowed}"):
        ColourGridConfig(**setting)
