"""However the rows of a frame are shared among programs, the networks' kernels give the same."""

from __future__ import annotations

import importlib

import pytest
from interpreted import EXACT
from kernel_cases import assert_alike, mlp_inputs, mlp_outputs, sloped_outputs
from test_triton import REFERENCE

from resfields_ngp.backends import MlpSpec
from resfields_ngp.backends.triton.mlp import Tiling, tiling_of
from resfields_ngp.records import FrameSlices

MLP = importlib.import_module("resfields_ngp.backends.triton.mlp")
SLICES = FrameSlices((0, 2, 1), (0, 70, 70, 333))


@pytest.mark.parametrize(
    "tiling",
    [
        Tiling(16, 8, 80, 6),
        Tiling(32, 8),
        Tiling(64, 4, holds_weights=False),
        Tiling(64, 4, is_tall=True),
    ],
)
def test_kernels_agree_with_any_tiling(tiling: Tiling, monkeypatch):
    monkeypatch.setattr(MLP, "tiling_of", lambda *_: tiling)
    spec = MlpSpec(19, 5, 32, 2)
    jets, weights = mlp_inputs(spec, SLICES, 3)
    for outputs in (mlp_outputs, sloped_outputs):
        found, expected = (
            outputs(backend, jets, SLICES, weights, spec) for backend in (EXACT, REFERENCE)
        )
        assert_alike(found, expected, 2e-6)


def test_small_networks_take_few_registers_and_large_ones_reload_their_weights():
    small = MlpSpec(27, 16, 64, 1)
    assert tiling_of(small, "float16", True) == Tiling(16, 4, 168, 6)
    assert tiling_of(small, "float16", False).n_waves == 4
    assert tiling_of(small, "bfloat16", True).n_registers is None
    assert not tiling_of(MlpSpec(27, 16, 128, 2), "float16", True).holds_weights
    assert tiling_of(MlpSpec(27, 16, 128, 1), "float16", True).n_warps == 8
