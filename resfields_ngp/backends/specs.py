"""The shapes of hash grids and of networks, in tiny-cuda-nn's terms, and how inputs are padded.

Vocabulary: `base`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Literal

import torch
from torch import Tensor

PRIMES = (1, 2654435761, 805459861, 3674653429)
"""tiny-cuda-nn's `coherent_prime_hash` factors of x, y, z and time (`common_device.h`)."""

Activation = Literal["relu", "softplus", "squareplus"]
ACTIVATION_SHARPNESS = 10.0
"""tiny-cuda-nn's `K_ACT`, k: softplus is ``log(1 + exp(k x)) / k``, squareplus
``(x + sqrt(x^2 + 4 / k^2)) / 2``."""


@dataclass(frozen=True)
class GridSpec:
    """The shape of a multiresolution hash grid, in tiny-cuda-nn's terms (`grid.h`).

    A 3-D grid with residuals looks up one entry of C channels (`time_resolutions` empty). A 4-D
    grid looks up two entries, at the time slices on either side of the frame.
    """

    n_levels: int
    """L, resolutions from coarse to fine."""
    n_features_per_level: int
    """Features of each level."""
    n_channels: int
    """C: channels stored side by side in an entry, the base and its residuals."""
    log2_hashmap_size: int
    """A level holds at most ``2**log2_hashmap_size`` entries; beyond, positions are hashed."""
    base_resolution: int
    """Resolution of level 0."""
    per_level_scale: float
    """Growth of the resolution from one level to the next."""
    time_resolutions: tuple[int, ...] = ()
    """Time slices of each level (4-D grid); empty for a 3-D grid."""
    n_dims: int = 3
    """Axes of space: 3, or 2 for pictures, whose third coordinate is not looked at."""
    aspect: float = 1.0
    """Extent along y over that along x; below 1 spares a 2-D grid the rows that are never used."""

    @property
    def n_lookups(self) -> int:
        """K, entries fetched per corner: 2 time slices in a 4-D grid, else 1."""
        return 2 if self.time_resolutions else 1

    @property
    def n_features(self) -> int:
        """L * F, the width of the output."""
        return self.n_levels * self.n_features_per_level

    @cached_property
    def scales(self) -> tuple[float, ...]:
        """``s_l = base_resolution * per_level_scale**l - 1``; x lies at ``x * s_l + 0.5``."""
        return tuple(
            self.base_resolution * self.per_level_scale**i - 1.0 for i in range(self.n_levels)
        )

    @cached_property
    def resolutions(self) -> tuple[int, ...]:
        """Vertices along an axis of each level, ``ceil(s_l) + 1``."""
        return tuple(math.ceil(scale) + 1 for scale in self.scales)

    @cached_property
    def n_rows(self) -> tuple[int, ...]:
        """Vertices along y of each level."""
        return tuple(math.ceil(scale * self.aspect) + 1 for scale in self.scales)

    @cached_property
    def dense_sizes(self) -> tuple[int, ...]:
        """Entries that each level would need without hashing."""
        slices = self.time_resolutions or (1,) * self.n_levels
        return tuple(
            columns ** (self.n_dims - 1) * rows * n_slices
            for columns, rows, n_slices in zip(self.resolutions, self.n_rows, slices, strict=True)
        )

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Entries of each level: the dense size up to a multiple of 8, at most the hash map's."""
        return tuple(min(2**self.log2_hashmap_size, -(-n // 8) * 8) for n in self.dense_sizes)

    @cached_property
    def is_hashed(self) -> tuple[bool, ...]:
        """True for the levels that do not fit densely."""
        return tuple(dense > size for dense, size in zip(self.dense_sizes, self.sizes, strict=True))

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """First entry of each level, and the total at the end (L + 1 numbers)."""
        totals = [0]
        for size in self.sizes:
            totals.append(totals[-1] + size)
        return tuple(totals)

    @property
    def table_shape(self) -> tuple[int, int, int]:
        """(E, C, F)."""
        return self.offsets[-1], self.n_channels, self.n_features_per_level


@dataclass(frozen=True)
class MlpSpec:
    """A bias-free MLP with flat weights, in tiny-cuda-nn's layout (`fully_fused_mlp.cu`).

    Matrices are row-major [out, in], one after another; input and output widths are padded to
    multiples of 16, padded inputs hold 1 (they serve as biases), padded outputs are dropped.
    """

    n_inputs: int
    """Unpadded input width."""
    n_outputs: int
    """Unpadded output width."""
    n_neurons: int = 64
    """Width of the hidden layers."""
    n_hidden_layers: int = 2
    """Hidden layers; 0 is a single matrix."""
    activation: Activation = "squareplus"
    """Between layers; the output is linear."""

    @cached_property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """[out, in] of each matrix, padded."""
        widths = [
            pad_to_16(self.n_inputs),
            *[self.n_neurons] * self.n_hidden_layers,
            pad_to_16(self.n_outputs),
        ]
        return tuple((widths[i + 1], widths[i]) for i in range(len(widths) - 1))

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Weights of each matrix."""
        return tuple(rows * columns for rows, columns in self.shapes)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """First weight of each matrix in the flat vector, and the total at the end."""
        return (0, *accumulate(self.sizes))

    @property
    def n_weights(self) -> int:
        """P, the length of the flat vector."""
        return self.offsets[-1]


def pad_to_16(width: int) -> int:
    """Returns the next multiple of 16, tiny-cuda-nn's granularity of matrix widths."""
    return -(-width // 16) * 16


def pad_inputs(
    jets: Tensor,  # (N, 1 + D, F)
    width: int,
) -> Tensor:
    """Returns jets `width` columns wide: new values 1, derivatives 0, as tiny-cuda-nn pads."""
    missing = width - jets.shape[2]
    if missing == 0:
        return jets
    pad = jets.new_zeros(jets.shape[0], jets.shape[1], missing)
    pad[:, 0] = 1.0
    return torch.cat([jets, pad], dim=2)


def side_by_side(features: Tensor, others: Tensor, spec: MlpSpec) -> Tensor:
    """Returns a network's input jets, padded where they are small and then put together once."""
    others = pad_inputs(others, spec.shapes[0][1] - features.shape[2])
    return torch.cat([features, others], dim=2)
