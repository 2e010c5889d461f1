"""Unwrapping: a surface cut into charts that lie side by side in a square picture."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import xatlas

from .mesh import Mesh
from .records import check_shape


@dataclass(frozen=True)
class Atlas:
    """Where each corner of each triangle lies in a texture."""

    uvs: np.ndarray
    """(U, 2) float32 in [0, 1]; u to the right, v upwards from the lower left, as in OBJ."""
    faces: np.ndarray
    """(F, 3) numbers into `uvs`, triangle by triangle as in the mesh."""

    def __post_init__(self) -> None:
        check_shape("uvs", self.uvs, "U 2")
        check_shape("faces", self.faces, "F 3")


@dataclass(frozen=True)
class TexturedMesh:
    """A surface with a picture on it."""

    mesh: Mesh
    """Positions and triangles, welded: seams exist in the atlas alone."""
    atlas: Atlas
    """Where the triangles lie in the texture."""
    texture: np.ndarray
    """(H, W, 3) uint8 sRGB; row 0 is the top, v = 1."""

    def split(self) -> tuple[Mesh, np.ndarray]:
        """Returns the mesh with a vertex for each position and place in the texture, and uvs.

        For formats with a single index: vertices on seams are doubled.
        """
        pairs = self.mesh.faces.ravel() * len(self.atlas.uvs) + self.atlas.faces.ravel()
        kept, numbers = np.unique(pairs, return_inverse=True)
        vertices, places = np.divmod(kept, len(self.atlas.uvs))
        mesh = replace(
            self.mesh,
            vertices=self.mesh.vertices[vertices],
            faces=numbers.reshape(-1, 3),
            normals=None if self.mesh.normals is None else self.mesh.normals[vertices],
            colours=None if self.mesh.colours is None else self.mesh.colours[vertices],
        )
        return mesh, self.atlas.uvs[places]


def unwrap(mesh: Mesh, size: int, padding: int) -> Atlas:
    """Cuts a mesh into charts and packs them with xatlas.

    Args:
        mesh: The surface; triangles may not repeat a corner.
        size: Side of the texture that it is meant for, texels.
        padding: Texels kept free around each chart.

    Raises:
        ValueError: Positions are not finite, or xatlas drops triangles.
    """
    if not np.isfinite(mesh.vertices).all():
        raise ValueError("the mesh has vertices that are not finite; train the run again")
    charts, packing = xatlas.ChartOptions(), xatlas.PackOptions()
    # Straight and round outlines cost more than half of the time and give twice as many charts.
    charts.straightness_weight = charts.roundness_weight = 0.0
    packing.resolution, packing.padding, packing.bilinear = size, padding, True
    atlas = xatlas.Atlas()
    # About its middle and in units of its size: chart costs are absolute.
    middle, extent = mesh.vertices.mean(0), float(np.ptp(mesh.vertices, axis=0).max()) or 1.0
    positions = ((mesh.vertices - middle) / extent).astype(np.float32)
    atlas.add_mesh(np.ascontiguousarray(positions), np.ascontiguousarray(mesh.faces, np.uint32))
    atlas.generate(charts, packing)
    origins, faces, uvs = atlas[0]
    faces = faces.astype(np.int64)
    if not np.array_equal(origins[faces], mesh.faces):
        raise ValueError(
            f"xatlas returned {len(faces)} of {mesh.n_faces} triangles, or others;"
            " mesh the frame again at another resolution"
        )
    return Atlas(uvs.astype(np.float32), faces)
