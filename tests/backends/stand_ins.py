"""Stand-ins for tinycudann and nerfacc: what their documentation says they compute, in torch.

They are strict where the packages are: rows in multiples of 256, float32 inputs, half-precision
outputs of networks, parameters in one flat vector, contiguous gradients by whole padded outputs.
"""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from resfields_ngp.backends.reference import ReferenceBackend
from resfields_ngp.backends.specs import GridSpec, MlpSpec, pad_to_16
from resfields_ngp.records import FrameSlices

ACTIVATIONS = {"ReLU": "relu", "Softplus": "softplus", "Squareplus": "squareplus"}


class Checked(torch.autograd.Function):
    """What tinycudann's bindings ask of a gradient by a kernel's outputs."""

    @staticmethod
    def forward(ctx, outputs, loss_scale):
        ctx.kind, ctx.loss_scale = outputs.dtype, loss_scale
        return outputs.view_as(outputs)

    @staticmethod
    def backward(ctx, gradients):
        scaled = gradients * ctx.loss_scale
        assert scaled.is_contiguous() and scaled.dtype == ctx.kind
        return gradients, None


class Encoding(nn.Module):
    """A hash grid with ``n_features_per_level`` floats an entry."""

    def __init__(self, n_input_dims: int, encoding_config: dict, dtype=None) -> None:
        super().__init__()
        assert n_input_dims == 3 and encoding_config["otype"] == "HashGrid"
        assert encoding_config["n_features_per_level"] in (1, 2, 4, 8)
        assert dtype == torch.float32
        config = encoding_config
        self.spec = GridSpec(
            config["n_levels"],
            config["n_features_per_level"],
            1,
            config["log2_hashmap_size"],
            config["base_resolution"],
            config["per_level_scale"],
        )
        self.params = nn.Parameter(torch.zeros(math.prod(self.spec.table_shape)))
        self.launches: list[int] = []

    def forward(self, positions: Tensor) -> Tensor:
        n_rows = positions.shape[0]
        assert n_rows % 256 == 0 and positions.dtype == torch.float32
        self.launches.append(n_rows)
        ones = torch.ones(1, self.spec.n_levels, 1)
        table = self.params.view(self.spec.table_shape)
        slices = FrameSlices.single(0, n_rows)
        jets = ReferenceBackend().hash_grid(positions, slices, ones, None, table, self.spec, 0)
        return Checked.apply(jets[:, 0], 1.0)[:n_rows, : self.spec.n_features]


class Network(nn.Module):
    """A bias-free MLP on inputs padded with ones; products of halves, sums of floats."""

    def __init__(self, n_input_dims: int, n_output_dims: int, network_config: dict) -> None:
        super().__init__()
        config = network_config
        if config["otype"] == "FullyFusedMLP":
            assert config["n_neurons"] in (16, 32, 64, 128)
        assert config["n_hidden_layers"] >= 1 and config["output_activation"] == "None"
        activation = ACTIVATIONS[config["activation"]]
        self.spec = MlpSpec(
            n_input_dims,
            n_output_dims,
            config["n_neurons"],
            config["n_hidden_layers"],
            activation,
        )
        self.params = nn.Parameter(torch.zeros(self.spec.n_weights))
        self.loss_scale = 128.0
        self.jit_fusion = False
        self.launches: list[int] = []

    def forward(self, rows: Tensor) -> Tensor:
        assert rows.shape[0] % 256 == 0 and rows.dtype == torch.float32
        self.launches.append(rows.shape[0])
        weights = self.params.half().float()[None]
        slices = FrameSlices.single(0, rows.shape[0])
        whole = replace(self.spec, n_outputs=pad_to_16(self.spec.n_outputs))
        outputs = ReferenceBackend().mlp(rows[:, None], slices, weights, whole)[:, 0].half()
        return Checked.apply(outputs, self.loss_scale)[: rows.shape[0], : self.spec.n_outputs]


def tinycudann(supports_jit: bool = True) -> SimpleNamespace:
    """Returns what ``import tinycudann`` would."""
    return SimpleNamespace(
        Encoding=Encoding, Network=Network, supports_jit_fusion=lambda: supports_jit
    )


def traverse_grids(
    rays_o, rays_d, binaries, aabbs, near_planes, far_planes, step_size
) -> tuple[None, SimpleNamespace, None]:
    """Steps evenly from each ray's near plane; keeps intervals whose middle is in a full cell.

    Of the intervals' edges, which the real one returns too, nobody here makes use.
    """
    assert rays_o.shape[0]  # the real one divides by its number of blocks
    n_steps = max(0, int(((far_planes - near_planes) / step_size).max().ceil()))
    middles = near_planes[:, None] + (torch.arange(n_steps) + 0.5) * step_size
    points = rays_o[:, None] + middles[..., None] * rays_d[:, None]
    is_full = torch.zeros(middles.shape, dtype=torch.bool)
    resolution = torch.tensor(binaries.shape[1:])
    for grid, box in zip(binaries, aabbs, strict=True):
        unit = (points - box[:3]) / (box[3:] - box[:3])
        is_inside = ((unit >= 0.0) & (unit <= 1.0)).all(2)
        cells = torch.minimum((unit * resolution).long().clamp(min=0), resolution - 1)
        is_full |= is_inside & grid[cells[..., 0], cells[..., 1], cells[..., 2]]
    rays, steps = (is_full & (middles < far_planes[:, None])).nonzero(as_tuple=True)
    return None, SimpleNamespace(vals=middles[rays, steps], ray_indices=rays), None


def render_weight_from_alpha(alphas, ray_indices, n_rays) -> tuple[Tensor, Tensor]:
    """Returns weights and transmittances."""
    if not alphas.numel():
        return alphas, alphas
    logarithms = torch.log1p(-alphas.double())
    before = logarithms.cumsum(0) - logarithms
    first = torch.searchsorted(ray_indices, torch.arange(n_rays)).clamp(max=len(alphas) - 1)
    transmittances = torch.exp(before - before[first][ray_indices]).float()
    return transmittances * alphas, transmittances


def accumulate_along_rays(weights, values, ray_indices, n_rays) -> Tensor:
    """Returns each ray's weighted sum."""
    sums = torch.zeros(n_rays, values.shape[1])
    return sums.index_add(0, ray_indices, weights[:, None] * values)


def nerfacc() -> SimpleNamespace:
    """Returns what ``import nerfacc`` would."""
    return SimpleNamespace(
        traverse_grids=traverse_grids,
        render_weight_from_alpha=render_weight_from_alpha,
        accumulate_along_rays=accumulate_along_rays,
    )
