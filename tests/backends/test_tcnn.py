"""The tcnn adapter against stand-ins that compute what tiny-cuda-nn and nerfacc document."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from kernel_cases import (
    MANY,
    assert_all_close,
    grid_inputs,
    grid_outputs,
    leaves,
    mlp_inputs,
    mlp_outputs,
    packed,
    seeded,
    some_rays,
    sphere_grid,
)
from stand_ins import nerfacc, tinycudann

from resfields_ngp.backends import BackendUnavailable, GridSpec, MlpSpec, open_backend
from resfields_ngp.backends import tcnn as adapter
from resfields_ngp.backends.specs import pad_inputs
from resfields_ngp.backends.tcnn import TETRAHEDRON, TcnnBackend, network_steps
from resfields_ngp.backends.tcnn_layout import finest_step
from resfields_ngp.records import FrameSlices

REFERENCE = open_backend("reference", "cpu")
SPATIAL = GridSpec(3, 2, 4, 7, 4, 2.0)
TEMPORAL = GridSpec(2, 2, 1, 7, 4, 1.5, (1, 3))


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> TcnnBackend:
    modules = {
        "tinycudann": tinycudann(),
        "nerfacc": nerfacc(),
        "nerfacc.cuda._backend": SimpleNamespace(_C=object()),
    }
    monkeypatch.setattr(adapter.importlib, "import_module", modules.__getitem__)
    return TcnnBackend("cpu")


@pytest.mark.parametrize(
    "spec",
    [SPATIAL, GridSpec(2, 2, 3, 7, 4, 2.0), GridSpec(2, 4, 5, 7, 4, 2.0), TEMPORAL],
    ids=["one group", "odd channels", "three groups", "4d"],
)
def test_hash_grid_agrees_in_values_and_gradients(backend, spec: GridSpec):
    inputs = grid_inputs(spec, MANY, "random")
    found = grid_outputs(backend, inputs, MANY, spec, 0)
    assert_all_close(found, grid_outputs(REFERENCE, inputs, MANY, spec, 0))


def test_one_launch_serves_all_frames_on_padded_rows(backend):
    positions, coefficients, _, table = grid_inputs(SPATIAL, MANY, "random")
    backend.hash_grid(positions, MANY, coefficients, None, table, SPATIAL, 0)
    assert backend._encoding(SPATIAL, 8).launches == [256]
    backend.hash_grid(positions, MANY, coefficients, None, table, SPATIAL, 3)
    assert backend._encoding(SPATIAL, 8).launches == [256, 256, 512]  # 90 and 360 taps


def test_derivatives_of_linear_features_are_exact(backend):
    spec = GridSpec(1, 1, 1, 9, 6, 2.0)
    (resolution,), (scale,) = spec.resolutions, spec.scales
    x, y, z = torch.meshgrid(*[(torch.arange(resolution) - 0.5) / scale] * 3, indexing="ij")
    linear = (3.0 * x - 2.0 * y + 0.5 * z).permute(2, 1, 0).flatten()  # x fastest
    table = torch.zeros(spec.table_shape)
    table[: len(linear), 0, 0] = linear
    # Taps are 0.1 away, and the last cell's far vertices are not in the table.
    positions = 0.15 + 0.6 * torch.rand(20, 3, generator=seeded())
    slices = FrameSlices.single(0, 20)
    jets = backend.hash_grid(positions, slices, torch.ones(1, 1, 1), None, table, spec, 3)
    assert torch.allclose(jets[:, 1:, 0], torch.tensor([3.0, -2.0, 0.5]), atol=1e-4)
    assert torch.allclose(jets[:, 0, 0], positions @ torch.tensor([3.0, -2.0, 0.5]), atol=1e-5)


def test_taps_stay_within_the_box(backend):
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3)
    slices = FrameSlices.single(0, 8)
    _, coefficients, _, table = grid_inputs(SPATIAL, slices, "random")
    step = finest_step(coefficients, SPATIAL)
    found = backend.hash_grid(corners, slices, coefficients, None, table, SPATIAL, 3)
    inner = corners.clamp(float(step), 1.0 - float(step))
    expected = backend.hash_grid(inner, slices, coefficients, None, table, SPATIAL, 3)
    assert torch.allclose(found[:, 1:], expected[:, 1:], atol=1e-5)


def test_the_step_shrinks_as_levels_are_released():
    coefficients = torch.ones(2, 3, 4)
    steps = []
    for n_active in (1, 2, 3):
        active = coefficients.clone()
        active[:, n_active:] = 0.0
        steps.append(float(finest_step(active, SPATIAL)))
    assert steps == pytest.approx([0.5 / scale for scale in SPATIAL.scales])


def test_tetrahedral_differences_of_a_linear_function_are_its_gradient():
    corners = torch.tensor(TETRAHEDRON, dtype=torch.float32)
    assert torch.equal(corners.T @ corners, 4.0 * torch.eye(3))
    assert not corners.sum(0).any()


@pytest.mark.parametrize("n_tangents", [0, 3])
@pytest.mark.parametrize("n_neurons", [32, 48])
@pytest.mark.parametrize("n_hidden_layers", [0, 1, 2])
def test_mlp_agrees_in_values_and_gradients(backend, n_tangents, n_neurons, n_hidden_layers):
    spec = MlpSpec(19, 5, n_neurons, n_hidden_layers, "squareplus")
    jets, weights = mlp_inputs(spec, MANY, n_tangents)
    found = mlp_outputs(backend, jets, MANY, weights, spec)
    expected = mlp_outputs(REFERENCE, jets, MANY, weights, spec)
    # Halves as outputs, differences as derivatives over 0.01: 5e-4 / 0.01 of their scale.
    for one, other in zip(found, expected, strict=True):
        assert (one - other).norm() < (0.06 if n_tangents else 2e-3) * other.norm()


@pytest.mark.parametrize("n_tangents", [0, 3])
def test_inputs_may_be_padded_already(backend, n_tangents: int):
    spec = MlpSpec(19, 5, 32, 1)
    jets, weights = mlp_inputs(spec, MANY, n_tangents)
    padded = backend.mlp(pad_inputs(jets, 32), MANY, weights, spec)
    assert torch.equal(padded, backend.mlp(jets, MANY, weights, spec))


def test_each_frame_is_one_launch_on_padded_rows(backend):
    spec = MlpSpec(19, 5, 32, 1)
    slices = FrameSlices((4, 0, 2), (0, 30, 30, 330))
    jets, weights = mlp_inputs(spec, slices, 0)
    backend.mlp(jets, slices, weights, spec)
    assert backend._network(spec, 19).launches == [256, 512]


@pytest.mark.parametrize("n_tangents", [0, 3])
def test_no_rows_have_zero_gradients(backend, n_tangents):
    slices, spec = FrameSlices.single(1, 0), MlpSpec(19, 5, 32, 1)
    jets, weights = mlp_inputs(spec, slices, n_tangents)
    outputs, _, gradients = mlp_outputs(backend, jets, slices, weights, spec)
    assert outputs.shape == (0, 1 + n_tangents, 5) and not gradients.any()
    inputs = grid_inputs(SPATIAL, slices, "empty")
    assert not grid_outputs(backend, inputs, slices, SPATIAL, n_tangents)[3].any()


def test_gradients_too_small_for_half_precision_survive(backend):
    spec = MlpSpec(19, 5, 32, 1)
    jets, weights = mlp_inputs(spec, MANY, 0)
    gradients = []
    for other in (backend, REFERENCE):
        (own,) = leaves(weights)
        (other.mlp(jets, MANY, own, spec) * 1e-9).sum().backward()
        gradients.append(own.grad)
    assert (gradients[0] - gradients[1]).norm() < 2e-3 * gradients[1].norm()


@pytest.mark.parametrize("supports", [True, False])
def test_jit_fusion_is_on_where_it_can_be(backend, supports: bool):
    backend._tcnn = tinycudann(supports)
    network = backend._network(MlpSpec(19, 5, 32, 1, "relu"), 19)
    assert network.jit_fusion is supports and network.loss_scale == 1.0
    # Fused, other activations have wrong gradients.
    assert not backend._network(MlpSpec(19, 5, 32, 1, "squareplus"), 19).jit_fusion
    assert getattr(backend._encoding(SPATIAL, 4), "jit_fusion", False) is supports


@pytest.mark.parametrize("is_writable", [True, False])
def test_compiled_kernels_are_kept_where_the_environment_says(monkeypatch, tmp_path, is_writable):
    folders: list[str] = []

    def set_folder(folder: str) -> None:
        if not is_writable:
            raise OSError("Invalid RTC cache directory")
        folders.append(folder)

    monkeypatch.setenv("TCNN_CACHE_DIR", str(tmp_path / "cache"))
    modules = SimpleNamespace(rtc_set_cache_dir=set_folder)
    adapter._keep_kernels(SimpleNamespace(modules=modules))
    assert folders == [str(tmp_path / "cache")] * is_writable and (tmp_path / "cache").is_dir()
    adapter._keep_kernels(SimpleNamespace())  # a version without


def test_another_layout_of_parameters_is_refused(backend):
    with pytest.raises(BackendUnavailable, match="lays out 3 parameters .* expects 4"):
        backend._made(SimpleNamespace(params=torch.zeros(3)), 4)


@pytest.mark.parametrize("has_jitter", [False, True])
def test_march_keeps_the_band_of_every_frame_and_nothing_behind(backend, has_jitter: bool):
    rays = some_rays(FrameSlices((2, 0, 1), (0, 10, 10, 30)))
    jitter = torch.rand(30, generator=seeded(2)) if has_jitter else None
    found, expected = (
        other.march(rays, sphere_grid(3), 0.05, 0.02, 1.0, jitter) for other in (backend, REFERENCE)
    )
    assert found.slices.frames == (2, 0, 1)
    offsets = torch.searchsorted(found.ray_indices, torch.tensor([0, 10, 10, 30])).tolist()
    assert list(found.slices.offsets) == offsets
    assert set(expected.ray_indices.tolist()) == set(found.ray_indices.tolist())
    assert (found.ray_indices.diff() >= 0).all()
    assert torch.allclose(found.t_ends - found.t_starts, torch.tensor(0.02), atol=1e-5)
    # Both keep the way through the band, in other places: as long, up to a step at either end.
    lengths = [
        torch.zeros(30).index_add(0, s.ray_indices, s.t_ends - s.t_starts)
        for s in (found, expected)
    ]
    assert ((lengths[0] - lengths[1]).abs() <= 0.045).all() and lengths[1].max() > 0.08


def test_march_without_rays_is_empty(backend):
    samples = backend.march(
        some_rays(FrameSlices.single(0, 0)), sphere_grid(1), 0.05, 0.02, 1, None
    )
    assert samples.n_samples == 0 and samples.slices.offsets == (0, 0)


@pytest.mark.parametrize("counts", [[3, 0, 5, 1], [0, 0], [40]])
def test_composite_and_accumulate_agree_in_values_and_gradients(backend, counts: list[int]):
    samples, n_rays = packed(counts), len(counts)
    alphas = torch.rand(sum(counts), generator=seeded())
    values = torch.rand(sum(counts), 5, generator=seeded(1))
    results = []
    for other in (backend, REFERENCE):
        own, colours = leaves(alphas, values)
        weights = other.composite(own, samples, n_rays)
        sums = other.accumulate(weights, colours, samples.ray_indices, n_rays)
        (sums * torch.randn(sums.shape, generator=seeded(2))).sum().backward()
        results.append([weights.detach(), sums.detach(), own.grad, colours.grad])
    assert_all_close(*results)


def test_nothing_is_seen_behind_an_opaque_sample(backend):
    alphas = torch.tensor([0.25, 1.0, 0.5]).requires_grad_()
    weights = backend.composite(alphas, packed([3]), 1)
    assert torch.allclose(weights.detach(), torch.tensor([0.25, 0.75, 0.0]), atol=1e-5)
    weights.sum().backward()
    assert torch.isfinite(alphas.grad).all()


@pytest.mark.parametrize("magnitude", [0.3, 10.0, 300.0])
def test_networks_derivatives_are_as_good_however_fast_inputs_change(backend, magnitude: float):
    spec = MlpSpec(19, 5, 32, 2, "squareplus")
    jets, weights = mlp_inputs(spec, MANY, 3)
    jets[:, 1:] *= magnitude
    found, expected = (
        other.mlp(jets, MANY, weights, spec)[:, 1:] for other in (backend, REFERENCE)
    )
    assert (found - expected).norm() < 0.05 * expected.norm()


def test_taps_of_inputs_that_do_not_change_are_where_numbers_are_still_finite():
    steps = network_steps(torch.zeros(4, 3, 5))
    assert steps.isfinite().all() and steps.shape == (4, 1, 1)


@pytest.mark.parametrize("n_rows", [4096, 65536])
def test_weights_gradients_of_many_rows_fit_into_half_precision(backend, n_rows: int):
    spec, generator = MlpSpec(18, 3, 64, 1), seeded()
    jets = 0.5 * torch.randn(n_rows, 1, 18, generator=generator)
    weights = torch.randn(1, spec.n_weights, generator=generator) / 8.0
    # As of a picture that is too dark everywhere: gradients of one sign, of very different sizes.
    pulls = torch.rand(n_rows, 1, 1, generator=generator) ** 3
    gradients = []
    for other in (backend, REFERENCE):
        (own,) = leaves(weights)
        (other.mlp(jets, FrameSlices.single(0, n_rows), own, spec) * pulls).sum().backward()
        gradients.append(own.grad)
    assert gradients[0].isfinite().all()
    assert (gradients[0] - gradients[1]).norm() < 0.01 * gradients[1].norm()


def test_gradients_reach_the_kernels_contiguous_however_they_come(backend):
    spec, slices = MlpSpec(32, 16, 32, 1), FrameSlices.single(0, 256)
    jets, weights = mlp_inputs(spec, slices, 0)
    positions, coefficients, _, table = grid_inputs(SPATIAL, slices, "random")
    found = []
    for other in (backend, REFERENCE):
        own, entries = leaves(weights, table)
        outputs = other.mlp(jets, slices, own, spec)
        features = other.hash_grid(positions, slices, coefficients, None, entries, SPATIAL, 0)
        for each in (outputs, features):  # column by column
            pulls = torch.randn(each.shape[::-1], generator=seeded()).permute(2, 1, 0)
            each.backward(pulls)
        found.append([own.grad, entries.grad])
    for one, other in zip(*found, strict=True):
        assert (one - other).norm() < 5e-3 * other.norm()
