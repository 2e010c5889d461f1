"""How our tensors become tiny-cuda-nn's and nerfacc's: options, padding, grids side by side.

Plain torch; only `tcnn.py` imports the packages.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..records import FrameSlices, Rays, Samples
from ..transfers import on_device
from .base import BackendUnavailable
from .reference import sample_distances
from .specs import GridSpec, MlpSpec

GRANULARITY = 256
"""Rows of a launch are a multiple of this (`BATCH_SIZE_GRANULARITY`)."""
SPACING = 4.0
"""Model units from one frame's box to the next, along x."""
_FUSED_WIDTHS = (16, 32, 64, 128)
_ENTRY_WIDTHS = (8, 4, 2, 1)


def encoding_config(spec: GridSpec, entry_width: int) -> dict[str, Any]:
    """Returns tiny-cuda-nn's description of a 3-D grid with so many floats an entry."""
    return {
        "otype": "HashGrid",
        "n_levels": spec.n_levels,
        "n_features_per_level": entry_width,
        "log2_hashmap_size": spec.log2_hashmap_size,
        "base_resolution": spec.base_resolution,
        "per_level_scale": spec.per_level_scale,
        "interpolation": "Linear",
    }


def network_config(spec: MlpSpec) -> dict[str, Any]:
    """Returns tiny-cuda-nn's description of a network, fully fused where its width allows."""
    is_fused = spec.n_neurons in _FUSED_WIDTHS
    names = {"relu": "ReLU", "softplus": "Softplus", "squareplus": "Squareplus"}
    return {
        "otype": "FullyFusedMLP" if is_fused else "CutlassMLP",
        "activation": names[spec.activation],
        "output_activation": "None",
        "n_neurons": spec.n_neurons,
        "n_hidden_layers": spec.n_hidden_layers,
    }


def channel_groups(table: Tensor) -> list[tuple[int, int, Tensor]]:
    """Cuts a table (E, C, F) into groups of channels with 1, 2, 4 or 8 floats an entry.

    Returns:
        First channel, number of channels (the last group's are filled up with zeros) and the flat
        parameters of each group.

    Raises:
        BackendUnavailable: A feature vector alone is wider than 8 or no power of two.
    """
    _, n_channels, width = table.shape
    if width not in _ENTRY_WIDTHS:
        raise BackendUnavailable(
            f"tinycudann has 1, 2, 4 or 8 features a level, not {width}; "
            "use --training.backend triton"
        )
    most = max(_ENTRY_WIDTHS) // width
    group = min(most, 1 << (n_channels - 1).bit_length())
    groups = []
    for begin in range(0, n_channels, group):
        part = table[:, begin : begin + group]
        missing = group - part.shape[1]
        part = torch.nn.functional.pad(part, (0, 0, 0, missing)) if missing else part
        groups.append((begin, group, part.flatten()))
    return groups


def pad_rows(rows: Tensor) -> Tensor:
    """Returns rows (N, F) with zeros up to a multiple of `GRANULARITY`."""
    missing = -rows.shape[0] % GRANULARITY
    return torch.nn.functional.pad(rows, (0, 0, 0, missing)).contiguous()


def finest_step(coefficients: Tensor, spec: GridSpec) -> Tensor:
    """Returns () half a cell of the finest level with a coefficient other than 0, on the device."""
    scales = on_device(tuple(spec.scales), coefficients.device, coefficients.dtype)
    is_active = (coefficients != 0).any(dim=2).any(dim=0)
    return 0.5 / torch.where(is_active, scales, scales[0]).amax()


def boxes(count: int, device: torch.device) -> Tensor:
    """Returns (count, 6) unit boxes side by side along x, as nerfacc's (min, max)."""
    corners = torch.zeros((count, 6), device=device)
    corners[:, 3:] = 1.0
    corners[:, 0::3] += SPACING * torch.arange(count, device=device)[:, None]
    return corners


def beside(origins: Tensor, slot: Tensor) -> Tensor:
    """Returns ray origins (R, 3), moved to the box of their slice."""
    moved = origins.clone()
    moved[:, 0] += SPACING * slot
    return moved


def near_surface(
    rays: Rays,
    found: Any,
    step: float,
    distances: Tensor,
    frames: Tensor,
    band: float,
) -> Samples:
    """Keeps intervals that begin in the band, up to where their ray is deep behind the surface.

    Args:
        rays: R rays.
        found: nerfacc's ``RaySamples``: the intervals' middles, ``vals``, and ``ray_indices``.
        step: Length of the intervals.
        distances: Of every frame of the capture, on a grid, to the surface.
        frames: (R,) of the rays.
        band: How far from the surface an interval may begin.
    """
    ray_indices, t_starts = found.ray_indices, found.vals - 0.5 * step
    points = rays.origins[ray_indices] + t_starts[:, None] * rays.directions[ray_indices]
    at = sample_distances(distances, frames[ray_indices], points)
    in_band = at.abs() <= band
    has_entered = _running_count(in_band, ray_indices, rays.n_rays) > 0
    is_solid = _running_count((at < -band) & has_entered, ray_indices, rays.n_rays) > 0
    is_kept = in_band & ~is_solid
    n_kept = _counted(is_kept)
    bounds = torch.searchsorted(ray_indices, on_device(rays.slices.offsets, ray_indices.device))
    offsets = tuple(n_kept[bounds].tolist())
    # Their number is known by now: listing them does not wait again. The last place is for others.
    places = torch.where(is_kept, n_kept[:-1], offsets[-1])
    kept = places.new_empty(offsets[-1] + 1).scatter_(
        0, places, torch.arange(len(places), device=places.device)
    )[:-1]
    ray_indices, t_starts = ray_indices[kept], t_starts[kept]
    slices = FrameSlices(rays.slices.frames, offsets)
    return Samples(ray_indices, t_starts, t_starts + step, slices)


def _counted(flags: Tensor) -> Tensor:
    """Returns (N + 1,) how many flags are set before each place."""
    return torch.cat([flags.new_zeros(1, dtype=torch.int64), flags.cumsum(0)])


def _running_count(flags: Tensor, ray_indices: Tensor, n_rays: int) -> Tensor:
    """Returns (N,) how many samples of the ray so far, this one included, have the flag."""
    totals = _counted(flags)
    first = torch.searchsorted(ray_indices, torch.arange(n_rays, device=flags.device))
    return totals[1:] - totals[first[ray_indices]]
