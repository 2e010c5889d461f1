from __future__ import annotations

import numpy as np
import pytest
import torch
from ball_scene import (
    N_FRAMES,
    RADIUS,
    RESOLUTION,
    SHARP,
    BallField,
    ball_distances,
    ball_hull,
    ball_occupancy,
    cell_centres,
    seeded,
    small_field,
)

from resfields_ngp.backends import open_backend
from resfields_ngp.backends.reference import box_interval
from resfields_ngp.hull import Hull
from resfields_ngp.occupancy import (
    Occupancy,
    OccupancyConfig,
    _bounded_by_sweeps,
    bounded_by_neighbours,
)
from resfields_ngp.records import FrameSlices, Rays

CPU = open_backend("cpu", "cpu")
CONFIG = OccupancyConfig(
    band=4.0, min_band=0.25, step=2.0, min_step=0.002, max_step=0.03, stretch=3.0, refresh_every=8
)


def occupancy(has_masks: bool = True) -> Occupancy:
    return ball_occupancy(CONFIG, has_masks)


def rays_through_the_box(n_rays: int = 60) -> Rays:
    origins = 0.5 + 2.0 * torch.nn.functional.normalize(
        torch.randn(n_rays, 3, generator=seeded()), dim=1
    )
    targets = torch.rand(n_rays, 3, generator=seeded(1))
    directions = torch.nn.functional.normalize(targets - origins, dim=1)
    return Rays(origins, directions, FrameSlices((2, 0), (0, n_rays // 3, n_rays)))


def start_points(rays: Rays, samples) -> torch.Tensor:
    origins, directions = rays.origins[samples.ray_indices], rays.directions[samples.ray_indices]
    return origins + samples.t_starts[:, None] * directions


def test_the_band_narrows_with_sharpness_to_its_part_of_a_cell():
    occupied = occupancy()
    bands = [occupied.band(sharpness) for sharpness in (10.0, 100.0, 1e9)]
    assert bands[0] > bands[1] > bands[2] == pytest.approx(0.25 / RESOLUTION)
    assert bands[1] == pytest.approx(4.0 / 100.0 + 0.25 / RESOLUTION)


def test_steps_follow_sharpness_between_their_limits():
    occupied = occupancy()
    found = [occupied.step(sharpness) for sharpness in (1.0, 100.0, 1e9)]
    assert found == pytest.approx([0.03, 0.02, 0.002])


@pytest.mark.parametrize("has_masks", [False, True])
def test_occupancy_starts_within_the_hull_or_full(has_masks: bool):
    occupied = Occupancy(ball_hull(), CONFIG, has_masks)
    if has_masks:
        assert (occupied.distances >= occupied.hull - 1e-6).all()
        assert (occupied.distances < 0).any(dim=(1, 2, 3)).all()
    else:
        assert not occupied.distances.any()


def test_samples_lie_in_the_band_of_the_surface():
    occupied, rays = occupancy(), rays_through_the_box()
    samples = occupied.march(rays, CPU, SHARP, None)
    distances = ball_distances(start_points(rays, samples))
    # The grid's interpolation of a curved surface is off by a small part of a cell.
    assert samples.n_samples > 50
    assert (distances.abs() < occupied.band(SHARP) + 0.1 / RESOLUTION).all()
    closest = (rays.origins - 0.5).cross(rays.directions, dim=1).norm(dim=1)
    assert set(samples.ray_indices.tolist()) >= set((closest < RADIUS).nonzero()[:, 0].tolist())


def test_without_masks_the_first_samples_fill_the_box():
    rays = rays_through_the_box()
    samples = occupancy(has_masks=False).march(rays, CPU, SHARP, None)
    lengths = torch.zeros(60).index_add(0, samples.ray_indices, samples.t_ends - samples.t_starts)
    near, far = box_interval(rays.origins, rays.directions)
    longest = CONFIG.stretch * CONFIG.step / SHARP
    assert ((lengths - (far - near)).abs() <= longest).all()


def test_hull_samples_are_even_and_fill_the_hull_and_nothing_else():
    occupied, rays, step = occupancy(), rays_through_the_box(), 0.02
    occupied.distances.fill_(1.0)  # whatever the field says
    samples = occupied.march_hull(rays, CPU, step)
    distances = ball_distances(start_points(rays, samples))
    assert (distances < 2.0 * occupied.margin + 0.1 / RESOLUTION).all()
    assert torch.allclose(samples.t_ends - samples.t_starts, torch.tensor(step), atol=1e-5)
    assert samples.slices.frames == (2, 0)
    closest = (rays.origins - 0.5).cross(rays.directions, dim=1).norm(dim=1)
    chords = 2.0 * (RADIUS**2 - closest**2).clamp(min=0.0).sqrt()
    counts = torch.bincount(samples.ray_indices, minlength=60)
    assert (counts * step >= chords - 2 * step).all()
    assert not counts[closest > RADIUS + 2.0 * occupied.margin + 0.1 / RESOLUTION].any()


def test_hull_samples_take_each_frames_own_hull():
    hull = ball_hull()
    hull.distances[0] += 5.0
    occupied = Occupancy(hull, CONFIG, True)
    samples = occupied.march_hull(rays_through_the_box(), CPU, 0.02)
    assert samples.slices.offsets[1] == samples.slices.offsets[2] == samples.n_samples > 0


def test_distances_to_the_hull_are_interpolated():
    # A plane is reproduced between the outermost cell centres, exactly but for rounding.
    centres = cell_centres(RESOLUTION)
    planes = np.stack([(centres[..., 0] + frame).numpy() for frame in range(N_FRAMES)])
    occupied = Occupancy(Hull(space=ball_hull().space, distances=planes, margin=0.0), CONFIG, True)
    points = 0.1 + 0.8 * torch.rand(30, 3, generator=seeded())
    found = occupied.hull_distances(points, FrameSlices((2, 1), (0, 10, 30)), CPU)
    expected = points[:, 0] + torch.tensor([2.0] * 10 + [1.0] * 20)
    assert torch.allclose(found, expected, atol=1e-5)


def test_refreshing_finds_the_surface_again_and_leaves_the_rest_alone():
    occupied, field = occupancy(), BallField(CPU)
    hull = occupied.hull.clone()
    occupied.distances += 0.02  # a little wrong
    before = occupied.distances.clone()
    reach = occupied.band(SHARP) + 3.0 / RESOLUTION
    occupied.refresh(field, (1,), 1.0, seeded())  # pyright: ignore[reportArgumentType]
    near = before[1].abs() < reach
    assert torch.allclose(occupied.distances[1][near], hull[1][near], atol=1e-6)
    far = hull[1] >= reach
    kept = occupied.distances[1][far]
    assert far.any() and (kept <= before[1][far]).all() and (kept >= hull[1][far] - 1e-6).all()
    assert torch.equal(occupied.distances[[0, 2]], before[[0, 2]])
    assert torch.equal(occupied.hull, hull)


def test_a_part_that_was_lost_is_found_by_and_by():
    occupied, field = occupancy(), BallField(CPU)
    hull = occupied.hull[0]
    inside = hull < 0.0
    occupied.distances.fill_(1.0)
    generator, counts = seeded(), []
    for _ in range(3):
        occupied.refresh(field, (0,), 1.0, generator)  # pyright: ignore[reportArgumentType]
        counts.append(int(torch.isclose(occupied.distances[0], hull, atol=1e-6)[inside].sum()))
    assert 0 < counts[0] < counts[1] < counts[2]
    occupied.refresh(field, (0,), 1.0, None)  # pyright: ignore[reportArgumentType]
    assert torch.allclose(occupied.distances[0][inside], hull[inside], atol=1e-6)


def test_refreshing_is_seeded():
    found = []
    for seed in (3, 3, 4):
        occupied = occupancy()
        occupied.distances.fill_(1.0)
        occupied.refresh(BallField(CPU), (0,), 1.0, seeded(seed))  # pyright: ignore
        found.append(occupied.distances)
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


def with_density_inside(radius: float):
    """Returns a density head's field that is solid within a radius of the middle."""
    field = small_field(CPU, "nerf")
    field.sdfs = lambda positions, frame: torch.where(  # pyright: ignore
        (positions - 0.5).norm(dim=1) < radius, -0.1, 1.0
    )
    return field


def test_densities_give_zero_where_something_is_and_distances_elsewhere():
    occupied = occupancy(has_masks=False)
    occupied.refresh(with_density_inside(0.25), (1,), 1.0, None)
    centres = (cell_centres(RESOLUTION) - 0.5).norm(dim=-1)
    found, cell = occupied.distances[1], 1.0 / RESOLUTION
    assert (found[centres < 0.25] == 0.0).all()
    away = (centres - 0.25).clamp(min=0.0)
    assert ((found - away).abs()[found > 0] < 2.5 * cell).all()
    assert (found[centres > 0.25 + 2.0 * cell] > 0).all()


def test_densities_outside_the_hull_never_count():
    occupied = occupancy(has_masks=True)
    occupied.refresh(with_density_inside(2.0), (1,), 1.0, None)
    # The cells next to the hull's are kept, one in each direction.
    limit = occupied.margin + 2.0 / RESOLUTION
    assert (occupied.distances[1][occupied.hull[1] > limit] > 0).all()
    assert (occupied.distances[1][occupied.hull[1] < 0] == 0).all()


def test_without_any_density_the_search_starts_again_everywhere():
    occupied = occupancy(has_masks=False)
    occupied.refresh(with_density_inside(0.0), (1,), 1.0, None)
    assert not occupied.distances[1].any()


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"occupancy\.band is 0.0 and step 2.0; allowed: above 0"):
        OccupancyConfig(band=0.0, step=2.0)
    with pytest.raises(ValueError, match=r"occupancy\.min_step is 0.2 and max_step 0.1"):
        OccupancyConfig(min_step=0.2, max_step=0.1)


BOUNDS = [bounded_by_neighbours, _bounded_by_sweeps]


@pytest.mark.parametrize("bound", BOUNDS)
def test_distances_grow_no_faster_than_the_way(bound):
    distances = 0.3 * torch.randn(6, 6, 6, generator=seeded())
    before, found = distances.clone(), bound(distances)
    cells = cell_centres(6).view(-1, 3)
    ways = (cells[:, None] - cells[None]).abs().sum(2)
    lowest = (distances.flatten().clamp(min=0.0) + ways).amin(1).view_as(distances)
    assert torch.equal(distances, before)
    assert torch.allclose(found, torch.where(distances > 0, lowest, distances), atol=1e-6)


@pytest.mark.parametrize("bound", BOUNDS)
def test_true_distances_stay(bound):
    distances = ball_distances(cell_centres(RESOLUTION))
    assert torch.allclose(bound(distances), distances, atol=1e-6)


class SteepRod(BallField):
    """A thin rod along z; away from it the distance is four times too large, as training may
    leave it where no samples are."""

    def sdfs(self, positions: torch.Tensor, frame: int) -> torch.Tensor:
        true = (positions[:, :2] - 0.5).norm(dim=1) - 0.02
        return torch.where(true < 0.02, true, 0.02 + 4.0 * (true - 0.02))


@pytest.mark.parametrize("asynchronous", [False, True])
def test_no_ray_leaps_over_a_thin_part(monkeypatch, asynchronous: bool):
    occupied, field = Occupancy(ball_hull(), CONFIG, False), SteepRod(CPU)
    monkeypatch.setattr(CPU, "is_asynchronous", asynchronous)
    occupied.refresh(field, (0,), 1.0, None)
    n_rays = 400
    origins = torch.rand(n_rays, 3, generator=seeded()) * torch.tensor([0.02, 0.5, 0.5]) - 0.5
    targets = torch.stack(
        [torch.full((n_rays,), 0.5), torch.full((n_rays,), 0.5), torch.linspace(0.3, 0.7, n_rays)],
        1,
    )
    directions = torch.nn.functional.normalize(targets - origins, dim=1)
    rays = Rays(origins, directions, FrameSlices.single(0, n_rays))
    samples = occupied.march(rays, CPU, SHARP, None)
    assert len(samples.ray_indices.unique()) == n_rays
