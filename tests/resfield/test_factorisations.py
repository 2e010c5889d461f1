"""Every form of the residual against its dense formula over the full tensor, and its laws."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from resfields_ngp.backends import MlpSpec, open_backend
from resfields_ngp.config_tree import ConfigError
from resfields_ngp.mlp import ResFieldMlp
from resfields_ngp.records import FrameSlices
from resfields_ngp.resfield import (
    FACTORISATIONS,
    ResFieldConfig,
    ResidualWeights,
    knot_weights,
    residual_weights,
)

N_FRAMES = 6
SPEC = MlpSpec(5, 3, 8, 2)
FRAMES = (4, 0, 5)
BACKENDS = [open_backend(name, "cpu") for name in ("reference", "cpu")]

each_form = pytest.mark.parametrize("form", FACTORISATIONS)
each_fusion = pytest.mark.parametrize("fusion", ["add", "multiply"])
each_mode = pytest.mark.parametrize("mode", ["lookup", "interpolation"])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_weights(form: str, n_frames: int = N_FRAMES, **settings) -> ResidualWeights:
    """Returns weights with every parameter random."""
    config = ResFieldConfig(**({"rank": 3, "factorisation": form} | settings))
    initial = torch.randn(SPEC.n_weights, generator=seeded(1))
    weights = residual_weights(initial, SPEC, n_frames, config, seeded())
    for parameter in weights.parameters():
        parameter.data.normal_(0.0, 0.5, generator=seeded(2))
    return weights


def over_time(weights: ResidualWeights) -> Tensor:
    """Returns (n_frames, n_knots) written out: what each frame takes from each knot."""
    n_knots = weights.coefficients.knots.shape[0]
    if weights.config.factorisation == "loe":
        return torch.eye(n_knots).repeat_interleave(N_FRAMES // n_knots, 0)
    return knot_weights(N_FRAMES, n_knots)


def matrices(factors: list[Tensor], weights: ResidualWeights) -> Tensor:
    """Returns (n_frames, P) from the dense (n_frames, out, in) tensor of each chosen layer."""
    dense = torch.zeros(N_FRAMES, SPEC.n_weights)
    for layer, tensor in zip(weights.layers, factors, strict=True):
        dense[:, SPEC.offsets[layer] : SPEC.offsets[layer + 1]] = tensor.reshape(N_FRAMES, -1)
    return dense


def dense_residuals(weights: ResidualWeights) -> Tensor:
    """Returns (n_frames, P): the whole tensor over time by einsum, independent of the module."""
    form, knots = weights.config.factorisation, weights.coefficients.knots
    time = over_time(weights)
    chosen = torch.zeros(SPEC.n_weights)
    for layer in weights.layers:
        chosen[SPEC.offsets[layer] : SPEC.offsets[layer + 1]] = 1.0
    if form == "vm":
        return torch.einsum("tk,kr,rp,p->tp", time, knots, weights.spanning, chosen)
    if form == "vm_attention":
        keys = weights.coefficients.keys
        likeness = torch.exp(torch.einsum("kr,lr->kl", keys, keys) / 3.0)
        attention = likeness / likeness.sum(1, keepdim=True)
        spanning = weights.spanning
        return torch.einsum("tk,kl,lr,rp,p->tp", time, attention, knots, spanning, chosen)
    if form in ("none", "loe"):
        return torch.einsum("tk,kp,p->tp", time, knots, chosen)
    pairs = zip(weights.rows, weights.columns, strict=True)
    if form == "cp":
        parts = [torch.einsum("tk,kr,ro,ri->toi", time, knots, a, b) for a, b in pairs]
        return matrices(parts, weights)
    parts = [
        torch.einsum("tk,ka,abc,bo,ci->toi", time, knots, core, a, b)
        for core, (a, b) in zip(weights.cores, pairs, strict=True)
    ]
    return matrices(parts, weights)


@each_mode
@each_fusion
@pytest.mark.parametrize("layers", [(), (1,), (0, 2)])
@pytest.mark.parametrize("form", [form for form in FACTORISATIONS if form != "resnet"])
def test_weights_and_gradients_equal_the_dense_formula(form, layers, fusion, mode):
    if form == "loe" and mode == "interpolation":
        return
    weights = make_weights(form, layers=layers, fusion=fusion, coefficients=mode)
    dense = dense_residuals(weights)[list(FRAMES)]
    expected = weights.base + dense if fusion == "add" else weights.base + weights.base * dense
    found = weights(FRAMES)
    assert found.shape == (3, SPEC.n_weights)
    assert torch.allclose(found, expected, atol=1e-5)

    probe = torch.randn(found.shape, generator=seeded(3))
    parameters = list(weights.parameters())
    own = torch.autograd.grad((found * probe).sum(), parameters)
    other = torch.autograd.grad((expected * probe).sum(), parameters)
    for one, two in zip(own, other, strict=True):
        assert torch.allclose(one, two, atol=1e-4)


@each_mode
@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
@pytest.mark.parametrize("layers", [(), (1,), (0, 2)])
@pytest.mark.parametrize("activation", ["squareplus", "softplus", "relu"])
def test_frame_biases_are_biases(activation: str, layers, backend, mode):
    spec = MlpSpec(5, 3, 8, 2, activation)
    config = ResFieldConfig(rank=1, layers=layers, factorisation="resnet", coefficients=mode)
    network = ResFieldMlp(spec, N_FRAMES, config, seeded())
    weights = network.weights
    weights.coefficients.knots.data.normal_(generator=seeded(2))
    inputs = torch.randn(9, 5, generator=seeded(3))
    found = network(inputs[:, None], FrameSlices((4, 1), (0, 4, 9)), backend)[:, 0]

    act = {
        "relu": torch.relu,
        "softplus": lambda x: torch.log1p(torch.exp(10.0 * x)) / 10.0,
        "squareplus": lambda x: 0.5 * (x + torch.sqrt(x * x + 0.04)),
    }[activation]
    rows = torch.einsum("tk,kb->tb", over_time(weights), weights.coefficients.knots)
    expected = []
    for i, row in enumerate(inputs):
        hidden, biases = torch.cat([row, torch.ones(11)]), rows[4 if i < 4 else 1]
        for layer, (height, width) in enumerate(spec.shapes):
            begin, end = spec.offsets[layer], spec.offsets[layer + 1]
            out = weights.base[begin:end].view(height, width) @ hidden
            n_real = height if layer == 2 else height - 1
            out = out[:n_real]
            if layer in weights.layers:
                out, biases = out + biases[:n_real], biases[n_real:]
            hidden = out if layer == 2 else torch.cat([act(out), torch.ones(1)])
        expected.append(hidden[:3])
    assert torch.allclose(found, torch.stack(expected), atol=1e-5)
    own = torch.autograd.grad(found.square().sum(), list(network.parameters()))
    other = torch.autograd.grad(torch.stack(expected).square().sum(), list(network.parameters()))
    for one, two in zip(own, other, strict=True):
        assert torch.allclose(one, two, atol=1e-3)


@each_form
def test_zero_coefficients_equal_the_static_vector(form: str):
    weights = make_weights(form)
    weights.coefficients.knots.data.zero_()
    found = weights((1, 4))
    assert torch.equal(found[0], found[1])
    if form != "resnet":
        assert torch.equal(found[0], weights.base)


@each_form
@pytest.mark.parametrize(("rank", "n_frames"), [(0, 5), (3, 1)])
def test_without_residuals_the_vector_is_static(form: str, rank: int, n_frames: int):
    weights = make_weights(form, n_frames, rank=rank)
    assert [name for name, _ in weights.named_parameters()] == ["base"]
    assert torch.equal(weights((0, 0)), weights.base.expand(2, -1))


@each_form
def test_weights_of_other_layers_never_change_over_time(form: str):
    weights = make_weights(form, layers=(1,))
    found = weights(tuple(range(N_FRAMES)))
    chosen = torch.zeros(SPEC.n_weights, dtype=torch.bool)
    chosen[SPEC.offsets[1] : SPEC.offsets[2]] = True
    assert not found[:, ~chosen].std(0).any() and found[:, chosen].std(0).any()


@pytest.mark.parametrize("form", [f for f in FACTORISATIONS if f not in ("loe", "vm_attention")])
def test_a_frame_has_gradients_by_its_own_row_only(form: str):
    weights = make_weights(form)
    weights((2,)).square().sum().backward()
    touched = weights.coefficients.knots.grad.abs().sum(1) > 0
    assert touched.tolist() == [i == 2 for i in range(N_FRAMES)]


def test_frames_of_a_segment_share_one_vector():
    found = make_weights("loe")(tuple(range(N_FRAMES)))
    assert torch.equal(found[0::2], found[1::2])
    assert not torch.equal(found[0], found[2]) and not torch.equal(found[2], found[4])


def test_the_default_forms_checkpoint_is_what_it_was():
    shapes = {name: tuple(p.shape) for name, p in make_weights("vm").state_dict().items()}
    n_weights = SPEC.n_weights
    assert shapes == {
        "base": (n_weights,),
        "coefficients.knots": (N_FRAMES, 3),
        "spanning": (3, n_weights),
    }


@pytest.mark.parametrize("form", ["vm", "vm_attention", "loe", "tucker"])
def test_more_rows_than_frames_are_not_made(form: str):
    assert make_weights(form, n_frames=2, rank=8).rank == 2


@pytest.mark.parametrize(
    ("form", "most"), [("vm", 64), ("cp", 64), ("loe", 64), ("vm_attention", 64), ("tucker", 8)]
)
def test_a_rank_above_what_the_layer_allows_is_refused(form: str, most: int):
    make_weights(form, rank=most)
    expected = rf"residual\.rank is {most + 1}; {form} on layer .* allows 0 to {most}"
    with pytest.raises(ConfigError, match=expected):
        make_weights(form, rank=most + 1)


@each_form
def test_more_knots_than_frames_are_refused(form: str):
    if form == "loe":
        return
    with pytest.raises(ConfigError, match=r"n_knots is 7; allowed: 1 to the number of frames, 6"):
        make_weights(form, coefficients="interpolation", n_knots=7)


def test_frame_biases_need_a_padded_input():
    config = ResFieldConfig(factorisation="resnet")
    spec = MlpSpec(16, 3, 16, 1)
    with pytest.raises(ConfigError, match=r"resnet, which needs a padded input.* 16 fill"):
        residual_weights(torch.zeros(spec.n_weights), spec, 3, config, seeded())
