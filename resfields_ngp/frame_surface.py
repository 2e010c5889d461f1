"""One frame's surface in the field: its values, normals and colours, and its place in the world."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor

from .mesh import Mesh
from .outlines import Outline
from .surfaces import FittedSurfaces

if TYPE_CHECKING:
    from .reconstruction import Reconstruction


class Surface:
    """The isosurface of one frame, asked with NumPy arrays in the frame's model space."""

    def __init__(
        self,
        reconstruction: Reconstruction | FittedSurfaces,
        frame: int,
        level: float = 0.0,
        margin: float = 2.0,
    ) -> None:
        """Takes hold of a frame.

        Args:
            reconstruction: What was fitted.
            frame: Index of the frame among those fitted.
            level: How far outside the fitted surface this one lies, model units.
            margin: How far outside the occupied region it may lie, cells of the occupancy grid.
        """
        self.frame, self._level = frame, level + reconstruction.surface_level
        self.reconstruction, self.space = reconstruction, reconstruction.space
        self._field = reconstruction.field
        occupancy = reconstruction.occupancy
        self._grid = None if occupancy is None else occupancy.distances[frame].float()
        self._device = self._field.backend.device
        self._margin = margin

    @cached_property
    def outlines(self) -> Sequence[Outline]:
        """What the training cameras' masks show of the frame; none without masks.

        Raises:
            CaptureError: The capture is gone or damaged.
        """
        outlines_at = self.reconstruction.outlines
        return () if outlines_at is None else outlines_at(self.frame)

    def values(self, positions: np.ndarray) -> np.ndarray:
        """Returns (N,) about signed distances at (N, 3) positions, model units."""
        return self._values(self._tensor(positions)).float().cpu().numpy()

    @property
    def is_bounded(self) -> bool:
        """True where something is known about which region holds the surface."""
        return self._grid is not None

    def outside(self, positions: np.ndarray) -> np.ndarray:
        """Returns (N,) distances outside the region that may hold the surface, model units."""
        if self._grid is None:
            return np.full(len(positions), -1.0, np.float32)
        distances = trilinear(self._grid, self._tensor(positions))
        return (distances - self._margin / self._grid.shape[0]).cpu().numpy()

    def normals(self, positions: np.ndarray) -> np.ndarray:
        """Returns (N, 3) unit normals, outward, model axes."""
        return self._field.normals(self._tensor(positions), self.frame).float().cpu().numpy()

    def refined(self, positions: np.ndarray, cell: float) -> np.ndarray:
        """Returns (N, 3) positions moved onto the field's zero by one secant step."""
        points = self._tensor(positions)
        normals = self._field.normals(points, self.frame)
        return secant_step(self._values, points, normals, cell).cpu().numpy()

    def world_colours(self, positions: np.ndarray) -> np.ndarray:
        """Returns (N, 3) colours in [0, 1], seen head-on, at (N, 3) world positions."""
        points = self._tensor(self.space.to_model(positions, self.frame))
        assert not isinstance(self.reconstruction, FittedSurfaces), "a distance has no colours"
        return (
            self.reconstruction.field.rgbs(points, self.frame, None)
            .clamp(0, 1)
            .float()
            .cpu()
            .numpy()
        )

    def dressed(self, mesh: Mesh, colours: bool) -> Mesh:
        """Returns a mesh of model space in world units, with the field's normals and colours."""
        positions = self._tensor(mesh.vertices)
        normals = self._field.normals(positions, self.frame).double().cpu().numpy()
        rotation = self.space.world_from_model[:3, :3] / self.space.scale
        rgbs = None
        if colours and not isinstance(self.reconstruction, FittedSurfaces):
            found = self.reconstruction.field.rgbs(positions, self.frame, None).clamp(0, 1)
            rgbs = (found * 255).round().to(torch.uint8).cpu().numpy()
        vertices = self.space.to_world(positions.double().cpu().numpy(), self.frame)
        return Mesh(vertices, mesh.faces, normals @ rotation.T, rgbs)

    def _tensor(self, positions: np.ndarray) -> Tensor:
        return torch.as_tensor(positions, dtype=torch.float32, device=self._device)

    def _values(self, positions: Tensor) -> Tensor:
        return self._field.sdfs(positions, self.frame) - self._level


def secant_step(
    sdfs: Callable[[Tensor], Tensor],
    positions: Tensor,  # (N, 3) model space
    normals: Tensor,  # (N, 3) unit
    cell: float,
) -> Tensor:
    """Moves points along their normals to where a line through two values of the field is zero.

    Two values rather than the gradient's length, which heads without a metric do not have. A step
    is never longer than a quarter of a cell, so that triangles do not fold over.

    Returns:
        (N, 3) positions.
    """
    probe = 0.25 * cell
    here = sdfs(positions)
    slopes = (sdfs(positions + probe * normals) - here) / probe
    steps = torch.where(slopes > 1e-6, -here / slopes.clamp(min=1e-6), torch.zeros_like(here))
    return positions + steps.clamp(-probe, probe)[:, None] * normals


def trilinear(
    grid: Tensor,  # (G, G, G) values at cell centres, indexed [x, y, z]
    positions: Tensor,  # (N, 3) in [0, 1]^3
) -> Tensor:
    """Returns (N,) interpolated values; beyond the outermost centres the nearest one's."""
    # grid_sample calls the last axis of its volume x.
    points = (positions.flip(-1) * 2 - 1).view(1, 1, 1, -1, 3)
    found = functional.grid_sample(
        grid[None, None], points, mode="bilinear", padding_mode="border", align_corners=False
    )
    return found.view(-1)
