"""Which pixels of a picture show the subject: those that the frame's mesh covers.

The mesh meets the outlines of the training masks, which a rendering's opacities only come near:
they fade across a pixel or two, a little outside.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .cameras import Cameras
from .extraction import MeshingConfig, extract_mesh
from .manifest import read_manifest
from .mesh import Mesh
from .mesh_files import read_mesh
from .rasterising import silhouette

if TYPE_CHECKING:
    from .reconstruction import Reconstruction

SAMPLES = 3
"""Points along either side of a pixel that are looked at."""


class FrameMeshes:
    """The meshes of a run's frames: those exported of the same weights, or made for the purpose."""

    def __init__(
        self, reconstruction: Reconstruction, run: Path, source: str, config: MeshingConfig
    ) -> None:
        """Looks at what is there.

        Args:
            reconstruction: What was fitted.
            run: The run folder.
            source: Names the weights; exports of others do not count.
            config: How meshes are made that are not there; all triangles are kept.
        """
        self._reconstruction = reconstruction
        self._config = replace(config, target_faces="full", watertight=False)
        self._files: dict[int, Path] = {}
        manifest = read_manifest(run / "manifest.json")
        if source and manifest.get("settings", {}).get("source") == source:
            for row in manifest["frames"]:
                paths = [run / name for name in row["files"] if (run / name).is_file()]
                if paths:
                    self._files[row["frame"]] = paths[0]

    def at(self, frame: int) -> Mesh:
        """Returns a frame's mesh, world units, by the frame's index among those fitted.

        Raises:
            ValueError: An exported file is damaged.
        """
        path = self._files.get(self._reconstruction.frame_numbers[frame])
        return read_mesh(path) if path else extract_mesh(self._reconstruction, frame, self._config)


def covered_shares(mesh: Mesh, cameras: Cameras, frame: int) -> np.ndarray:
    """Returns how much of each pixel a mesh covers, (H, W) in [0, 1], in ninths."""
    fine = silhouette(mesh, cameras.resized(float(SAMPLES)), frame)
    parts = fine.reshape(cameras.height, SAMPLES, cameras.width, SAMPLES)
    return parts.mean(axis=(1, 3))
