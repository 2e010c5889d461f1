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
    PLANE,
    assert_all_close,
    grid_inputs,
    grid_outputs,
    leaves,
    packed,
    seeded,
    some_rays,
    sphere_grid,
)

from resfields_ngp.backends import BackendUnavailable, GridSpec, open_backend
from resfields_ngp.records import FrameSlices, Rays

REFERENCE = open_backend("reference", "cpu")

SPATIAL = GridSpec(2, 2, 2, 7, 4, 2.0)  # a dense level and a hashed one
PLAIN = GridSpec(2, 1, 1, 7, 4, 2.0)
ODD = GridSpec(2, 2, 3, 7, 4, 2.0)  # tiles are powers of two, channels need not be
TEMPORAL = GridSpec(2, 2, 1, 7, 4, 1.5, (1, 3))
FEW = FrameSlices((4, 0, 2), (0, 20, 20, 150))  # one frame without rows, one beyond a tile
CASES = {"random": FEW, "edge": FEW, "one frame": FrameSlices.single(1, 40)}


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


def test_a_triton_that_cannot_compile_the_kernels_is_refused():
    line = (
        "import triton; triton.__version__ = '3.4.0'; "
        "from resfields_ngp.backends import BackendUnavailable, open_backend\n"
        "try: open_backend('triton', 'cuda')\n"
        "except BackendUnavailable as error: print(error)\n"
    )
    has_gpu = "import torch; torch.cuda.is_available = lambda: True; "
    done = subprocess.run([sys.executable, "-c", has_gpu + line], capture_output=True, text=True)
    assert "triton 3.4.0 is older than 3.5" in done.stdout, done.stderr
