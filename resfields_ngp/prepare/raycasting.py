"""Where rays meet triangles: Embree finds which, double precision says where."""

from __future__ import annotations

import numpy as np

from ..records import check_shape

MISS = -1


class RayCaster:
    """Triangles to cast rays at.

    Embree works in single precision and only names the triangle; positions on it are computed
    from its plane, so that they do not depend on the build of Embree.

    Args:
        vertices: (V, 3) world.
        faces: (F, 3) vertex numbers.

    Raises:
        ImportError: Embree is not installed; the message has the line that does.
    """

    def __init__(self, vertices: np.ndarray, faces: np.ndarray) -> None:
        try:
            from embreex.mesh_construction import TriangleMesh
            from embreex.rtcore_scene import EmbreeScene
        except ImportError as error:
            raise ImportError(
                f"meshes are rendered with Embree, which cannot be imported ({error}): "
                "pip install embreex (there is none for ARM)"
            ) from None
        check_shape("vertices", vertices, "V 3")
        check_shape("faces", faces, "F 3")
        low, high = vertices.min(axis=0), vertices.max(axis=0)
        self._centre = (low + high) / 2
        # A mesh far from the origin would lose digits in single precision.
        self._scale = 2 / max(float((high - low).max()), 1e-12)
        self._scene = EmbreeScene()
        self._keep = TriangleMesh(
            scene=self._scene,
            vertices=self._placed(vertices),
            indices=np.ascontiguousarray(faces, np.int32),
        )

    def first_hits(
        self,
        origins: np.ndarray,  # (N, 3) or (3,) world
        directions: np.ndarray,  # (N, 3) world, any length above 0
    ) -> np.ndarray:
        """Returns the (N,) triangle that each ray meets first, `MISS` for none."""
        if len(directions) == 0:
            return np.zeros(0, np.int64)
        placed = np.broadcast_to(self._placed(origins), directions.shape)
        lengths = np.linalg.norm(directions, axis=1, keepdims=True)
        unit = np.ascontiguousarray(directions / lengths, np.float32)
        return self._scene.run(np.ascontiguousarray(placed), unit).astype(np.int64)

    def escape(self, origins: np.ndarray, directions: np.ndarray) -> np.ndarray:
        """Returns (N,) whether rays meet nothing."""
        return self.first_hits(origins, directions) == MISS

    def _placed(self, points: np.ndarray) -> np.ndarray:
        return ((points - self._centre) * self._scale).astype(np.float32)
