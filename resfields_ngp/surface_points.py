"""Points on and about a moving surface, with their signed distances, for a field to fit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import KDTree
from torch import Tensor
from trimesh.triangles import closest_point

from .mesh import Mesh, face_areas
from .model_space import ModelSpace
from .records import FrameSlices
from .signed_distances import MeshDistance

N_DRAWN = 40_000
"""Points drawn from a mesh that distances from it are found with."""


@dataclass(frozen=True)
class PointConfig:
    """Where the distance is sampled; the paper's shares by default."""

    surface: float = 0.5
    """Part of a step's points on the surface, where the distance is 0."""
    near: float = 0.375
    """Part near it: surface points moved by normal noise; the rest is uniform in the box."""
    deviation: float = 0.01
    """Standard deviation of that noise, normalised units (the sequence spans [-1, 1])."""
    widest_deviation: float = 0.2
    """Deviations go log-uniformly from `deviation` up to this one, so that no surface appears
    where there is none; equal to `deviation` for the paper's."""
    pool: int = 60_000
    """Points off the surface that are measured beforehand for each frame."""

    def __post_init__(self) -> None:
        if not (0.0 <= self.surface and 0.0 <= self.near and self.surface + self.near <= 1.0):
            raise ValueError(
                f"points.surface is {self.surface} and points.near {self.near};"
                " allowed: 0 or more each, 1 at most together"
            )
        if not 0.0 < self.deviation <= self.widest_deviation:
            raise ValueError(
                f"points.deviation is {self.deviation}; allowed: above 0, up to"
                f" points.widest_deviation, {self.widest_deviation}"
            )
        if self.pool < 1:
            raise ValueError(f"points.pool is {self.pool}; allowed: 1 or more")


class SurfaceSampler:
    """Draws points uniformly by area from a mesh.

    Args:
        mesh: The surface.
    """

    def __init__(self, mesh: Mesh) -> None:
        corners = mesh.vertices[mesh.faces]
        self._origins = corners[:, 0]
        self._edges = corners[:, 1:] - corners[:, :1]
        areas = face_areas(mesh)
        self._ends = np.cumsum(areas) / areas.sum()

    def draw(self, uniform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns (N, 3) points and their (N,) triangles from uniform numbers (N, 3) in [0, 1)."""
        faces = np.searchsorted(self._ends, uniform[:, 0], side="right")
        faces = np.minimum(faces, len(self._ends) - 1)
        a, b = uniform[:, 1:2], uniform[:, 2:3]
        # Points beyond the diagonal are mirrored back into the triangle.
        a, b = np.where(a + b > 1.0, 1.0 - a, a), np.where(a + b > 1.0, 1.0 - b, b)
        edges = self._edges[faces]
        return self._origins[faces] + a * edges[:, 0] + b * edges[:, 1], faces


def distances_from(mesh: Mesh, points: np.ndarray) -> np.ndarray:
    """Returns (N,) distances of points from a mesh.

    Exact to the triangles that the nearest of many points drawn from the mesh lie on; long, thin
    triangles are found that way too.
    """
    samples, faces = SurfaceSampler(mesh).draw(np.random.default_rng(0).random((N_DRAWN, 3)))
    owners = faces[np.asarray(KDTree(samples).query(points, k=3)[1])]
    corners = mesh.vertices[mesh.faces[owners]].reshape(-1, 3, 3)
    feet = closest_point(corners, np.repeat(points, 3, axis=0)).reshape(-1, 3, 3)
    return np.linalg.norm(feet - points[:, None], axis=2).min(1)


class SurfacePoints:
    """Points of all frames in model space: those on the surface fresh, the others from a pool.

    Args:
        distances: The signed distance of each frame, in world units.
        space: Where model space lies.
        config: Where to sample.
        unit: Normalised units per model unit.
        generator: Source of the pool's randomness.
    """

    def __init__(
        self,
        distances: list[MeshDistance],
        space: ModelSpace,
        config: PointConfig,
        unit: float,
        generator: torch.Generator,
    ) -> None:
        self.config = config
        self._samplers, self._pools = [], []
        for frame, distance in enumerate(distances):
            mesh = distance.mesh
            model = Mesh(space.to_model(mesh.vertices, frame), mesh.faces)
            sampler = SurfaceSampler(model)
            positions = self._off_surface(sampler, unit, generator)
            measured = distance(space.to_world(positions, frame)) / np.float32(space.scale)
            self._samplers.append(sampler)
            self._pools.append((positions.astype(np.float32), measured))

    def draw(
        self, frames: tuple[int, ...], n_points: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, FrameSlices]:
        """Returns about `n_points` positions (N, 3), their distances (N,), model units, and frames.

        The same number for each frame.
        """
        each = max(2, n_points // len(frames))
        n_surface = round(self.config.surface * each)
        positions, distances = [], []
        for frame in frames:
            uniform = torch.rand((n_surface, 3), generator=generator, dtype=torch.float64).numpy()
            positions.append(self._samplers[frame].draw(uniform)[0].astype(np.float32))
            distances.append(np.zeros(n_surface, np.float32))
            pool, measured = self._pools[frame]
            chosen = torch.randint(len(pool), (each - n_surface,), generator=generator).numpy()
            positions.append(pool[chosen])
            distances.append(measured[chosen])
        return (
            torch.from_numpy(np.concatenate(positions)),
            torch.from_numpy(np.concatenate(distances)),
            FrameSlices.even(frames, each),
        )

    def _off_surface(
        self, sampler: SurfaceSampler, unit: float, generator: torch.Generator
    ) -> np.ndarray:
        """Returns the pool's (N, 3) positions of a frame: near the surface, then uniform."""
        config = self.config
        rest = max(1.0 - config.surface, 1e-6)
        n_near = min(config.pool, round(config.pool * config.near / rest))
        uniform = torch.rand((config.pool, 3), generator=generator, dtype=torch.float64).numpy()
        noise = torch.randn((n_near, 3), generator=generator, dtype=torch.float64).numpy()
        spread = np.geomspace(config.deviation, config.widest_deviation, max(n_near, 1)) / unit
        near = sampler.draw(uniform[:n_near])[0] + noise * spread[:n_near, None]
        return np.clip(np.concatenate([near, uniform[n_near:]]), 0.0, 1.0)
