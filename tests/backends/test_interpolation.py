"""Grids of frames are interpolated alike by every backend: what is linear comes back as it is."""

from __future__ import annotations

import pytest
import torch
from interpreted import EXACT
from kernel_cases import MANY, seeded, sphere_grid

from resfields_ngp.backends import open_backend
from resfields_ngp.records import FrameSlices

CPU, REFERENCE = open_backend("cpu", "cpu"), open_backend("reference", "cpu")
OTHERS = {"cpu": CPU, "triton": EXACT}
EVERY = {"reference": REFERENCE, **OTHERS}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("slices", [MANY, FrameSlices.single(1, 200), FrameSlices.single(0, 0)])
def test_interpolation_agrees_in_and_beside_the_box(name: str, slices: FrameSlices):
    grids = sphere_grid(5) + torch.arange(5.0).view(5, 1, 1, 1)
    positions = 1.2 * torch.rand(slices.n_rows, 3, generator=seeded()) - 0.1
    found = OTHERS[name].interpolate(grids, positions, slices)
    expected = REFERENCE.interpolate(grids, positions, slices)
    assert found.shape == (slices.n_rows,)
    assert torch.allclose(found, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", EVERY)
def test_planes_are_reproduced_between_the_outermost_cells(name: str):
    centres = (torch.arange(8) + 0.5) / 8
    x, y, z = torch.meshgrid(centres, centres, centres, indexing="ij")
    grids = torch.stack([frame + x - 2.0 * y + 0.5 * z for frame in range(5)])
    positions = 1 / 16 + 7 / 8 * torch.rand(90, 3, generator=seeded())
    frames = torch.tensor([4.0] * 30 + [2.0] * 60)
    found = EVERY[name].interpolate(grids, positions, MANY)
    expected = frames + positions @ torch.tensor([1.0, -2.0, 0.5])
    assert torch.allclose(found, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", EVERY)
def test_beyond_the_outermost_cells_values_stay_as_they_are(name: str):
    grids = torch.rand(2, 4, 4, 4, generator=seeded())
    corners = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 1.0], [-3.0, 9.0, 0.0]])
    found = EVERY[name].interpolate(grids, corners, FrameSlices.single(1, 3))
    assert torch.allclose(found, grids[1, [0, 3, 0], [0, 0, 3], [0, 3, 0]], rtol=0, atol=1e-6)
