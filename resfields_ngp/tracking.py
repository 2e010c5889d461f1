"""One connectivity for many frames: a mesh that follows the field from frame to frame.

Without correspondences from the field, a mesh is fitted to the next frame's isosurface by the field
itself: vertices step along its normals by its distances. At first the steps are kept smooth over
the mesh, so that limbs move as a whole (a viscous flow); then the displacement since the last frame
is, ever less stiffly (non-rigid ICP, Amberg et al. 2007, with a field for nearest points).

Vocabulary
    key         the frame whose own mesh a group has.
    residual    how far mesh and surface are apart, see `residual`.
    flips       triangles that face against the field's normals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import coo_matrix, csc_matrix, diags, identity
from scipy.sparse.linalg import splu
from scipy.spatial import KDTree

from .extraction import MeshingConfig, extract_mesh
from .frame_surface import Surface
from .mesh import Mesh

if TYPE_CHECKING:
    from .reconstruction import Reconstruction
    from .surfaces import FittedSurfaces

FLOWS, FLOW_STEPS = (300.0, 100.0, 30.0, 10.0), 6
"""Smoothness of the steps in each pass that flows, and the steps of a pass."""
SPRINGS, SPRING_STEPS = (3.0, 0.3), 4
"""Smoothness of the displacement in each pass after that, and the steps of a pass."""
FLIPS = 0.005
"""Part of the triangles that may face inwards before a new group begins."""
_PERCENTILE = 99.5
_COARSE = 128  # cells along the box of the isosurface that coverage is measured with

Smoother = Callable[[np.ndarray], np.ndarray]
"""(V, 3) displacements to smooth ones."""


@dataclass(frozen=True)
class FrameMesh:
    """One frame's mesh and how it came about."""

    frame: int
    """Index of the frame among those fitted."""
    mesh: Mesh
    """World units."""
    key: int
    """The frame whose connectivity it has."""
    flips: int = 0
    """Triangles that face inwards."""
    residual: float = 0.0
    """Distance between mesh and surface, world units; 0 for a key."""
    is_tracked: bool = False
    """Whether it belongs to a group."""


def frame_groups(frames: Sequence[int], config: MeshingConfig) -> list[Sequence[int]]:
    """Returns the frames that are meshed together, in order."""
    size = config.group_size if config.tracking == "group" else 1
    return [frames[begin : begin + size] for begin in range(0, len(frames), size)]


def group_meshes(
    reconstruction: Reconstruction | FittedSurfaces, frames: Sequence[int], config: MeshingConfig
) -> Iterator[FrameMesh]:
    """Yields the meshes of a group's frames in order, the first one a key.

    A frame that the mesh cannot follow becomes a key itself. Frames without a surface yield an
    empty mesh, and the next one is a key.
    """
    key, tracker = 0, None
    for frame in frames:
        followed = tracker.follow(Surface(reconstruction, frame, config.level)) if tracker else None
        if followed is not None:
            yield FrameMesh(frame, followed.mesh, key, followed.flips, followed.residual, True)
            continue
        mesh = extract_mesh(reconstruction, frame, config)
        key, tracker = frame, None
        if mesh.n_faces and config.tracking == "group":
            surface = Surface(reconstruction, frame, config.level)
            tracker = Tracker(surface.space.to_model(mesh.vertices, frame), mesh.faces, config)
        yield FrameMesh(frame, mesh, key, is_tracked=config.tracking == "group")


@dataclass(frozen=True)
class _Followed:
    mesh: Mesh
    flips: int
    residual: float


class Tracker:
    """A mesh in model space that is carried from frame to frame."""

    def __init__(self, positions: np.ndarray, faces: np.ndarray, config: MeshingConfig) -> None:
        self._positions, self._faces, self._config = positions, faces, config
        self._velocities = np.zeros_like(positions)
        laplacian = _laplacian(faces, len(positions))
        self._flows = [_smoother(laplacian, weight) for weight in FLOWS]
        self._springs = [_smoother(laplacian, weight) for weight in SPRINGS]

    def follow(self, surface: Surface) -> _Followed | None:
        """Carries the mesh on to a frame; None, and the mesh stays, where it cannot follow."""
        before = self._positions
        guess = before + self._velocities
        positions = fitted(surface, before, guess, self._flows, self._springs)
        flips = flipped(surface, positions, self._faces)
        apart = residual(surface, positions, self._faces, self._config)
        if apart > self._config.group_residual or flips > FLIPS * len(self._faces):
            return None
        self._positions, self._velocities = positions, positions - before
        mesh = surface.dressed(Mesh(positions, self._faces), self._config.colours)
        return _Followed(mesh, flips, apart * surface.space.scale)


