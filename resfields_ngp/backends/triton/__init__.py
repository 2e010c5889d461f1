"""GPU kernels in Triton: nothing to compile at installation, no nvcc, any GPU that torch supports.

Under ``TRITON_INTERPRET=1``, set before this is imported, the same kernels run on a CPU, slowly;
that is how they are tested.
"""

from __future__ import annotations

import torch

from ...doctor import COMPILER_LINE, missing_compiler
from ..base import Backend, BackendUnavailable
from ..reference import ReferenceBackend

OLDEST = (3, 5)
"""Of Triton's versions; torch 2.9 brings it. 3.4 ends the process as it compiles the networks."""

try:
    from triton import __version__ as version

    if tuple(map(int, version.split(".")[:2])) < OLDEST:
        raise BackendUnavailable(
            f"triton {version} is older than 3.5 and cannot compile the networks; torch 2.9 and "
            "newer bring one that can"
        )
    from . import grid, rays
    from .launching import is_interpreted
    from .mlp import mlp, sloped_mlp
    from .tilings import Precision
except ImportError as error:
    raise BackendUnavailable(
        f"triton: {error}; PyTorch's CUDA wheels carry it, else run `pip install triton`"
    ) from error


class TritonBackend(Backend):
    """Triton kernels; sums of gradients are atomic, so their last bits differ from run to run."""

    name = "triton"
    is_asynchronous = True
    is_recordable = True
    step_samples = 1 << 18
    query_rows = 1 << 19

    def __init__(
        self, device: str | torch.device = "cuda", precision: Precision = "float16"
    ) -> None:
        self.device = torch.device(device)
        if self.device.type == "cuda" and (reason := missing_compiler()):
            raise BackendUnavailable(
                f"triton: {reason}; it builds its kernels' launchers with one: {COMPILER_LINE}"
            )
        self._reference = ReferenceBackend(device)
        self.precision: Precision = precision
        if self.device.type != "cuda" and not is_interpreted():
            raise BackendUnavailable(
                f"triton runs on CUDA, and on {self.device.type} only in its interpreter; "
                "use --device cuda, or set TRITON_INTERPRET=1 to test its kernels"
            )

    def hash_grid(self, positions, slices, coefficients, slots, table, spec, n_tangents):
        """See `Backend.hash_grid`; the kernels are 3-D, other grids are the reference's."""
        kernel = grid.hash_grid if spec.n_dims == 3 else self._reference.hash_grid
        return kernel(positions, slices, coefficients, slots, table, spec, n_tangents)

    def mlp(self, jets, slices, weights, spec):
        """See `Backend.mlp`."""
        return mlp(jets, slices, weights, spec, self.precision)

    def sloped_mlp(self, features, others, slices, weights, spec):
        """See `Backend.sloped_mlp`."""
        return sloped_mlp(features, others, slices, weights, spec, self.precision)

    def march(self, rays_, distances, band, step, stretch, jitter, capacity=None):
        """See `Backend.march`."""
        return rays.march(rays_, distances, band, step, stretch, jitter, capacity)

    def interpolate(self, grids, positions, slices):
        """See `Backend.interpolate`."""
        return rays.interpolate(grids, positions, slices)

    def composite(self, alphas, samples, n_rays):
        """See `Backend.composite`."""
        return rays.composite(alphas, samples.ray_indices, n_rays, samples.packing)

    def accumulate(self, weights, values, ray_indices, n_rays, packing=None):
        """See `Backend.accumulate`."""
        return rays.accumulate(weights, values, ray_indices, n_rays, packing)
