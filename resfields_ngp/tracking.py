"""One connectivity for many frames: a mesh that follows the field from frame to frame.

Without correspondences from the field, the key's mesh is first laid onto a coarse isosurface of the
next frame as rigidly as possible (`registration`), from where it would be if everything moved on
as before, and if that leads nowhere, from where it was. Then the field itself has the word:
vertices step along its normals by its distances, what that adds is kept smooth over the mesh, and
folds are drawn flat.

Vocabulary
    key         the frame whose own mesh a group has.
    residual    how far mesh and surface are apart, see `residual`.
    flips       triangles that face against the field's normals.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from .deformation_graph import Pose
from .extraction import MeshingConfig, extract_mesh, kept_surface, outlined
from .frame_surface import Surface
from .manifold import as_manifold
from .mesh import Mesh
from .registration import FOLLOW, SEARCH, Registration, Target
from .surface_fitting import SPRINGS, edge_laplacian, fitted, flipped, smoother, unfolded
from .surface_points import distances_from

if TYPE_CHECKING:
    from .reconstruction import Reconstruction
    from .surfaces import FittedSurfaces

SPACING = 0.035
"""Distance between the nodes that carry a mesh, model units: less than a forearm is thick."""
FLIPS = 0.005
"""Part of the triangles that may face inwards before a new group begins."""
_PERCENTILE = 99.5
_COARSE = 128  # cells along the box of the isosurface that is followed and covered


@dataclass(frozen=True)
class FrameMesh:
    """One frame's mesh and how it came about."""

    frame: int
    """Index of the frame among those fitted."""
    mesh: Mesh
    """World units."""
    key: int
    """The frame whose connectivity it has."""
    key_mesh: Mesh
    """That frame's mesh; its own where it is the key."""
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
    key, key_mesh, tracker = 0, None, None
    for frame in frames:
        surface = Surface(reconstruction, frame, config.level, config.margin)
        followed = tracker.follow(surface) if tracker else None
        if followed is not None:
            assert key_mesh is not None
            fit = (followed.flips, followed.residual)
            yield FrameMesh(frame, followed.mesh, key, key_mesh, *fit, is_tracked=True)
            continue
        mesh = extract_mesh(reconstruction, frame, config)
        key, key_mesh, tracker = frame, mesh, None
        if mesh.n_faces and config.tracking == "group":
            tracker = Tracker(surface.space.to_model(mesh.vertices, frame), mesh.faces, config)
        yield FrameMesh(frame, mesh, key, mesh, is_tracked=config.tracking == "group")


@dataclass(frozen=True)
class _Followed:
    mesh: Mesh
    flips: int
    residual: float


class Tracker:
    """A mesh in model space that is carried from frame to frame."""

    def __init__(self, positions: np.ndarray, faces: np.ndarray, config: MeshingConfig) -> None:
        self._faces, self._config = faces, config
        self._registration = Registration(Mesh(positions, faces), SPACING)
        self._last: Pose | None = None
        self._laplacian = edge_laplacian(faces, len(positions))
        self._springs = [smoother(self._laplacian, weight) for weight in SPRINGS]

    def follow(self, surface: Surface) -> _Followed | None:
        """Carries the mesh on to a frame; None, and the mesh stays, where it cannot follow."""
        coarse = coarse_surface(surface, self._config)
        if coarse.n_faces == 0:
            return None
        target = Target(coarse)
        for pose in self._poses(target):
            start = self._registration.graph.posed(pose)
            positions = fitted(surface, start, self._faces, self._springs)
            positions = unfolded(surface, positions, self._faces, self._laplacian)
            flips = int(flipped(surface, positions, self._faces).sum())
            apart = residual(surface, positions, self._faces, coarse)
            if apart <= self._config.group_residual and flips <= FLIPS * len(self._faces):
                self._registration.graph.rest(positions)
                self._last = pose
                mesh = Mesh(positions, self._faces)
                mesh = outlined(surface, mesh, self._config.outline_reach)
                mesh = surface.dressed(mesh, self._config.colours)
                return _Followed(mesh, flips, apart * surface.space.scale)
        return None

    def _poses(self, target: Target) -> Iterator[Pose]:
        """Yields poses on a surface, the likeliest first."""
        if self._last is not None:
            yield self._registration.laid(self._last, target, FOLLOW)
        rest = Pose.rest(self._registration.graph.n_nodes)
        yield self._registration.laid(rest, target, SEARCH)


def residual(surface: Surface, positions: np.ndarray, faces: np.ndarray, coarse: Mesh) -> float:
    """Returns how far a mesh and a frame's surface are apart, model units.

    The larger of two 99.5th percentiles: the field's distances at the middles of triangles, and the
    distances of a coarse isosurface's vertices from the mesh: what it does not cover.
    """
    off = np.abs(surface.values(positions[faces].mean(1)))
    uncovered = distances_from(Mesh(positions, faces), coarse.vertices)
    return float(max(np.percentile(off, _PERCENTILE), np.percentile(uncovered, _PERCENTILE)))


def coarse_surface(surface: Surface, config: MeshingConfig) -> Mesh:
    """Returns a frame's isosurface on few cells, model space: what is followed and covered."""
    coarse = replace(config, resolution=min(_COARSE, config.resolution))
    mesh = kept_surface(surface, coarse)
    return as_manifold(mesh) if config.watertight else mesh
