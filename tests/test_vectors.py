"""Laws of the short vectors in kernels: they compute what numpy computes, lane by lane."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from resfields_ngp.backends.cpu.vectors import fold, fused, load, store, tile, zeros


def _kernel(width: int, part: int):
    repeats = width // part

    @numba.njit
    def kernel(inputs, factor, outputs):
        a, b = load(inputs, 1, width), load(inputs, 1 + width, width)
        store(outputs, 0, a + b)
        store(outputs, width, a - b)
        store(outputs, 2 * width, a * b)
        store(outputs, 3 * width, factor * a)
        store(outputs, 4 * width, fused(factor, a, b))
        store(outputs, 5 * width, fused(a, a, b))
        store(outputs, 6 * width, zeros(width))
        store(outputs, 7 * width, tile(load(inputs, 0, part), repeats))
        store(outputs, 8 * width, fold(a, part))

    return kernel


@pytest.mark.parametrize(("width", "part"), [(8, 2), (2, 2), (1, 1), (6, 2), (10, 2), (16, 4)])
def test_every_operation_is_numpys_lane_by_lane(width: int, part: int):
    generator = np.random.default_rng(0)
    inputs = generator.standard_normal(1 + 2 * width).astype(np.float32)
    outputs = np.full(8 * width + part + 1, np.float32(7.0))
    factor = np.float32(0.7)
    _kernel(width, part)(inputs, factor, outputs)
    a, b = inputs[1 : 1 + width], inputs[1 + width :]
    rows = outputs[: 8 * width].reshape(8, width)
    once = (factor.astype(np.float64) * a + b).astype(np.float32)
    squares = (a.astype(np.float64) * a + b).astype(np.float32)
    expected = [a + b, a - b, a * b, factor * a, once, squares, 0 * a]
    for row, values in zip(rows, [*expected, np.tile(inputs[:part], width // part)], strict=True):
        np.testing.assert_array_equal(row, values)
    total = np.zeros(part, np.float32)
    for begin in range(0, width, part):
        total = total + a[begin : begin + part]
    np.testing.assert_array_equal(outputs[8 * width : 8 * width + part], total)
    assert outputs[-1] == 7.0


def test_fused_rounds_once():
    @numba.njit
    def kernel(inputs, outputs):
        x, y = load(inputs, 0, 2), load(inputs, 2, 2)
        store(outputs, 0, fused(x, x, y))
        store(outputs, 2, x * x + y)

    x = np.float32(1.0 + 2.0**-12)
    inputs = np.array([x, x, -(x * x), -(x * x)], np.float32)
    outputs = np.empty(4, np.float32)
    kernel(inputs, outputs)
    assert outputs[0] == np.float32(float(x) ** 2 - float(np.float32(x * x))) != 0.0
    assert outputs[2] == 0.0