def fitted(
    surface: Surface,
    before: np.ndarray,  # (V, 3) the last frame's positions
    guess: np.ndarray,  # (V, 3)
    flows: Sequence[Smoother],
    springs: Sequence[Smoother],
) -> np.ndarray:  # (V, 3)
    """Returns positions on a frame's surface that moved there from the last frame's smoothly."""
    positions = guess
    for smooth in flows:
        for _ in range(FLOW_STEPS):
            positions = positions + smooth(steps_to(surface, positions))
    for smooth in springs:
        for _ in range(SPRING_STEPS):
            positions = before + smooth(positions + steps_to(surface, positions) - before)
    # The last word is the field's, but for what would fold neighbours over.
    for _ in range(2):
        positions = positions + springs[-1](steps_to(surface, positions))
    return positions


def steps_to(surface: Surface, positions: np.ndarray) -> np.ndarray:
    """Returns (V, 3) steps onto a surface: along the field's normals by its distance.

    Outside the occupied region the field is not to be trusted; there the occupancy's own distances
    lead back.
    """
    away = surface.outside(positions)
    steps = -surface.values(positions)[:, None] * surface.normals(positions)
    lost = np.flatnonzero(away > 0)
    if len(lost):
        probe = 0.5 / _COARSE
        slopes = [
            surface.outside(positions[lost] + axis) - surface.outside(positions[lost] - axis)
            for axis in np.eye(3) * probe
        ]
        gradients = np.stack(slopes, 1) / (2 * probe)
        steps[lost] = -away[lost, None] * gradients
    return np.clip(steps, -8 / _COARSE, 8 / _COARSE)


def flipped(surface: Surface, positions: np.ndarray, faces: np.ndarray) -> int:
    """Returns how many triangles face against the field's normals at their middles."""
    corners = positions[faces]
    crosses = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = surface.normals(corners.mean(1))
    return int(((crosses * normals).sum(1) < 0).sum())


def residual(
    surface: Surface, positions: np.ndarray, faces: np.ndarray, config: MeshingConfig
) -> float:
    """Returns how far a mesh and a frame's surface are apart, model units.

    The larger of two 99.5th percentiles: the field's distances at the middles of triangles, and the
    distances of a coarse isosurface's vertices from the mesh: what it does not cover.
    """
    middles = positions[faces].mean(1)
    off = np.abs(surface.values(middles))
    truth = extract_mesh(surface.reconstruction, surface.frame, coarse(config))
    if truth.n_faces == 0:
        return float("inf")
    points = surface.space.to_model(truth.vertices, surface.frame)
    corners = positions[faces]
    crosses = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = crosses / np.maximum(np.linalg.norm(crosses, axis=1, keepdims=True), 1e-20)
    distances, nearest = KDTree(middles).query(points)
    heights = np.abs(((points - middles[nearest]) * normals[nearest]).sum(1))
    # Beside a triangle's middle the plane through it counts, farther off the distance itself.
    reach = np.linalg.norm(corners - middles[:, None], axis=2).max(1)
    uncovered = np.where(distances <= reach[nearest], heights, distances)
    return float(max(np.percentile(off, _PERCENTILE), np.percentile(uncovered, _PERCENTILE)))


def coarse(config: MeshingConfig) -> MeshingConfig:
    """Returns the settings of the mesh that coverage is measured with."""
    resolution = min(_COARSE, config.resolution)
    return replace(config, resolution=resolution, target_faces="full", colours=False)


def _laplacian(faces: np.ndarray, n_vertices: int) -> csc_matrix:
    """Returns the (V, V) graph Laplacian of a mesh: for each edge the difference of its ends."""
    edges = np.unique(np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1), axis=0)
    rows, columns = np.concatenate([edges, edges[:, ::-1]]).T
    ones = np.ones(len(rows))
    adjacency = coo_matrix((ones, (rows, columns)), shape=(n_vertices, n_vertices))
    return csc_matrix(diags(np.asarray(adjacency.sum(1)).ravel()) - adjacency)


def _smoother(laplacian: csc_matrix, weight: float) -> Smoother:
    """Returns the map to displacements d that minimise |d - d_0|^2 + weight * |grad d|^2."""
    system = csc_matrix(identity(laplacian.get_shape()[0]) + weight * laplacian)
    return splu(system, permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True}).solve
