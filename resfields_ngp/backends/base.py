"""The contract of a backend: five kernels over packed, frame-sorted rows, and nothing else.

Vocabulary
    N, R, T    rows (samples), rays, distinct frames of a batch; rows are sorted by frame
               (`FrameSlices`).
    jets       (N, 1 + D, F): row 0 the F values, rows 1..D their derivatives by the D = 3 model
               axes; D = 0 where no derivative is wanted. Layers push a jet along, so normals need
               first-order autograd only.
    table      (E, C, F) entries of all levels concatenated; C channels (base, residuals) side by
               side.
    coefficients  (T, L, K * C) weight of each channel of each look-up at each level, one row a
               distinct frame.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Literal

import torch
from torch import Tensor

from ..records import FrameSlices, Packing, Rays, Samples
from .unpacking import unpacked

PRIMES = (1, 2654435761, 805459861, 3674653429)
"""tiny-cuda-nn's `coherent_prime_hash` factors of x, y, z and time (`common_device.h`)."""

Activation = Literal["relu", "softplus", "squareplus"]
ACTIVATION_SHARPNESS = 10.0
"""tiny-cuda-nn's `K_ACT`, k: softplus is ``log(1 + exp(k x)) / k``, squareplus
``(x + sqrt(x^2 + 4 / k^2)) / 2``."""


class BackendUnavailable(RuntimeError):
    """The backend cannot run here; the message names what is missing and the line that mends it."""


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


class Backend(ABC):
    """The kernels. Parameters stay float32, the caller's; half precision never leaves a backend."""

    name: str
    device: torch.device
    is_asynchronous: bool = False
    """True where work is queued on a device: to read a number is to wait for all of it."""
    step_samples: int = 1 << 14
    """Samples of a training step that keep the device busy, where the settings name none."""
    query_rows: int = 1 << 16
    """Rows of one query without gradients; bounds the memory of rendering and meshing."""
    is_recordable: bool = False
    """Whether kernels can be recorded once and replayed: `march` then takes a `capacity`, and waits
    for nothing."""

    def stepping(self) -> AbstractContextManager[None]:
        """Surrounds the forward and the backward pass of a training step."""
        return nullcontext()

    @abstractmethod
    def hash_grid(
        self,
        positions: Tensor,  # (N, 3) in [0, 1]
        slices: FrameSlices,
        coefficients: Tensor,  # (T, L, K * C)
        slots: Tensor | None,  # (T, L, K) int64 time slices of a 4-D grid
        table: Tensor,  # (E, C, F)
        spec: GridSpec,
        n_tangents: int,
    ) -> Tensor:  # (N, 1 + n_tangents, L * F) jets
        """Interpolates every level trilinearly, contracts channels with the frame's coefficients.

        Differentiable in positions, coefficients and table; `n_tangents` is 0 or 3. A level whose
        coefficients are all 0 is not released yet: their gradients may be 0 as well.
        """

    @abstractmethod
    def mlp(
        self,
        jets: Tensor,  # (N, 1 + D, n_inputs)
        slices: FrameSlices,
        weights: Tensor,  # (T, P) flat weights of each distinct frame
        spec: MlpSpec,
    ) -> Tensor:  # (N, 1 + D, n_outputs)
        """Runs each frame's rows through that frame's network, derivatives along.

        Differentiable in jets and weights.
        """

    def sloped_mlp(
        self,
        features: Tensor,  # (N, 1 + D, F) jets
        others: Tensor,  # (N, 1 + D, G) jets of the inputs behind the features
        slices: FrameSlices,
        weights: Tensor,  # (T, P)
        spec: MlpSpec,
    ) -> tuple[Tensor, Tensor]:  # (N, n_outputs), (N, D)
        """Does what `mlp` does where of the derivatives only the first output's are wanted.

        Differentiable in features, others and weights. A kernel of its own is quicker, no more.
        """
        return unpacked(self.mlp(side_by_side(features, others, spec), slices, weights, spec))

    @abstractmethod
    def march(
        self,
        rays: Rays,
        distances: Tensor,  # (n_frames, G, G, G) signed, at cell centres, float16 or float32
        band: float,
        step: float,
        stretch: float,
        jitter: Tensor | None,  # (R,) in [0, 1), None is 0.5
        capacity: int | None = None,
    ) -> Samples:
        """Walks every ray through its frame's distance grid and keeps intervals near the surface.

        Sphere-traces where the distance exceeds `band`, at half of it and at most twice the step
        before, and goes back where that overshot: the grid is no exact distance. Within the band an
        interval is `step` long on a ray that meets the surface head-on and up to `stretch` times
        longer on one that grazes it, so that the distance changes by about `step` either way. Ends
        a ray deeper than `band` behind the surface. Not differentiable.

        With a `capacity` (only where `is_recordable`; frames have equally many rays then) every
        frame gets as many rows, whatever is found: see `Samples`. Rays that find no room there
        have no samples.
        """

    @abstractmethod
    def interpolate(
        self,
        grids: Tensor,  # (n_frames, G, G, G) values at cell centres of the box
        positions: Tensor,  # (N, 3) model space
        slices: FrameSlices,
    ) -> Tensor:  # (N,)
        """Interpolates each row's frame's grid trilinearly, clamped at the border.

        Not differentiable.
        """

    @abstractmethod
    def composite(
        self,
        alphas: Tensor,  # (N,)
        samples: Samples,
        n_rays: int,
    ) -> Tensor:  # (N,) weights
        """Weights front to back, ``w_i = alpha_i * prod_{j < i} (1 - alpha_j)`` along each ray.

        Differentiable in alphas.
        """

    @abstractmethod
    def accumulate(
        self,
        weights: Tensor,  # (N,)
        values: Tensor,  # (N, V)
        ray_indices: Tensor,  # (N,) ascending but for padding
        n_rays: int,
        packing: Packing | None = None,
    ) -> Tensor:  # (R, V)
        """Sums weighted sample values per ray. Differentiable in weights and values.

        The `packing` is that of the samples, where they have one and are all there; padding has
        the weight 0.
        """
