"""A moving ball: its capture, hull and field are known in closed form."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sphere_capture import sphere_capture, turned_world
from torch import Tensor

from resfields_ngp.backends.base import Backend
from resfields_ngp.datasets.base import Capture
from resfields_ngp.encoders import HashGridConfig
from resfields_ngp.field import Field, NetworkConfig
from resfields_ngp.heads import Head, NerfConfig, NeusConfig, NeusHead
from resfields_ngp.heads.base import Outputs
from resfields_ngp.hull import Hull
from resfields_ngp.model_space import ModelSpace
from resfields_ngp.occupancy import Occupancy, OccupancyConfig
from resfields_ngp.records import FrameSlices
from resfields_ngp.resfield import ResFieldConfig

N_FRAMES = 3
SIDE = 1.2
RADIUS = 0.4 / SIDE
"""The ball's, in model units; its centre stays at 0.5."""
SHARP = 200.0
RESOLUTION = 24
SMALL_GRID = {
    "n_levels": 4,
    "n_features_per_level": 2,
    "log2_hashmap_size": 9,
    "base_resolution": 4,
    "per_level_scale": 1.5,
    "start_levels": 2,
}
"""Settings of a hash grid that trains in milliseconds."""


def seeded(seed: int = 0) -> torch.Generator:
    """Returns a source of random numbers."""
    return torch.Generator().manual_seed(seed)


def ball_path(n_frames: int = N_FRAMES) -> np.ndarray:
    """Returns the (n_frames, 3) normalised centres."""
    return np.linspace(-0.1, 0.1, n_frames)[:, None] * np.array([1.0, 0.5, -0.3])


def ball_capture(n_frames: int = N_FRAMES, n_views: int = 3) -> Capture:
    """Returns what cameras see of the ball."""
    return sphere_capture(ball_path(n_frames)[:, None], n_views=n_views)


def ball_space(n_frames: int = N_FRAMES) -> ModelSpace:
    """Returns a box that follows the ball."""
    normalised_from_model = np.diag([SIDE, SIDE, SIDE, 1.0])
    normalised_from_model[:3, 3] = -0.5 * SIDE
    return ModelSpace(turned_world() @ normalised_from_model, ball_path(n_frames) / SIDE)


def ball_distances(positions: Tensor) -> Tensor:
    """Returns (...) signed distances to the ball of (..., 3) positions."""
    return (positions - 0.5).norm(dim=-1) - RADIUS


def cell_centres(resolution: int) -> Tensor:
    """Returns the (G, G, G, 3) middles of a grid's cells."""
    axis = (torch.arange(resolution) + 0.5) / resolution
    return torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1)


def ball_hull(n_frames: int = N_FRAMES, resolution: int = RESOLUTION) -> Hull:
    """Returns the hull that perfect masks from everywhere would carve."""
    distances = ball_distances(cell_centres(resolution)).expand(n_frames, -1, -1, -1)
    margin = 0.5 * 3**0.5 / resolution
    return Hull(space=ball_space(n_frames), distances=distances.numpy().copy(), margin=margin)


def ball_occupancy(config: OccupancyConfig, has_masks: bool = True) -> Occupancy:
    """Returns an occupancy that knows the ball's distance already, or is full without masks."""
    hull = ball_hull()
    occupancy = Occupancy(hull, config, has_masks)
    if has_masks:
        occupancy.distances.copy_(torch.from_numpy(hull.distances))
    return occupancy


class BallField:
    """Stands in for `Field`: the ball's exact distance under a real head."""

    def __init__(self, backend: Backend, sharpness: float = SHARP) -> None:
        self.backend, self.trained_fraction = backend, 1.0
        config = NeusConfig(
            sharpness_start=sharpness, sharpness_end=sharpness, n_geometry_features=4, n_neurons=16
        )
        self.head: Head = NeusHead(config, N_FRAMES, ResFieldConfig(rank=0), seeded())

    def query(self, positions: Tensor, slices: FrameSlices, fraction: float, n_tangents: int):
        """Returns jets: the distance, its gradient and four quiet features."""
        jets = torch.zeros(positions.shape[0], 1 + n_tangents, 5)
        jets[:, 0, 0] = ball_distances(positions)
        if n_tangents:
            jets[:, 1:, 0] = torch.nn.functional.normalize(positions - 0.5, dim=1)
        return jets

    def outputs(self, *arguments: Any) -> Outputs:
        """Returns what a head reads of the jets."""
        return Outputs.of(self.query(*arguments), arguments[0].detach())

    def sharpness(self, fraction: float) -> float:
        """Returns the head's."""
        return float(torch.as_tensor(self.head.sharpness(fraction)).detach())

    def sdfs(self, positions: Tensor, frame: int) -> Tensor:
        """Returns the distance, at every frame the same."""
        return ball_distances(positions)

    def normals(self, positions: Tensor, frame: int) -> Tensor:
        """Returns unit normals, at every frame the same."""
        return torch.nn.functional.normalize(positions - 0.5, dim=1)


def small_field(backend: Backend, head: str = "neus", n_frames: int = N_FRAMES) -> Field:
    """Returns a field that trains in milliseconds."""
    encoder = HashGridConfig(**SMALL_GRID | {"n_residuals": 1, "start_levels": 4})
    shape = {"n_geometry_features": 4, "n_neurons": 16, "n_hidden_layers": 1, "view_degree": 0}
    heads = {
        "neus": NeusConfig(sharpness_start=30.0, sharpness_end=SHARP, **shape),
        "nerf": NerfConfig(surface_density=30.0, **shape),
    }
    residual = ResFieldConfig(rank=2, deviation=0.01)
    network = NetworkConfig(16, 1, release_end=0.5)
    return Field(encoder, network, heads[head], residual, n_frames, seeded(), backend)
