"""Triton's networks are the `reference` networks, in the interpreter; see `test_triton`."""

from __future__ import annotations

import pytest
import torch
from interpreted import EXACT, TritonBackend
from kernel_cases import (
    MANY,
    assert_alike,
    leaves,
    mlp_inputs,
    mlp_outputs,
    mlp_weights_gradient,
    seeded,
    sloped_outputs,
)

from resfields_ngp.backends import MlpSpec, open_backend
from resfields_ngp.backends.half import gradient_scale
from resfields_ngp.backends.specs import pad_inputs
from resfields_ngp.records import FrameSlices

REFERENCE = open_backend("reference", "cpu")
TOLERANCES = {"float32": 1e-6, "float16": 2e-3, "bfloat16": 3e-2}
"""Relative to the norm: rounding of operands is 5e-4 and 4e-3, through three products."""


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
    found = mlp_weights_gradient(EXACT, jets, MANY, weights, spec)
    assert_alike([found], [expected], 1e-6)


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


@pytest.mark.parametrize("powers", [(-9, -6, -3, 0, 3), (3, 0, -3, -6, -9), (0, 3, -9, 5, -2)])
@pytest.mark.parametrize("n_tangents", [0, 3, None])
def test_half_precision_gradients_may_grow_from_tile_to_tile(powers, n_tangents: int | None):
    """Each program scales by the largest that it has met: what was summed before is brought along.

    None stands for slopes. Where gradients only grow, the smallest are as exact as the largest.
    """
    spec, slices = MlpSpec(19, 5, 32, 1), FrameSlices.single(0, 640)
    jets, weights = mlp_inputs(spec, slices, n_tangents or 3)
    jets = jets[:, : 1 + (3 if n_tangents is None else n_tangents)]
    sizes = torch.tensor([0.0, *(10.0**power for power in powers)]).repeat_interleave(128)[-640:]
    sizes[:32] = 0.0  # a tile without any
    by_jets, by_weights = [], []
    for backend in (TritonBackend("cpu"), REFERENCE):
        inputs, own = leaves(jets, weights)
        if n_tangents is None:
            parts = inputs[:, :, :6], inputs[:, :, 6:]
            outputs = torch.cat(backend.sloped_mlp(*parts, slices, own, spec), dim=1)
        else:
            outputs = backend.mlp(inputs, slices, own, spec).flatten(1)
        (outputs * sizes[:, None]).sum().backward()
        by_weights.append(own.grad)
        by_jets.append(inputs.grad)
    assert_alike(by_weights[:1], by_weights[1:], TOLERANCES["float16"])
    if powers == tuple(sorted(powers)):
        found, expected = (each.split(128) for each in by_jets)
        assert_alike(list(found), list(expected), TOLERANCES["float16"])


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
