from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.linalg import expm

from resfields_ngp.motion import jets
from resfields_ngp.records import FrameSlices


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some_jets(width: int, seed: int = 0, n: int = 7) -> torch.Tensor:
    return torch.randn(n, 4, width, generator=seeded(seed), dtype=torch.float64)


def by_autograd(function, *inputs: torch.Tensor) -> torch.Tensor:
    """Returns jets of a function of values, its derivatives by torch's forward mode."""
    values = tuple(each[:, 0] for each in inputs)
    rows = [function(*values)]
    for axis in (1, 2, 3):
        tangents = tuple(each[:, axis] for each in inputs)
        rows.append(torch.autograd.functional.jvp(function, values, tangents)[1])
    return torch.stack(rows, dim=1)


@pytest.mark.parametrize(
    ("rule", "function", "widths"),
    [
        (jets.product, torch.mul, (1, 3)),
        (jets.cross, lambda a, b: torch.linalg.cross(a, b), (3, 3)),
        (jets.dot, lambda a, b: (a * b).sum(1, keepdim=True), (3, 3)),
        (jets.sine, torch.sin, (2,)),
        (jets.cosine, torch.cos, (2,)),
    ],
)
def test_rules_are_those_of_calculus(rule, function, widths):
    inputs = [some_jets(width, i) for i, width in enumerate(widths)]
    assert torch.allclose(rule(*inputs), by_autograd(function, *inputs), atol=1e-12)
    assert torch.allclose(rule(*[each[:, :1] for each in inputs]), rule(*inputs)[:, :1])


def matrix_of(rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """Returns the 4 x 4 generator of a screw motion."""
    x, y, z = rotation
    generator = np.zeros((4, 4))
    generator[:3, :3] = [[0, -z, y], [z, 0, -x], [-y, x, 0]]
    generator[:3, 3] = translation
    return generator


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("angle", [0.0, 1e-8, 1e-3, 0.3, 1.4, 1.42, 3.0, math.pi, 6.5, 20.0])
def test_screw_motion_is_scipys_matrix_exponential(angle: float, dtype: torch.dtype):
    axes = torch.nn.functional.normalize(some_jets(3)[:, 0], dim=1)
    rotations, translations, positions = angle * axes, some_jets(3, 1)[:, 0], some_jets(3, 2)[:, 0]
    found = jets.screw_motion(
        *(each[:, None].to(dtype) for each in (rotations, translations, positions))
    )
    points = torch.cat([positions, torch.ones(7, 1)], dim=1).numpy()
    pairs = zip(rotations.numpy(), translations.numpy(), strict=True)
    matrices = [expm(matrix_of(*pair)) for pair in pairs]
    expected = np.stack([(m @ p)[:3] for m, p in zip(matrices, points, strict=True)])
    tolerance = 1e-5 if dtype == torch.float32 else 1e-10
    assert np.allclose(found[:, 0].numpy(), expected, atol=tolerance)


@pytest.mark.parametrize("scale", [0.0, 1e-4, 0.5, 1.0, 3.0])
def test_tangents_and_gradients_of_screw_motions_are_exact(scale: float):
    inputs = [some_jets(3, seed) for seed in range(3)]
    inputs[0] = inputs[0] * torch.tensor([scale, 1.0, 1.0, 1.0], dtype=torch.float64)[:, None]

    def values(rotations, translations, positions):
        rows = (rotations, translations, positions)
        return jets.screw_motion(*(row[:, None] for row in rows))[:, 0]

    assert torch.allclose(jets.screw_motion(*inputs), by_autograd(values, *inputs), atol=1e-9)
    if scale:
        leaves = [each[:2].clone().requires_grad_() for each in inputs]
        assert torch.autograd.gradcheck(jets.screw_motion, leaves)


def test_zero_screws_leave_everything_and_have_finite_gradients():
    zeros = [torch.zeros(5, 4, 3).requires_grad_() for _ in range(2)]
    positions = jets.of_positions(torch.rand(5, 3, generator=seeded()), 3)
    moved = jets.screw_motion(*zeros, positions)
    assert torch.equal(moved, positions)
    moved.square().sum().backward()
    assert all(torch.isfinite(each.grad).all() and each.grad.any() for each in zeros)


def test_octaves_are_released_one_after_the_other():
    inputs = some_jets(3)
    found = jets.octaves(inputs, 3, 1.5).view(7, 4, 3, 2, 3)
    angles = [math.pi * 2.0**k * inputs for k in range(3)]
    assert torch.allclose(found[:, :, 0, 0], jets.sine(angles[0]))
    assert torch.allclose(found[:, :, 1, 1], 0.5 * jets.cosine(angles[1]))
    assert not found[:, :, 2].any()
    assert jets.octaves(inputs, 0, 0.0).shape == (7, 4, 0)


def test_frames_values_stand_still_in_space():
    slices = FrameSlices((4, 2, 7), (0, 2, 2, 5))
    found = jets.of_frames(torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), slices, 3)
    assert found[:, 0].tolist() == [[1.0, 2.0]] * 2 + [[5.0, 6.0]] * 3
    assert not found[:, 1:].any()
