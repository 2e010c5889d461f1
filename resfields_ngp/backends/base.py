"""The contract of a backend: seven kernels over packed, frame-sorted rows, and nothing else.

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

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from ..records import FrameSlices, Packing, Rays, Samples
from .specs import GridSpec, MlpSpec, side_by_side
from .unpacking import unpacked


class BackendUnavailable(RuntimeError):
    """The backend cannot run here; the message names what is missing and the line that mends it."""


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
