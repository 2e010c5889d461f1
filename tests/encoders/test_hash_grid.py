from __future__ import annotations

import pytest
import torch
from ball_scene import SMALL_GRID

from resfields_ngp.backends import open_backend
from resfields_ngp.encoders import HashGrid, HashGrid4D, HashGrid4DConfig, HashGridConfig
from resfields_ngp.records import FrameSlices

BACKENDS = [open_backend(name, "cpu") for name in ("reference", "cpu")]
N_FRAMES = 7
SHAPE = SMALL_GRID | {"n_levels": 5}
each_backend = pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def residual_grid(n_residuals: int = 1, n_frames: int = N_FRAMES) -> HashGrid:
    grid = HashGrid(HashGridConfig(n_residuals=n_residuals, **SHAPE), n_frames, seeded())
    grid.table.data.normal_(generator=seeded(1))
    return grid


def temporal_grid(n_frames: int = N_FRAMES, base: int = 2) -> HashGrid4D:
    config = HashGrid4DConfig(base_time_resolution=base, **SHAPE)
    grid = HashGrid4D(config, n_frames, seeded())
    grid.table.data.normal_(generator=seeded(1))
    return grid


def positions(n_rows: int = 20) -> torch.Tensor:
    return torch.rand(n_rows, 3, generator=seeded(2))


def likeness(grid: HashGrid) -> float:
    """Returns the mean cosine between the coefficients of neighbouring frames."""
    rows = grid.coefficients.knots.detach()
    return torch.nn.functional.cosine_similarity(rows[1:], rows[:-1], dim=2).mean().item()


def at_frame(grid, frame: int, backend, n_tangents: int = 0, released: float = 1.0) -> torch.Tensor:
    points = positions()
    return grid(points, FrameSlices.single(frame, len(points)), backend, n_tangents, released)


@each_backend
def test_zero_coefficients_equal_the_static_grid(backend):
    moving, static = residual_grid(1), residual_grid(0)
    static.table.data.copy_(moving.table.data[:, :1])
    moving.coefficients.knots.data.zero_()
    for frame in (0, 3):
        found = at_frame(moving, frame, backend, 3)
        assert torch.allclose(found, at_frame(static, 0, backend, 3), atol=1e-5)


@each_backend
def test_features_are_the_base_and_the_weighted_residuals(backend):
    grid, static = residual_grid(1), residual_grid(0)
    parts = []
    for channel in (0, 1):
        static.table.data.copy_(grid.table.data[:, channel : channel + 1])
        parts.append(at_frame(static, 0, backend))
    weights = grid.coefficients.knots[4, :, 0].repeat_interleave(2)
    expected = parts[0] + weights * parts[1]
    assert torch.allclose(at_frame(grid, 4, backend), expected, atol=1e-5)


def test_residuals_can_be_switched_off_and_are_fewer_than_frames():
    assert residual_grid(0).spec.n_channels == 1
    assert residual_grid(5, n_frames=3).spec.n_channels == 3
    assert residual_grid(5, n_frames=1).spec.n_channels == 1
    assert [name for name, _ in residual_grid(0).named_parameters()] == ["table"]


@pytest.mark.parametrize(("n_frames", "is_smooth"), [(24, False), (25, True), (100, True)])
def test_neighbouring_frames_of_a_long_sequence_start_alike(n_frames: int, is_smooth: bool):
    grid = residual_grid(-1, n_frames)
    assert (likeness(grid) > 0.7) == is_smooth and abs(likeness(grid)) < 1.0
    assert grid.coefficients.knots.square().mean().item() == pytest.approx(1.0, abs=0.2)
    config = HashGridConfig(smooth_from=0, **SHAPE)
    assert abs(likeness(HashGrid(config, n_frames, seeded()))) < 0.2


def test_coefficients_of_fine_levels_start_with_faster_waves():
    rows = residual_grid(-1, 100).coefficients.knots.detach()
    change = (rows[1:] - rows[:-1]).square().mean(dim=(0, 2))  # of each level
    assert (change[1:] > change[:-1]).all() and change[-1] > 3 * change[0]


@each_backend
def test_a_frame_takes_its_own_coefficients_only(backend):
    grid = residual_grid()
    before = at_frame(grid, 3, backend)
    grid.coefficients.knots.data[[0, 1, 2, 4, 5, 6]] += 1.0
    assert torch.equal(at_frame(grid, 3, backend), before)
    grid.coefficients.knots.data[3] += 1.0
    assert not torch.allclose(at_frame(grid, 3, backend), before)


@pytest.mark.parametrize("n_frames", [1, 2, 7, 50, 93])
def test_time_resolutions_grow_from_the_base_to_one_a_frame(n_frames: int):
    resolutions = temporal_grid(n_frames).spec.time_resolutions
    assert resolutions[0] == min(2, n_frames) and resolutions[-1] == n_frames
    assert list(resolutions) == sorted(resolutions)


