from __future__ import annotations

import pytest
import torch

from resfields_ngp.backends import MlpSpec, open_backend
from resfields_ngp.mlp import ResFieldMlp, xavier_uniform
from resfields_ngp.records import FrameSlices
from resfields_ngp.resfield import ResFieldConfig

BACKENDS = [open_backend(name, "cpu") for name in ("reference", "cpu")]
SPEC = MlpSpec(5, 3, 32, 2)
SLICES = FrameSlices((2, 0), (0, 4, 9))

each_backend = pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network(spec: MlpSpec = SPEC, **settings) -> ResFieldMlp:
    config = ResFieldConfig(**({"rank": 2, "deviation": 0.2} | settings))
    return ResFieldMlp(spec, 3, config, seeded())


def with_tangents(positions: torch.Tensor) -> torch.Tensor:
    """Returns (N, 4, 5) jets of some smooth function of (N, 3) positions."""
    x, y, z = positions.unbind(1)
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    rows = [
        [x, y, z, x * y, (3 * z).sin()],
        [one, zero, zero, y, zero],
        [zero, one, zero, x, zero],
        [zero, zero, one, zero, 3 * (3 * z).cos()],
    ]
    return torch.stack([torch.stack(row, 1) for row in rows], 1)


@each_backend
def test_zero_coefficients_equal_static_mlp(backend):
    moving, static = network(), network(rank=0)
    moving.weights.coefficients.knots.data.zero_()
    static.weights.base.data.copy_(moving.weights.base.data)
    jets = torch.randn(9, 4, 5, generator=seeded(1))
    assert torch.equal(moving(jets, SLICES, backend), static(jets, SLICES, backend))


@each_backend
def test_a_frame_has_its_own_network(backend):
    mlp = network()
    jets = torch.randn(1, 1, 5, generator=seeded(1)).expand(9, 1, 5)
    outputs = mlp(jets, SLICES, backend)
    assert not torch.allclose(outputs[0], outputs[-1])
    mlp.weights.coefficients.knots.data[0] += 1.0
    changed = mlp(jets, SLICES, backend)
    assert torch.equal(changed[:4], outputs[:4]) and not torch.allclose(changed[4:], outputs[4:])


@each_backend
@pytest.mark.parametrize("activation", ["softplus", "squareplus", "relu"])
def test_tangents_are_the_jacobian(backend, activation):
    mlp = network(MlpSpec(5, 3, 32, 2, activation))
    positions = torch.rand(9, 3, generator=seeded(1)).requires_grad_()
    outputs = mlp(with_tangents(positions), SLICES, backend)
    for output in range(3):
        (gradients,) = torch.autograd.grad(
            outputs[:, 0, output].sum(), positions, retain_graph=True
        )
        assert torch.allclose(outputs[:, 1:, output], gradients, atol=1e-5)


@pytest.mark.parametrize("layers", [(0,), (1, 2), ()])
def test_only_the_chosen_layers_change_over_time(layers: tuple[int, ...]):
    weights = network(layers=layers).weights((0, 1, 2))
    for layer in range(3):
        own = weights[:, SPEC.offsets[layer] : SPEC.offsets[layer + 1]]
        assert bool((own.std(0) > 0).any()) == (layer in layers or not layers)


def test_a_layer_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match=r"residual\.layers is \(3,\); .* layers 0 to 2"):
        network(layers=(3,))


def test_initial_weights_fill_xaviers_interval():
    weights = xavier_uniform(SPEC, seeded())
    assert weights.shape == (SPEC.n_weights,)
    for layer, (rows, columns) in enumerate(SPEC.shapes):
        own = weights[SPEC.offsets[layer] : SPEC.offsets[layer + 1]]
        bound = (6.0 / (rows + columns)) ** 0.5
        assert own.abs().max() <= bound
        # Uniform in +-b has variance b^2 / 3; 512 or more numbers know it to some per cent.
        assert own.var() == pytest.approx(bound**2 / 3, rel=0.15)
    assert torch.equal(weights, xavier_uniform(SPEC, seeded()))
