"""tiny-cuda-nn's layout, against entries worked out by hand in plain integers."""

from __future__ import annotations

import pytest
import torch

from resfields_ngp.backends.reference import ReferenceBackend
from resfields_ngp.backends.specs import GridSpec, MlpSpec, pad_inputs, pad_to_16
from resfields_ngp.records import FrameSlices

SPEC = GridSpec(4, 2, 1, 9, 4, 1.5)
BACKEND = ReferenceBackend()
EVERYTHING = 2**32


def touched_entries(
    spec: GridSpec, position: tuple[float, float, float], slot: int = 0
) -> list[set]:
    """Returns, a level, the entries (within the level) that a look-up has a gradient in."""
    table = torch.zeros(spec.table_shape, requires_grad=True)
    coefficients = torch.zeros(1, spec.n_levels, spec.n_lookups * spec.n_channels)
    coefficients[:, :, : spec.n_channels] = 1.0
    slots = torch.full((1, spec.n_levels, 2), slot) if spec.time_resolutions else None
    slices = FrameSlices.single(0, 1)
    jets = BACKEND.hash_grid(
        torch.tensor([position]), slices, coefficients, slots, table, spec, n_tangents=0
    )
    (gradient,) = torch.autograd.grad(jets.sum(), table)
    entries = gradient[:, 0, 0].nonzero()[:, 0].tolist()
    bounds = list(zip(spec.offsets[:-1], spec.offsets[1:], strict=True))
    return [{e - low for e in entries if low <= e < high} for low, high in bounds]


def test_scales_and_resolutions_are_tiny_cuda_nns():
    assert SPEC.scales == pytest.approx((3.0, 5.0, 8.0, 12.5))
    assert SPEC.resolutions == (4, 6, 9, 14)


def test_sizes_are_multiples_of_8_up_to_the_hash_map():
    assert SPEC.dense_sizes == (64, 216, 729, 2744)
    assert SPEC.sizes == (64, 216, 512, 512)
    assert SPEC.is_hashed == (False, False, True, True)
    assert GridSpec(2, 2, 1, 12, 5, 1.4).sizes == (128, 344)  # 5^3 = 125, 7^3 = 343


def test_levels_lie_one_after_the_other():
    assert SPEC.offsets == (0, 64, 280, 792, 1304)
    assert SPEC.table_shape == (1304, 1, 2)


def test_a_dense_index_runs_along_x_first():
    # Level 0: 0.1, 0.4, 0.8 times 3 plus a half is 0.8, 1.7, 2.9.
    expected = {x + 4 * (y + 4 * z) for x in (0, 1) for y in (1, 2) for z in (2, 3)}
    assert touched_entries(SPEC, (0.1, 0.4, 0.8))[0] == expected


def test_a_hashed_index_is_the_prime_hash_in_32_bits():
    # Level 3: 0.1, 0.4, 0.8 times 12.5 plus a half is 1.75, 5.5, 10.5.
    expected = {
        (x ^ (y * 2654435761 % EVERYTHING) ^ (z * 805459861 % EVERYTHING)) % 512
        for x in (1, 2)
        for y in (5, 6)
        for z in (10, 11)
    }
    assert touched_entries(SPEC, (0.1, 0.4, 0.8))[3] == expected


def test_one_hash_worked_out_on_paper():
    # 5 * 2654435761 = 13272178805 = 3 * 2^32 + 387276917; 11 * 805459861 = 2 * 2^32 + 270123879
    assert 5 * 2654435761 % EVERYTHING == 387276917
    assert 11 * 805459861 % EVERYTHING == 270123879
    assert (1 ^ 387276917 ^ 270123879) % 512 in touched_entries(SPEC, (0.1, 0.4, 0.8))[3]


def test_time_is_the_slowest_axis_of_a_4d_grid():
    spec = GridSpec(2, 2, 1, 9, 4, 3.0, (3, 3))
    assert spec.sizes == (192, 512) and spec.is_hashed == (False, True)
    dense, hashed = touched_entries(spec, (0.1, 0.4, 0.8), slot=2)
    corners = [(x, y, z) for x in (0, 1) for y in (1, 2) for z in (2, 3)]
    assert dense == {x + 4 * (y + 4 * (z + 4 * 2)) for x, y, z in corners}
    # Level 1: times 11 plus a half is 1.6, 4.9, 9.3.
    time = 2 * 3674653429 % EVERYTHING
    assert hashed == {
        (x ^ (y * 2654435761 % EVERYTHING) ^ (z * 805459861 % EVERYTHING) ^ time) % 512
        for x in (1, 2)
        for y in (4, 5)
        for z in (9, 10)
    }


def test_a_look_up_on_a_vertex_returns_its_entry():
    table = torch.randn(SPEC.table_shape, generator=torch.Generator().manual_seed(0))
    vertex = (2, 1, 3)
    position = torch.tensor([[(v - 0.5) / 3.0 for v in vertex]])
    ones = torch.ones(1, SPEC.n_levels, 1)
    jets = BACKEND.hash_grid(position, FrameSlices.single(0, 1), ones, None, table, SPEC, 0)
    entry = vertex[0] + 4 * (vertex[1] + 4 * vertex[2])
    assert torch.allclose(jets[0, 0, :2], table[entry, 0], atol=1e-5)


def test_widths_are_padded_to_multiples_of_16():
    assert [pad_to_16(width) for width in (0, 1, 16, 17)] == [0, 16, 16, 32]
    spec = MlpSpec(19, 4, 32, 2)
    assert spec.shapes == ((32, 32), (32, 32), (16, 32))
    assert spec.offsets == (0, 1024, 2048, 2560)
    assert spec.n_weights == 2560
    assert MlpSpec(3, 1, 64, 0).shapes == ((16, 16),)


def test_padded_inputs_hold_one_and_no_derivative():
    jets = torch.zeros(2, 4, 3)
    padded = pad_inputs(jets, 16)
    assert (padded[:, 0, 3:] == 1.0).all()
    assert (padded[:, 1:, 3:] == 0.0).all()
    assert pad_inputs(padded, 16) is padded


def test_flat_weights_are_row_major_out_by_in():
    spec = MlpSpec(2, 3, n_hidden_layers=0)
    flat = torch.arange(float(spec.n_weights))[None]
    jets = torch.tensor([[[10.0, 100.0]]])
    outputs = BACKEND.mlp(jets, FrameSlices.single(0, 1), flat, spec)
    for row in range(3):
        bias = sum(16 * row + column for column in range(2, 16))
        assert outputs[0, 0, row] == 10.0 * (16 * row) + 100.0 * (16 * row + 1) + bias