@pytest.mark.parametrize("n_frames", [1, 2, 7, 50, 93])
def test_time_slices_blend_to_the_frames_time(n_frames: int):
    grid = temporal_grid(n_frames)
    slots, weights = grid.time_slices(tuple(range(n_frames)))
    last = torch.tensor(grid.spec.time_resolutions) - 1
    times = torch.linspace(0, 1, n_frames)[:, None]
    assert ((slots >= 0) & (slots <= last[:, None])).all()
    assert torch.allclose(weights.sum(2), torch.ones(n_frames, len(last)))
    assert torch.allclose((slots * weights).sum(2), times * last, atol=1e-4)


@pytest.mark.parametrize("n_frames", [2, 7, 50, 93])
def test_a_frame_at_a_time_slice_takes_that_slice_only(n_frames: int):
    grid = temporal_grid(n_frames)
    slots, weights = grid.time_slices(tuple(range(n_frames)))
    for level, resolution in enumerate(grid.spec.time_resolutions):
        for frame in range(n_frames):
            if frame * (resolution - 1) % (n_frames - 1) == 0:
                slice_ = frame * (resolution - 1) // (n_frames - 1)
                own = weights[frame, level][slots[frame, level] == slice_]
                assert own.sum() == 1.0 and weights[frame, level].max() == 1.0


@each_backend
def test_other_time_slices_do_not_reach_a_frame(backend):
    # One level, dense, one slice a frame: the entries of a slice lie together.
    shape = SHAPE | {"n_levels": 1, "start_levels": 1, "log2_hashmap_size": 10}
    config = HashGrid4DConfig(base_time_resolution=N_FRAMES, **shape)
    grid = HashGrid4D(config, N_FRAMES, seeded())
    before = at_frame(grid, 3, backend)
    own = torch.arange(len(grid.table)) // 4**3 == 3
    grid.table.data[~own] += 1.0
    # Beyond the last cell of an axis tiny-cuda-nn's layout runs on into the next row or slice.
    inside = (positions() * 3.0 + 0.5 < 3.0).all(1)
    assert inside.sum() > 5
    assert torch.equal(at_frame(grid, 3, backend)[inside], before[inside])


@each_backend
@pytest.mark.parametrize("make", [residual_grid, temporal_grid])
def test_tangents_match_finite_differences_within_a_cell(backend, make):
    grid = make()
    step = 1e-3
    points = torch.rand(400, 3, generator=seeded(2)) * 0.98 + 0.01
    scales = torch.tensor(grid.spec.scales)
    fractions = (points[:, :, None] * scales + 0.5) % 1.0
    margin = 2.0 * step * scales
    points = points[((fractions > margin) & (fractions < 1.0 - margin)).all(dim=2).all(dim=1)]
    assert len(points) > 50
    slices = FrameSlices.single(2, len(points))
    jets = grid(points, slices, backend, 3, 1.0)
    for axis in range(3):
        shift = torch.zeros(3)
        shift[axis] = step
        ahead = grid(points + shift, slices, backend, 0, 1.0)
        behind = grid(points - shift, slices, backend, 0, 1.0)
        # Trilinear functions have no error term along an axis, only float32's.
        differences = (ahead - behind)[:, 0] / (2.0 * step)
        assert torch.allclose(jets[:, 1 + axis], differences, atol=1e-2)


@each_backend
def test_without_tangents_the_values_are_the_same(backend):
    grid = residual_grid()
    values, jets = at_frame(grid, 1, backend, 0), at_frame(grid, 1, backend, 3)
    assert values.shape[1] == 1 and torch.allclose(values[:, 0], jets[:, 0], atol=1e-6)


@pytest.mark.parametrize(
    ("released", "expected"),
    [
        (0.0, [1, 1, 0, 0, 0]),
        (0.5, [1, 1, 1, 0.5, 0]),
        (1.0, [1, 1, 1, 1, 1]),
    ],
)
def test_levels_fade_in_one_after_the_other(released: float, expected: list[float]):
    assert residual_grid().level_weights(released).tolist() == expected


@each_backend
@pytest.mark.parametrize("make", [residual_grid, temporal_grid])
def test_levels_not_released_are_silent(backend, make):
    features = at_frame(make(), 2, backend, 3, 0.0)
    assert not features[:, :, 4:].any() and features[:, :, :4].abs().min() > 0


@pytest.mark.parametrize(
    ("make", "settings", "name"),
    [
        (HashGridConfig, {"n_levels": 0}, "n_levels"),
        (HashGridConfig, {"log2_hashmap_size": 30}, "log2_hashmap_size"),
        (HashGridConfig, {"per_level_scale": 0.5}, "per_level_scale"),
        (HashGridConfig, {"n_residuals": -2}, "n_residuals"),
        (HashGrid4DConfig, {"base_time_resolution": 0}, "base_time_resolution"),
    ],
)
def test_settings_out_of_range_name_the_setting(make, settings: dict, name: str):
    with pytest.raises(ValueError, match=rf"encoder\.{name} is .*; allowed"):
        make(**settings)
