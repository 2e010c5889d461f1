"""The `cpu` kernels are the `reference` kernels: values and all gradients, whatever the input."""

from __future__ import annotations

import numba
import pytest
import torch
from kernel_cases import (
    CASES,
    MANY,
    PLANE,
    SPATIAL,
    TEMPORAL,
    VIDEO,
    assert_all_close,
    grid_inputs,
    grid_outputs,
    leaves,
    mlp_inputs,
    mlp_outputs,
    mlp_weights_gradient,
    packed,
    seeded,
    sloped_outputs,
    some_rays,
    sphere_grid,
)

from resfields_ngp.backends import GridSpec, MlpSpec, open_backend
from resfields_ngp.backends.cpu.mlp import TILE_ROWS
from resfields_ngp.records import FrameSlices, Rays

REFERENCE, CPU = open_backend("reference", "cpu"), open_backend("cpu", "cpu")


@pytest.mark.parametrize("n_tangents", [0, 3])
@pytest.mark.parametrize("spec", [SPATIAL, TEMPORAL], ids=["3d", "4d"])
@pytest.mark.parametrize("case", CASES)
def test_hash_grid_agrees_in_values_and_gradients(case: str, spec: GridSpec, n_tangents: int):
    slices = CASES[case]
    inputs = grid_inputs(spec, slices, case)
    found = grid_outputs(CPU, inputs, slices, spec, n_tangents)
    expected = grid_outputs(REFERENCE, inputs, slices, spec, n_tangents)
    assert_all_close(found, expected)


@pytest.mark.parametrize("spec", [PLANE, VIDEO], ids=["picture", "video"])
@pytest.mark.parametrize("case", CASES)
def test_2d_grid_agrees_in_values_and_gradients(case: str, spec: GridSpec):
    slices = CASES[case]
    positions, coefficients, slots, table = grid_inputs(spec, slices, case)
    if spec is VIDEO:
        coefficients[:, 1:3, 1] = 0.0  # a frame on a time slice: its neighbour is left out
    found, expected = [], []
    for backend, results in ((CPU, found), (REFERENCE, expected)):
        weights, entries = leaves(coefficients, table)
        features = backend.hash_grid(positions, slices, weights, slots, entries, spec, 0)
        (features * torch.randn(features.shape, generator=seeded(4))).sum().backward()
        results += [features.detach(), entries.grad]
        # The weights of time slices are no parameters: their gradient is not computed.
        results += [weights.grad] if spec is PLANE else []
    assert_all_close(found, expected)


def test_table_gradient_is_added_to_the_one_that_is_there():
    inputs = grid_inputs(SPATIAL, MANY, "random")
    fresh = grid_outputs(CPU, inputs, MANY, SPATIAL, 3)[3]
    positions, coefficients, _, table = inputs
    table = table.clone().requires_grad_()
    table.grad = buffer = torch.ones_like(table)
    jets = CPU.hash_grid(positions, MANY, coefficients, None, table, SPATIAL, 3)
    (jets * torch.randn(jets.shape, generator=seeded(4))).sum().backward()
    assert table.grad is buffer
    assert_all_close([table.grad - 1.0], [fresh])


@pytest.mark.parametrize("n_tangents", [0, 3])
def test_a_level_that_is_not_released_takes_no_part(n_tangents: int):
    inputs = grid_inputs(SPATIAL, MANY, "random")
    inputs[1][:, 3:] = 0.0
    found = grid_outputs(CPU, inputs, MANY, SPATIAL, n_tangents)
    expected = grid_outputs(REFERENCE, inputs, MANY, SPATIAL, n_tangents)
    assert not found[2][:, 3:].any()
    expected[2][:, 3:] = 0.0
    assert_all_close(found, expected)


def test_a_table_without_gradient_keeps_its_buffer():
    positions, coefficients, _, table = grid_inputs(SPATIAL, MANY, "random")
    coefficients = coefficients.requires_grad_()
    table.grad = torch.zeros_like(table)
    jets = CPU.hash_grid(positions, MANY, coefficients, None, table, SPATIAL, 3)
    jets.sum().backward()
    assert not table.grad.any() and coefficients.grad.any()


