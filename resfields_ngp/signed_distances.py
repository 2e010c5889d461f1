"""Signed distances to triangle meshes, by libigl: exact distance, sign by winding number.

The generalised winding number (Jacobson 2013; fast: Barill 2018) is about 1 inside and
0 outside also where a mesh has holes, or parts that overlap; half of it is the border.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .extras import required
from .mesh import Mesh, edge_counts, face_volumes


@dataclass(frozen=True)
class MeshDistance:
    """The signed distance to a mesh, negative inside."""

    mesh: Mesh
    """The surface."""
    _igl: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_igl", required("igl"))

    @property
    def is_watertight(self) -> bool:
        """True where every edge has two triangles."""
        return bool((edge_counts(self.mesh) == 2).all())

    @property
    def faces_inwards(self) -> bool:
        """True where the triangles' normals point into the volume."""
        return float(face_volumes(self.mesh).sum()) < 0.0

    def __call__(
        self,
        points: np.ndarray,  # (N, 3)
    ) -> np.ndarray:  # (N,) float32
        """Returns the signed distances of points, in the mesh's units."""
        if not len(points):
            return np.zeros(0, np.float32)
        points = np.ascontiguousarray(points, np.float64)
        vertices = np.ascontiguousarray(self.mesh.vertices, np.float64)
        faces = np.ascontiguousarray(self.mesh.faces, np.int64)
        unsigned = self._igl.SIGNED_DISTANCE_TYPE_UNSIGNED
        distances = self._igl.signed_distance(points, vertices, faces, sign_type=unsigned)[0]
        windings = self._igl.fast_winding_number(vertices, faces, points)
        # Inside-out meshes wind the other way.
        return np.where(np.abs(windings) > 0.5, -distances, distances).astype(np.float32)
