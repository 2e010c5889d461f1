"""tiny-cuda-nn's grids and networks, nerfacc's marching and compositing; the one file with them.

Vocabulary
    taps   a position (or the inputs of a network) and four neighbours at the corners of a
           tetrahedron, rows 0 and 1..4: derivatives are differences, since tiny-cuda-nn's networks
           have no double backward (its issues 58 and 446).

What tiny-cuda-nn cannot express runs as in `reference`: grids with time slices (its 4-D grid has
one resolution for all axes) and networks without a hidden layer.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import math
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from ..doctor import nerfacc_line, tinycudann_line
from ..records import FrameSlices, Samples
from ..transfers import on_device
from .base import Backend, BackendUnavailable
from .half import GradientScaling
from .reference import ReferenceBackend, box_interval
from .specs import GridSpec, MlpSpec
from .tcnn_layout import (
    beside,
    boxes,
    channel_groups,
    encoding_config,
    finest_step,
    near_surface,
    network_config,
    pad_rows,
)

NETWORK_STEP = 0.01
"""What the inputs of a network's taps differ by, root mean square: far above float16's rounding."""
LARGEST_SUM = 8192.0
"""Sum over a launch's rows of an output's scaled gradients, at most: weights' gradients, which
tiny-cuda-nn keeps in float16, are such sums times activations."""
TETRAHEDRON = ((1, -1, -1), (-1, 1, -1), (-1, -1, 1), (1, 1, 1))
"""Corners whose outer products sum to 4 times the identity."""
_OPAQUE = 1.0 - 1e-6


class TcnnBackend(Backend):
    """tinycudann and nerfacc; float16 networks, float32 grids."""

    name = "tcnn"
    is_asynchronous = True
    step_samples = 1 << 18
    query_rows = 1 << 19

    def __init__(self, device: str | torch.device = "cuda") -> None:
        self.device = torch.device(device)
        self._tcnn = imported("tinycudann")
        self._nerfacc = imported("nerfacc")
        _keep_kernels(self._tcnn)
        self._reference = ReferenceBackend(device)
        self._corners = torch.tensor(TETRAHEDRON, dtype=torch.float32, device=self.device)
        self._encoding = lru_cache(self._new_encoding)
        self._network = lru_cache(self._new_network)

    def hash_grid(self, positions, slices, coefficients, slots, table, spec, n_tangents):
        """See `Backend.hash_grid`; derivatives are differences over half a cell of the finest
        level that takes part, so the step shrinks as levels are released."""
        if spec.time_resolutions or spec.n_dims != 3 or not slices.n_rows:
            return self._reference.hash_grid(
                positions, slices, coefficients, slots, table, spec, n_tangents
            )
        values = self._features(positions, slices, coefficients, table, spec)[:, None]
        if not n_tangents:
            return values
        step = finest_step(coefficients, spec)
        # Taps stay within the box: beyond it there are no entries.
        centres = torch.minimum(torch.maximum(positions, step), 1.0 - step)
        taps = (centres[:, None] + step * self._corners).reshape(-1, 3)
        of_taps = FrameSlices(slices.frames, tuple(4 * offset for offset in slices.offsets))
        features = self._features(taps, of_taps, coefficients, table, spec)
        features = features.view(-1, 4, spec.n_features)
        return torch.cat([values, self._differences(features, step)], dim=1)

    def mlp(self, jets, slices, weights, spec):
        """See `Backend.mlp`; one launch for each frame that has rows."""
        if not spec.n_hidden_layers or not slices.n_rows:
            return self._reference.mlp(jets, slices, weights, spec)
        rows, steps = jets, None
        if jets.shape[1] > 1:
            steps = network_steps(jets[:, 1:, : spec.n_inputs])
            moved = torch.einsum("ji,nif->njf", self._corners, jets[:, 1:])
            rows = torch.cat([jets[:, :1], jets[:, :1] + steps * moved], dim=1)
        parts = [
            self._run(rows[begin:end].flatten(0, 1), weights[i], spec).view(
                end - begin, -1, spec.n_outputs
            )
            for i, begin, end in slices
        ]
        outputs = torch.cat(parts)
        if steps is None:
            return outputs
        tangents = self._differences(outputs[:, 1:], steps)
        return torch.cat([outputs[:, :1], tangents], dim=1)

    def march(self, rays, distances, band, step, stretch, jitter, capacity=None):
        """See `Backend.march`; nerfacc steps evenly, so `stretch` has no effect.

        Every frame's grid is a box of its own, side by side, and its rays are moved along: one
        call walks them all.
        """
        if not rays.n_rays:  # nerfacc would launch a grid of no blocks
            nothing = rays.origins.new_zeros(0)
            slices = FrameSlices(rays.slices.frames, rays.slices.offsets)
            return Samples(nothing.long(), nothing, nothing, slices)
        resolution = distances.shape[1]
        slot = rays.slices.spread(torch.arange(len(rays.slices.frames), device=self.device))
        frames = on_device(rays.slices.frames, self.device)
        near, far = box_interval(rays.origins, rays.directions)
        offsets = 0.5 if jitter is None else jitter
        reach = band + 0.5 * math.sqrt(3.0) / resolution
        _, samples, _ = self._nerfacc.traverse_grids(
            beside(rays.origins, slot),
            rays.directions,
            distances[frames] <= reach,
            boxes(len(rays.slices.frames), self.device),
            near_planes=near + offsets * step,
            far_planes=far,
            step_size=step,
        )
        # All intervals are as long as the step; their ends would take masks, hence waiting.
        return near_surface(rays, samples, step, distances, frames[slot], band)

    def interpolate(self, grids, positions, slices):
        """See `Backend.interpolate`."""
        return self._reference.interpolate(grids, positions, slices)

    def composite(self, alphas, samples, n_rays):
        """See `Backend.composite`."""
        if not alphas.numel():
            return alphas.clone()
        # The gradient of nerfacc's product is wrong where a factor is 0.
        alphas = alphas.clamp(max=_OPAQUE)
        weights = self._nerfacc.render_weight_from_alpha
        return weights(alphas, ray_indices=samples.ray_indices, n_rays=n_rays)[0]

    def accumulate(self, weights, values, ray_indices, n_rays, packing=None):
        """See `Backend.accumulate`."""
        return self._nerfacc.accumulate_along_rays(weights, values, ray_indices, n_rays)

    def _differences(self, taps: Tensor, step: Tensor) -> Tensor:
        """Returns (N, 3, F) derivatives of (N, 4, F) outputs at the corners."""
        return torch.einsum("ji,njf->nif", self._corners, taps) / (4.0 * step)

    def _features(
        self,
        positions: Tensor,
        slices: FrameSlices,
        coefficients: Tensor,
        table: Tensor,
        spec: GridSpec,
    ) -> Tensor:
        """Returns (N, L * F): one launch per group of channels, contracted outside."""
        padded, n_rows = pad_rows(positions), positions.shape[0]
        total: Any = 0.0
        for begin, group, flat in channel_groups(table):
            encoding = self._encoding(spec, group * spec.n_features_per_level)
            encoded = functional_call(encoding, {"params": flat}, (padded,))[:n_rows]
            shape = (n_rows, spec.n_levels, group, spec.n_features_per_level)
            end = min(begin + group, spec.n_channels)
            entries = encoded.float().view(shape)[:, :, : end - begin]
            parts = [
                torch.einsum("nlcf,lc->nlf", entries[first:last], coefficients[i, :, begin:end])
                for i, first, last in slices
            ]
            total = total + torch.cat(parts).flatten(1)
        return total

    def _run(self, rows: Tensor, weights: Tensor, spec: MlpSpec) -> Tensor:
        """Returns (N, n_outputs) of one frame's network."""
        scaling = GradientScaling(LARGEST_SUM)
        inputs = pad_rows(scaling.entering(rows))
        parameters = {"params": scaling.entering(weights)}
        outputs = functional_call(self._network(spec, rows.shape[1]), parameters, (inputs,))
        return scaling.leaving(outputs[: rows.shape[0], : spec.n_outputs].float())

    def _new_encoding(self, spec: GridSpec, entry_width: int) -> Any:
        # In float32: differences over a small step would drown in float16's rounding.
        config = encoding_config(spec, entry_width)
        return self._made(
            self._tcnn.Encoding(3, config, dtype=torch.float32), spec.offsets[-1] * entry_width
        )

    def _new_network(self, spec: MlpSpec, n_inputs: int) -> Any:
        # Inputs may be padded already: the layout is the same.
        network = self._tcnn.Network(n_inputs, spec.n_outputs, network_config(spec))
        network.loss_scale = 1.0  # `GradientScaling` has done it, before the first rounding
        # Fused by JIT, its backward pass takes a layer's outputs for its inputs (`network.cu` keeps
        # the former, `activate_bwd` expects the latter), which only ReLU does not notice.
        return self._made(network, spec.n_weights, fuses=spec.activation == "relu")

    def _made(self, module: Any, n_parameters: int, fuses: bool = True) -> Any:
        """Returns a module whose parameters are as many as ours, with JIT fusion where it can."""
        found = module.params.numel()
        if found != n_parameters:
            raise BackendUnavailable(
                f"tinycudann lays out {found} parameters where this version expects "
                f"{n_parameters}; use --training.backend triton"
            )
        supports = getattr(self._tcnn, "supports_jit_fusion", None)
        if fuses and supports is not None and supports():
            module.jit_fusion = True
        return module.requires_grad_(False)


