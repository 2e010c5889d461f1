"""Laws of a reconstruction: on which level of its field the surface lies."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from ball_scene import BallField, ball_occupancy, ball_space, cell_centres, small_field
from sphere_capture import sphere_capture

from resfields_ngp.backends.reference import ReferenceBackend
from resfields_ngp.config import Config
from resfields_ngp.hull import HullConfig
from resfields_ngp.inspection import inspect_capture
from resfields_ngp.mesh import statistics
from resfields_ngp.meshing import MeshingConfig, extract_mesh
from resfields_ngp.occupancy import OccupancyConfig
from resfields_ngp.reconstruction import Reconstruction, prepare


def reconstruction(field: Any, odds: float = 1.0) -> Reconstruction:
    numbers = (0, 1, 2)
    parts = (ball_occupancy(OccupancyConfig()), ball_space(), numbers, np.eye(4), 0.0, odds)
    return Reconstruction(field, *parts)


@pytest.mark.parametrize("odds", [0.5, 1.0, 5.0])
def test_uneven_draws_move_the_outline_as_far_as_the_level_moves_it_back(odds: float):
    sharpness = 300.0
    fitted = reconstruction(BallField(ReferenceBackend(), sharpness), odds)
    past = torch.linspace(-0.1, 0.1, 20001)  # distances outside the true outline
    densities = torch.where(past < 0, odds, 1.0)
    shifts = torch.linspace(-0.01, 0.01, 401)
    opacities = torch.sigmoid(-sharpness * (past - shifts[:, None]))
    errors = (opacities - (past < 0).float()).abs()
    best = float(shifts[(errors * densities).mean(1).argmin()])
    assert fitted.surface_level == pytest.approx(-best, abs=1e-4)


def test_meshes_lie_on_the_level():
    even = reconstruction(BallField(ReferenceBackend()))
    swollen = replace(even, outline_odds=20.0)
    coarse = MeshingConfig(resolution=48, colours=False)
    areas = [statistics(extract_mesh(each, 0, coarse)).area for each in (even, swollen)]
    radii = np.sqrt(np.array(areas) / (4.0 * np.pi)) / even.space.scale
    assert radii[1] - radii[0] == pytest.approx(swollen.surface_level, rel=0.05)


def test_a_density_has_no_outline_to_move():
    assert reconstruction(small_field(ReferenceBackend(), "nerf"), 5.0).surface_level == 0.0


def test_a_captures_floaters_are_taken_out_where_it_has_masks():
    capture = sphere_capture(np.zeros((2, 1, 3)), radii=(0.4,))
    config = replace(Config(), hull=HullConfig(resolution=32))
    _, task, _ = prepare(config, capture, ReferenceBackend())
    assert task.clean is not None
    centres = cell_centres(32).view(32, 32, 32, 3).numpy()
    clean = task.occupancy.hull[1].numpy()
    floater = np.linalg.norm(centres - 0.9, axis=-1) - 0.06  # in a corner of the box
    with_it = np.minimum(clean, floater).astype("f4")
    found = task.clean(with_it, 1)
    assert (with_it != clean).any() and (found[with_it != clean] > 0).all()
    assert np.array_equal(found[clean < 0], clean[clean < 0])
    blind = replace(capture, views=tuple(replace(view, masks=None) for view in capture.views))
    assert prepare(config, blind, ReferenceBackend())[1].clean is None


def test_a_hull_that_is_there_is_not_carved_again(monkeypatch):
    capture = sphere_capture(np.zeros((2, 1, 3)), radii=(0.4,))
    config = replace(Config(), hull=HullConfig(resolution=32))
    hull = inspect_capture(capture, config.hull).hull
    _, expected, space = prepare(config, capture, ReferenceBackend())
    monkeypatch.setattr("resfields_ngp.reconstruction.build_hull", None)
    _, task, again = prepare(config, capture, ReferenceBackend(), hull)
    assert torch.equal(task.occupancy.distances, expected.occupancy.distances)
    assert np.array_equal(again.world_from_model, space.world_from_model)