@pytest.mark.parametrize("n_tangents", [0, 3])
@pytest.mark.parametrize("activation", ["relu", "softplus", "squareplus"])
def test_mlp_agrees_in_values_and_gradients(activation, n_tangents: int):
    spec = MlpSpec(19, 5, 32, 2, activation)
    jets, weights = mlp_inputs(spec, MANY, n_tangents)
    found = mlp_outputs(CPU, jets, MANY, weights, spec)
    assert_all_close(found, mlp_outputs(REFERENCE, jets, MANY, weights, spec))


@pytest.mark.parametrize("n_rows", [0, 1, TILE_ROWS, 2 * TILE_ROWS + 7])
@pytest.mark.parametrize("n_hidden_layers", [0, 1, 3])
def test_mlp_agrees_for_any_number_of_rows_and_layers(n_rows: int, n_hidden_layers: int):
    spec = MlpSpec(16, 16, 16, n_hidden_layers)
    slices = FrameSlices((0, 1), (0, n_rows // 3, n_rows))
    jets, weights = mlp_inputs(spec, slices, 3)
    found = mlp_outputs(CPU, jets, slices, weights, spec)
    assert_all_close(found, mlp_outputs(REFERENCE, jets, slices, weights, spec))


@pytest.mark.parametrize("activation", ["relu", "softplus", "squareplus"])
@pytest.mark.parametrize(("n_inputs", "n_hidden_layers"), [(16, 0), (19, 1), (19, 2), (40, 3)])
def test_sloped_mlp_agrees_in_values_and_gradients(activation, n_inputs: int, n_hidden_layers: int):
    spec = MlpSpec(n_inputs, 5, 32, n_hidden_layers, activation)
    for n_rows in (0, 1, 2 * TILE_ROWS + 7):
        slices = FrameSlices((0, 1, 2), (0, n_rows // 3, n_rows // 3, n_rows))
        jets, weights = mlp_inputs(spec, slices, 3)
        found = sloped_outputs(CPU, jets, slices, weights, spec)
        assert_all_close(found, sloped_outputs(REFERENCE, jets, slices, weights, spec))


def test_sloped_mlp_needs_no_gradient_by_its_inputs():
    spec = MlpSpec(19, 5, 32, 2)
    jets, weights = mlp_inputs(spec, MANY, 3)
    expected = sloped_outputs(CPU, jets, MANY, weights, spec)[4]
    weights = weights.requires_grad_()
    found = CPU.sloped_mlp(jets[:, :, :6], jets[:, :, 6:], MANY, weights, spec)
    sum((f * torch.randn(f.shape, generator=seeded(4))).sum() for f in found).backward()
    assert torch.equal(weights.grad, expected)


def test_mlp_needs_no_gradient_by_its_inputs():
    spec = MlpSpec(19, 5, 32, 2)
    jets, weights = mlp_inputs(spec, MANY, 3)
    expected = mlp_outputs(CPU, jets, MANY, weights, spec)[2]
    found = mlp_weights_gradient(CPU, jets, MANY, weights, spec)
    assert torch.equal(found, expected)


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="one thread")
def test_kernels_do_not_depend_on_the_number_of_threads():
    spec = MlpSpec(16, 16, 16, 1)
    slices = FrameSlices((0, 1), (0, 700, 3 * TILE_ROWS))
    jets, weights = mlp_inputs(spec, slices, 3)
    inputs = grid_inputs(SPATIAL, MANY, "random")
    outputs, before = [], numba.get_num_threads()
    try:
        for n_threads in (1, 2):
            numba.set_num_threads(n_threads)
            network = mlp_outputs(CPU, jets, slices, weights, spec)
            network += sloped_outputs(CPU, jets, slices, weights, spec)
            outputs.append(network + grid_outputs(CPU, inputs, MANY, SPATIAL, 3))
    finally:
        numba.set_num_threads(before)
    for one, two in zip(*outputs, strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("stretch", [1.0, 3.0])
@pytest.mark.parametrize(("band", "step"), [(0.05, 0.02), (0.01, 0.005)])
@pytest.mark.parametrize("has_jitter", [False, True])
def test_march_agrees(stretch: float, band: float, step: float, has_jitter: bool):
    rays = some_rays(FrameSlices((2, 0, 1), (0, 40, 40, 100)))
    jitter = torch.rand(100, generator=seeded(2)) if has_jitter else None
    found, expected = (
        backend.march(rays, sphere_grid(3), band, step, stretch, jitter)
        for backend in (CPU, REFERENCE)
    )
    # A step that ends within rounding of the band's edge may fall on either side of it.
    counts = [torch.bincount(s.ray_indices, minlength=100) for s in (found, expected)]
    same = counts[0] == counts[1]
    assert same.float().mean() > 0.97 and (counts[0] - counts[1]).abs().max() <= 1
    assert (counts[0][::4] == 0).all() and (counts[0] > 0).sum() > 50
    for name in ("t_starts", "t_ends"):
        one, other = getattr(found, name), getattr(expected, name)
        kept = one[same[found.ray_indices]], other[same[expected.ray_indices]]
        # Rounding of a distance changes the length of all steps behind it a little.
        assert torch.allclose(*kept, rtol=0, atol=1e-3 * step / 0.005)


@pytest.mark.parametrize("backend", [CPU, REFERENCE], ids=["cpu", "reference"])
def test_march_without_rays_or_without_surface_is_empty(backend):
    grid = sphere_grid(1)
    for n_rays, distances in ((0, grid), (8, grid + 5.0)):
        rays = some_rays(FrameSlices.single(0, n_rays))
        samples = backend.march(rays, distances, 0.05, 0.02, 3.0, None)
        assert samples.n_samples == 0 and samples.slices.offsets == (0, 0)


@pytest.mark.parametrize("stretch", [1.0, 3.0])
@pytest.mark.parametrize("backend", [CPU, REFERENCE], ids=["cpu", "reference"])
def test_marched_intervals_lie_in_the_band_in_order(backend, stretch: float):
    rays = some_rays(FrameSlices((2, 0), (0, 50, 100)))
    band, step = 0.05, 0.02
    samples = backend.march(rays, sphere_grid(3), band, step, stretch, None)
    ray = samples.ray_indices
    assert (ray.diff() >= 0).all()
    assert samples.slices.offsets == (0, int((ray < 50).sum()), samples.n_samples)
    lengths = samples.t_ends - samples.t_starts
    assert (lengths >= step * 0.999).all() and (lengths <= stretch * step * 1.001).all()
    behind = samples.t_starts[1:] - samples.t_ends[:-1]
    assert (behind[ray.diff() == 0] > -1e-5).all()
    points = rays.origins[ray] + samples.t_starts[:, None] * rays.directions[ray]
    radii = torch.where(ray < 50, 0.3, 0.2)
    distances = (points - 0.5).norm(dim=1) - radii
    assert (distances.abs() < band + 2e-3).all()  # the grid's interpolation is not quite a sphere


@pytest.mark.parametrize("backend", [CPU, REFERENCE], ids=["cpu", "reference"])
def test_rays_that_graze_take_longer_steps(backend):
    centre = torch.tensor([[0.5, 0.5, -1.0], [0.5, 0.7, -1.0]])  # head-on, and along the side
    directions = torch.tensor([[0.0, 0.0, 1.0]]).expand(2, 3)
    rays = Rays(centre, directions, FrameSlices.single(0, 2))
    samples = backend.march(rays, sphere_grid(1), 0.05, 0.01, 3.0, None)
    lengths = samples.t_ends - samples.t_starts
    longest = [float(lengths[samples.ray_indices == ray].max()) for ray in (0, 1)]
    assert longest[0] < 0.0105 and longest[1] > 0.025


@pytest.mark.parametrize("counts", [[3, 0, 5, 1], [0, 0], [40]])
def test_composite_and_accumulate_agree_in_values_and_gradients(counts: list[int]):
    samples, n_rays = packed(counts), len(counts)
    alphas = torch.rand(sum(counts), generator=seeded())
    values = torch.rand(sum(counts), 5, generator=seeded(1))
    results = []
    for backend in (CPU, REFERENCE):
        own, colours = leaves(alphas, values)
        weights = backend.composite(own, samples, n_rays)
        sums = backend.accumulate(weights, colours, samples.ray_indices, n_rays)
        (sums * torch.randn(sums.shape, generator=seeded(2))).sum().backward()
        results.append([weights.detach(), sums.detach(), own.grad, colours.grad])
    assert_all_close(*results)


@pytest.mark.parametrize("backend", [CPU, REFERENCE], ids=["cpu", "reference"])
def test_weights_and_what_is_left_sum_to_one(backend):
    samples = packed([4, 0, 7])
    alphas = torch.rand(11, generator=seeded())
    weights = backend.composite(alphas, samples, 3)
    sums = backend.accumulate(weights, torch.ones(11, 1), samples.ray_indices, 3)[:, 0]
    left = [float(part.prod()) for part in (1.0 - alphas).split([4, 0, 7])]
    assert torch.allclose(sums, 1.0 - torch.tensor(left), atol=1e-6)


@pytest.mark.parametrize("backend", [CPU, REFERENCE], ids=["cpu", "reference"])
def test_nothing_is_seen_behind_an_opaque_sample(backend):
    alphas = torch.tensor([0.25, 1.0, 0.5]).requires_grad_()
    weights = backend.composite(alphas, packed([3]), 1)
    assert torch.allclose(weights.detach(), torch.tensor([0.25, 0.75, 0.0]), atol=1e-6)
    weights.sum().backward()
    assert torch.isfinite(alphas.grad).all()


@pytest.mark.parametrize("n_tangents", [0, 3])
@pytest.mark.parametrize("activation", ["relu", "softplus", "squareplus"])
@pytest.mark.parametrize("backend", [CPU, REFERENCE], ids=["cpu", "reference"])
def test_nan_in_a_network_is_nan_in_all_its_outputs(backend, activation, n_tangents: int):
    spec = MlpSpec(16, 16, 16, 1, activation)
    jets, weights = mlp_inputs(spec, MANY, n_tangents)
    weights[:, 0] = float("nan")
    assert torch.isnan(backend.mlp(jets, MANY, weights, spec)[:, 0]).all()


@pytest.mark.parametrize("backend", [CPU, REFERENCE], ids=["cpu", "reference"])
def test_nan_in_a_table_is_nan_in_its_features(backend):
    positions, coefficients, _, table = grid_inputs(SPATIAL, MANY, "random")
    table[:] = float("nan")
    jets = backend.hash_grid(positions, MANY, coefficients, None, table, SPATIAL, 3)
    assert torch.isnan(jets).all()


@pytest.mark.parametrize("backend", [CPU, REFERENCE], ids=["cpu", "reference"])
def test_march_through_nan_ends_without_samples(backend):
    rays = some_rays(FrameSlices.single(0, 8))
    samples = backend.march(rays, sphere_grid(1) * float("nan"), 0.05, 0.02, 3.0, None)
    assert samples.n_samples == 0


@pytest.mark.parametrize("factor", [1.0, 4.0])
@pytest.mark.parametrize("backend", [CPU, REFERENCE], ids=["cpu", "reference"])
def test_march_finds_the_surface_though_the_cache_exaggerates(backend, factor: float):
    rays = some_rays(FrameSlices.single(0, 100))
    samples = backend.march(rays, factor * sphere_grid(1), 0.05, 0.02, 3.0, None)
    closest = (rays.origins - 0.5).cross(rays.directions, dim=1).norm(dim=1)
    hits = (closest < 0.19) & (((0.5 - rays.origins) * rays.directions).sum(1) > 0)
    assert hits.sum() > 20
    assert set(hits.nonzero()[:, 0].tolist()) <= set(samples.ray_indices.tolist())


def test_a_step_leaves_torch_the_threads_it_had():
    before = torch.get_num_threads()
    with CPU.stepping():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
