"""The Triton kernels are the `reference` kernels, in Triton's interpreter.

On a GPU the same comparison is `scripts/gpu_check.py --parts parity`.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from interpreted import EXACT, TritonBackend
from kernel_cases import (
    MANY,
    PLANE,
    assert_all_close,
    grid_inputs,
    grid_outputs,
    leaves,
    mlp_inputs,
    mlp_outputs,
    packed,
    seeded,
    sloped_outputs,
    some_rays,
    sphere_grid,
)

from resfields_ngp.backends import BackendUnavailable, GridSpec, MlpSpec, open_backend
from resfields_ngp.backends.base import pad_inputs
from resfields_ngp.backends.half import gradient_scale
from resfields_ngp.records import FrameSlices, Rays

REFERENCE = open_backend("reference", "cpu")

SPATIAL = GridSpec(2, 2, 2, 7, 4, 2.0)  # a dense level and a hashed one
PLAIN = GridSpec(2, 1, 1, 7, 4, 2.0)
ODD = GridSpec(2, 2, 3, 7, 4, 2.0)  # tiles are powers of two, channels need not be
TEMPORAL = GridSpec(2, 2, 1, 7, 4, 1.5, (1, 3))
FEW = FrameSlices((4, 0, 2), (0, 20, 20, 150))  # one frame without rows, one beyond a tile
CASES = {"random": FEW, "edge": FEW, "one frame": FrameSlices.single(1, 40)}
TOLERANCES = {"float32": 1e-6, "float16": 2e-3, "bfloat16": 3e-2}
"""Relative to the norm: rounding of operands is 5e-4 and 4e-3, through three products."""


def assert_alike(found: list, expected: list, tolerance: float) -> None:
    """Compares tensors by the norm of their difference."""
    for index, (one, other) in enumerate(zip(found, expected, strict=True)):
        assert one.shape == other.shape
        assert (one - other).norm() <= tolerance * other.norm(), index


@pytest.mark.parametrize(
    ("case", "spec", "n_tangents"),
    [
        ("random", SPATIAL, 0),
        ("edge", SPATIAL, 3),
        ("one frame", SPATIAL, 3),
        ("random", TEMPORAL, 3),
        ("edge", TEMPORAL, 0),
        ("random", PLANE, 0),
    ],
)
def test_hash_grid_agrees_in_values_and_gradients(case: str, spec: GridSpec, n_tangents: int):
    inputs = grid_inputs(spec, CASES[case], case)
    found = grid_outputs(EXACT, inputs, CASES[case], spec, n_tangents)
    assert_all_close(found, grid_outputs(REFERENCE, inputs, CASES[case], spec, n_tangents))


def test_outside_the_box_nothing_but_the_levels_own_entries_is_read():
    slices = FrameSlices.single(0, 60)
    _, coefficients, _, _ = grid_inputs(SPATIAL, slices, "random")
    n_entries = SPATIAL.table_shape[0]
    around = torch.full((3 * n_entries, *SPATIAL.table_shape[1:]), float("nan"))
    around[n_entries : 2 * n_entries] = 1.0
    positions = 6.0 * torch.rand(60, 3, generator=seeded()) - 2.5
    jets = EXACT.hash_grid(
        positions, slices, coefficients, None, around[n_entries : 2 * n_entries], SPATIAL, 3
    )
    # Weights add up to one wherever the corners are.
    expected = coefficients.sum(2).repeat_interleave(SPATIAL.n_features_per_level, 1)
    assert torch.allclose(jets[:, 0], expected.expand(60, -1), atol=1e-5)
    assert torch.allclose(jets[:, 1:], torch.zeros(()), atol=1e-4)


@pytest.mark.parametrize("spec", [PLAIN, ODD], ids=["plain", "odd"])
def test_hash_grid_agrees_for_any_number_of_channels_and_features(spec: GridSpec):
    slices = FrameSlices((1, 0), (0, 10, 25))
    inputs = grid_inputs(spec, slices, "random")
    found = grid_outputs(EXACT, inputs, slices, spec, 3)
    assert_all_close(found, grid_outputs(REFERENCE, inputs, slices, spec, 3))


def test_a_hash_grid_without_rows_has_zero_gradients():
    slices = FrameSlices.single(1, 0)
    inputs = grid_inputs(SPATIAL, slices, "empty")
    jets, *gradients = grid_outputs(EXACT, inputs, slices, SPATIAL, 3)
    assert jets.shape == (0, 4, SPATIAL.n_features)
    assert not any(gradient.any() for gradient in gradients)


def test_table_gradient_is_added_to_the_one_that_is_there():
    slices = FrameSlices((1, 0), (0, 10, 25))
    positions, coefficients, _, table = grid_inputs(SPATIAL, slices, "random")
    fresh, own = leaves(table, table)
    own.grad = buffer = torch.ones_like(table)
    for leaf in (fresh, own):
        EXACT.hash_grid(positions, slices, coefficients, None, leaf, SPATIAL, 0).sum().backward()
    assert own.grad is buffer
    assert_all_close([own.grad - 1.0], [fresh.grad])


@pytest.mark.parametrize("n_channels", [4, 64])
def test_a_launch_is_within_cudas_limits_however_many_rows(n_channels: int):
    from resfields_ngp.backends.triton import grid

    spec, slices = GridSpec(12, 2, n_channels, 9, 8, 1.35), FrameSlices.single(0, 1 << 24)
    inputs = [torch.zeros(0)] * 4
    sides, _ = grid._arguments(*inputs, slices, spec)
    assert sides[0] < 1 << 31 and max(sides[1:]) <= 65535
    assert sides[0] == 12 * -(-slices.n_rows // grid.block_rows(spec))


@pytest.mark.parametrize("n_tangents", [0, 3])
@pytest.mark.parametrize("activation", ["relu", "softplus", "squareplus"])
@pytest.mark.parametrize("precision", TOLERANCES)
def test_mlp_agrees_in_values_and_gradients(precision, activation, n_tangents: int):
    spec = MlpSpec(19, 5, 32, 2, activation)
    jets, weights = mlp_inputs(spec, MANY, n_tangents)
    found = mlp_outputs(TritonBackend("cpu", precision), jets, MANY, weights, spec)
    expected = mlp_outputs(REFERENCE, jets, MANY, weights, spec)
    # A unit within rounding of 0 is on one side here and on the other there.
    leap = 5.0 if activation == "relu" and precision != "float32" else 1.0
    assert_alike(found, expected, leap * TOLERANCES[precision])


@pytest.mark.parametrize("n_rows", [0, 1, 64, 201])
@pytest.mark.parametrize("n_hidden_layers", [0, 1, 3])
def test_mlp_agrees_for_any_number_of_rows_and_layers(n_rows: int, n_hidden_layers: int):
    spec = MlpSpec(16, 16, 16, n_hidden_layers)
    slices = FrameSlices((0, 1), (0, n_rows // 3, n_rows))
    jets, weights = mlp_inputs(spec, slices, 3)
    found = mlp_outputs(EXACT, jets, slices, weights, spec)
    assert_alike(found, mlp_outputs(REFERENCE, jets, slices, weights, spec), 1e-6)


@pytest.mark.parametrize("n_neurons", [16, 48, 64, 128])
def test_mlp_agrees_for_any_width(n_neurons: int):
    spec = MlpSpec(27, 17, n_neurons, 1)
    slices = FrameSlices((0, 1), (0, 40, 50))
    jets, weights = mlp_inputs(spec, slices, 3)
    found = mlp_outputs(EXACT, jets, slices, weights, spec)
    assert_alike(found, mlp_outputs(REFERENCE, jets, slices, weights, spec), 1e-6)


@pytest.mark.parametrize("n_tangents", [0, 3])
def test_inputs_may_be_padded_already(n_tangents: int):
    spec = MlpSpec(19, 5, 32, 1)
    jets, weights = mlp_inputs(spec, MANY, n_tangents)
    padded = EXACT.mlp(pad_inputs(jets, 32), MANY, weights, spec)
    assert torch.equal(padded, EXACT.mlp(jets, MANY, weights, spec))


def test_mlp_needs_no_gradient_by_its_inputs():
    spec = MlpSpec(19, 5, 32, 2)
    jets, weights = mlp_inputs(spec, MANY, 3)
    expected = mlp_outputs(EXACT, jets, MANY, weights, spec)[2]
    weights = weights.requires_grad_()
    outputs = EXACT.mlp(jets, MANY, weights, spec)
    (outputs * torch.randn(outputs.shape, generator=seeded(4))).sum().backward()
    assert_alike([weights.grad], [expected], 1e-6)


@pytest.mark.parametrize("activation", ["relu", "softplus", "squareplus"])
@pytest.mark.parametrize("precision", TOLERANCES)
def test_sloped_mlp_agrees_in_values_and_gradients(precision, activation):
    spec = MlpSpec(19, 5, 32, 2, activation)
    jets, weights = mlp_inputs(spec, MANY, 3)
    found = sloped_outputs(TritonBackend("cpu", precision), jets, MANY, weights, spec)
    expected = sloped_outputs(REFERENCE, jets, MANY, weights, spec)
    # As above; the slope itself leaps there.
    leap = 10.0 if activation == "relu" and precision != "float32" else 1.0
    assert_alike(found, expected, leap * TOLERANCES[precision])


@pytest.mark.parametrize("n_rows", [0, 1, 201])
@pytest.mark.parametrize(
    ("n_inputs", "n_neurons", "n_hidden_layers"),
    [(16, 16, 0), (6, 48, 1), (40, 64, 1), (19, 32, 3)],
)
def test_sloped_mlp_agrees_for_any_shape(n_rows, n_inputs, n_neurons, n_hidden_layers):
    spec = MlpSpec(n_inputs, 5, n_neurons, n_hidden_layers)
    slices = FrameSlices((0, 1, 2), (0, n_rows // 3, n_rows // 3, n_rows))
    jets, weights = mlp_inputs(spec, slices, 3)
    found = sloped_outputs(EXACT, jets, slices, weights, spec)
    assert_alike(found, sloped_outputs(REFERENCE, jets, slices, weights, spec), 2e-6)


def test_sloped_mlp_gives_the_gradients_that_are_wanted():
    spec = MlpSpec(19, 5, 32, 2)
    jets, weights = mlp_inputs(spec, MANY, 3)
    expected = sloped_outputs(EXACT, jets, MANY, weights, spec)[2:]
    for wanted in ((False, True), (True, False), (False, False)):
        features, others, own = leaves(jets[:, :, :6], jets[:, :, 6:], weights)
        features.requires_grad_(wanted[0]), others.requires_grad_(wanted[1])
        outputs = EXACT.sloped_mlp(features, others, MANY, own, spec)
        sum((f * torch.randn(f.shape, generator=seeded(4))).sum() for f in outputs).backward()
        found = [each.grad for each in (features, others, own)]
        assert [each is not None for each in found] == [*wanted, True]
        pairs = [(f, e) for f, e in zip(found, expected, strict=True) if f is not None]
        assert_alike(*map(list, zip(*pairs, strict=True)), 1e-6)


@pytest.mark.parametrize("sizes", [(1e-9, 1e-9), (1e6, 1e6), (1.0, 1e-4), (1e-4, 1.0)])
def test_half_precision_gradients_of_slopes_keep_their_size(sizes: tuple[float, float]):
    spec = MlpSpec(19, 5, 32, 1)
    jets, weights = mlp_inputs(spec, MANY, 3)
    gradients = []
    for backend in (TritonBackend("cpu"), REFERENCE):
        features, others, own = leaves(jets[:, :, :6], jets[:, :, 6:], weights)
        found = backend.sloped_mlp(features, others, MANY, own, spec)
        sum(f.sum() * size for f, size in zip(found, sizes, strict=True)).backward()
        gradients.append([features.grad, others.grad, own.grad])
    assert_alike(*gradients, TOLERANCES["float16"])


@pytest.mark.parametrize("size", [1e-9, 1e6])
def test_half_precision_gradients_keep_their_size(size: float):
    spec = MlpSpec(19, 5, 32, 1)
    jets, weights = mlp_inputs(spec, MANY, 3)
    gradients = []
    for backend in (TritonBackend("cpu"), REFERENCE):
        own = weights.clone().requires_grad_()
        (backend.mlp(jets, MANY, own, spec) * size).sum().backward()
        gradients.append(own.grad)
    assert_alike(gradients[:1], gradients[1:], TOLERANCES["float16"])


def test_the_gradients_scale_is_a_power_of_two_that_brings_the_largest_near_16():
    for largest in (3e-12, 1.0, 7e5):
        scale = gradient_scale(torch.tensor([0.0, -largest]))
        assert 8.0 < scale * largest <= 16.0 and torch.log2(scale) == torch.log2(scale).round()
    assert gradient_scale(torch.zeros(3)).isfinite() and gradient_scale(torch.zeros(0)) == 1.0


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_inputs_too_large_for_half_precision_saturate():
    spec = MlpSpec(16, 16, 16, 1)
    jets, weights = mlp_inputs(spec, FrameSlices.single(0, 3), 3)
    outputs = TritonBackend("cpu").mlp(1e6 * jets, FrameSlices.single(0, 3), weights[:1], spec)
    assert outputs.isfinite().all()


@pytest.mark.parametrize("activation", ["relu", "softplus", "squareplus"])
def test_nan_in_a_network_is_nan_in_all_its_outputs(activation):
    spec = MlpSpec(16, 16, 16, 1, activation)
    jets, weights = mlp_inputs(spec, MANY, 3)
    weights[:, 0] = float("nan")
    assert torch.isnan(TritonBackend("cpu").mlp(jets, MANY, weights, spec)[:, 0]).all()


@pytest.mark.parametrize(("stretch", "has_jitter"), [(1.0, True), (3.0, False)])
def test_march_agrees(stretch: float, has_jitter: bool):
    rays = some_rays(FrameSlices((2, 0, 1), (0, 10, 10, 150)))
    jitter = torch.rand(150, generator=seeded(2)) if has_jitter else None
    found, expected = (
        backend.march(rays, sphere_grid(3), 0.1, 0.05, stretch, jitter)
        for backend in (EXACT, REFERENCE)
    )
    # A step that ends within rounding of the band's edge may fall on either side of it.
    counts = [torch.bincount(s.ray_indices, minlength=150) for s in (found, expected)]
    same = counts[0] == counts[1]
    assert same.float().mean() > 0.97 and (counts[0] - counts[1]).abs().max() <= 1
    assert (counts[0][::4] == 0).all() and (counts[0] > 0).sum() > 80
    assert found.slices.frames == (2, 0, 1)
    assert found.slices.offsets[1:3] == (int(counts[0][:10].sum()),) * 2
    for name in ("t_starts", "t_ends"):
        one, other = getattr(found, name), getattr(expected, name)
        kept = one[same[found.ray_indices]], other[same[expected.ray_indices]]
        assert torch.allclose(*kept, rtol=0, atol=1e-2)


def test_march_without_rays_or_without_surface_is_empty():
    grid = sphere_grid(1)
    for n_rays, distances in ((0, grid), (8, grid + 5.0), (8, grid * float("nan"))):
        rays = some_rays(FrameSlices.single(0, n_rays))
        samples = EXACT.march(rays, distances, 0.05, 0.02, 3.0, None)
        assert samples.n_samples == 0 and samples.slices.offsets == (0, 0)


def test_march_reads_half_precision_distances():
    rays = some_rays(FrameSlices.single(0, 40))
    found, expected = (
        EXACT.march(rays, sphere_grid(1).to(kind), 0.05, 0.02, 1.0, None).n_samples
        for kind in (torch.float16, torch.float32)
    )
    assert abs(found - expected) <= 0.05 * expected and expected > 100


@pytest.mark.parametrize("counts", [[3, 0, 5, 1], [0, 0], [40], [2] * 140])
def test_composite_and_accumulate_agree_in_values_and_gradients(counts: list[int]):
    samples, n_rays = packed(counts), len(counts)
    alphas = torch.rand(sum(counts), generator=seeded())
    values = torch.rand(sum(counts), 5, generator=seeded(1))
    results = []
    for backend in (EXACT, REFERENCE):
        own, colours = leaves(alphas, values)
        weights = backend.composite(own, samples, n_rays)
        sums = backend.accumulate(weights, colours, samples.ray_indices, n_rays)
        (sums * torch.randn(sums.shape, generator=seeded(2))).sum().backward()
        results.append([weights.detach(), sums.detach(), own.grad, colours.grad])
    assert_all_close(*results)


def test_nothing_is_seen_behind_an_opaque_sample():
    alphas = torch.tensor([0.25, 1.0, 0.5]).requires_grad_()
    weights = EXACT.composite(alphas, packed([3]), 1)
    assert torch.allclose(weights.detach(), torch.tensor([0.25, 0.75, 0.0]), atol=1e-6)
    weights.sum().backward()
    assert torch.isfinite(alphas.grad).all()


def test_no_rays_are_no_pixels():
    rays = Rays(torch.zeros(0, 3), torch.zeros(0, 3), FrameSlices.single(0, 0))
    samples = EXACT.march(rays, sphere_grid(1), 0.05, 0.02, 3.0, None)
    assert EXACT.composite(torch.zeros(0), samples, 0).shape == (0,)
    assert EXACT.accumulate(torch.zeros(0), torch.zeros(0, 4), samples.ray_indices, 0).shape == (
        0,
        4,
    )


def test_on_a_gpu_it_needs_a_c_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path):
    assert TritonBackend("cuda").device.type == "cuda"
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BackendUnavailable, match="no C compiler; .*: apt-get install gcc"):
        TritonBackend("cuda")


def test_on_a_cpu_it_runs_in_the_interpreter_only():
    line = "from resfields_ngp.backends.triton import TritonBackend; TritonBackend('cpu')"
    environment = {**os.environ, "TRITON_INTERPRET": "0"}
    done = subprocess.run(
        [sys.executable, "-c", line], env=environment, capture_output=True, text=True, check=False
    )
    assert BackendUnavailable.__name__ in done.stderr.splitlines()[-1]
    assert "TRITON_INTERPRET=1" in done.stderr.splitlines()[-1]