def _keep_kernels(tcnn: Any) -> None:
    """Lets tiny-cuda-nn keep what its JIT compiles in ``TCNN_CACHE_DIR``, where that is set.

    Its own place, inside the package, is not writable for everybody who runs it.
    """
    folder = os.environ.get("TCNN_CACHE_DIR")
    set_folder = getattr(getattr(tcnn, "modules", None), "rtc_set_cache_dir", None)
    if folder and set_folder is not None:
        with contextlib.suppress(OSError):  # it compiles again, then
            os.makedirs(folder, exist_ok=True)
            set_folder(folder)


def network_steps(
    tangents: Tensor,  # (N, 3, F)
) -> Tensor:  # (N, 1, 1)
    """Returns how far, in model units, a row's taps are from it; a constant for autograd.

    The more the inputs change by position, the nearer: `NETWORK_STEP` is measured in inputs.
    """
    scale = tangents.detach().square().mean(dim=(1, 2), keepdim=True).sqrt()
    return NETWORK_STEP / scale.clamp(min=1e-3)


def imported(name: str) -> Any:
    """Returns tinycudann or nerfacc.

    Raises:
        BackendUnavailable: It does not import; one line with the GPU's compute capability, what the
            package was built for, and the line that rebuilds it.
    """
    try:
        module = importlib.import_module(name)
        if name == "nerfacc" and importlib.import_module("nerfacc.cuda._backend")._C is None:
            raise ImportError("its CUDA code is not compiled, and there is no nvcc")
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        capability = _capability()
        line = tinycudann_line(capability) if name == "tinycudann" else nerfacc_line(capability)
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise BackendUnavailable(
            f"{name}: {reason} (compute capability of this GPU: {capability or 'no GPU'}; "
            f"built for: {_built(name)}); rebuild it with: {line}"
        ) from error
    return module


def _capability() -> str:
    if not torch.cuda.is_available():
        return ""
    major, minor = torch.cuda.get_device_capability()
    return f"{major}{minor}"


def _built(name: str) -> str:
    """Returns what a package's extension was compiled for, as far as its files tell."""
    folder = "tinycudann_bindings" if name == "tinycudann" else "nerfacc"
    try:
        spec = importlib.util.find_spec(folder)
    except (ImportError, ValueError):
        spec = None
    places = list(spec.submodule_search_locations or []) if spec else []
    files = sorted(file.name for place in places for file in Path(place).glob("*.so"))
    if name == "nerfacc":
        return ", ".join(files) or ("nothing yet" if places else "not installed")
    return ", ".join(file.split("_")[1] for file in files) or "nothing"
