"""Surfaces to look at: exported files, or the newest checkpoint's, as GLB in one of some looks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from .draco import EXTENSION
from .extraction import MeshingConfig, extract_mesh
from .gltf import coloured_glb, textured_glb
from .manifest import read_manifest
from .mesh import Mesh, vertex_normals
from .mesh_files import read_mesh
from .textured_files import encode_picture, read_textured

if TYPE_CHECKING:
    from .reconstruction import Reconstruction

Look = Literal["colours", "normals", "shape"]
"""Photographed colours, the directions of normals, or grey under lamps."""
LOOKS: tuple[Look, ...] = ("colours", "normals", "shape")
_CLAY = 0.35  # reflectance


class Surfaces(Protocol):
    """Where the surfaces of frames come from."""

    @property
    def version(self) -> str:
        """What names the weights they are of, and changes with them; empty for files."""
        ...

    def glb(self, number: int, look: Look) -> bytes | None:
        """Returns the surface of a frame, by the capture's own number, in world units.

        Returns:
            A GLB; None where the frame has no surface.

        Raises:
            ValueError: A file is damaged.
            OSError: It is gone.
            ImportError: It is compressed with Draco, and DracoPy is not installed.
        """
        ...


@dataclass(frozen=True)
class ExportedSurfaces:
    """Files that a manifest lists."""

    files: Mapping[int, Path]
    """One of each frame, by its number."""
    is_textured: bool
    """Whether they have textures."""
    version: str = ""
    """See `Surfaces`."""

    @staticmethod
    def of(folder: Path, is_textured: bool) -> ExportedSurfaces:
        """Returns those that ``FOLDER/manifest.json`` lists and that are there.

        A textured OBJ is as good as a GLB, a PLY has no texture left and a USD is not read.
        """
        suffixes = (".glb", ".obj") if is_textured else (".ply", ".glb", ".obj")
        files: dict[int, Path] = {}
        for row in read_manifest(folder / "manifest.json")["frames"]:
            paths = [folder / name for name in row["files"]]
            found = [p for suffix in suffixes for p in paths if p.suffix == suffix and p.is_file()]
            if found:
                files[row["frame"]] = found[0]
        return ExportedSurfaces(files, is_textured)

    def glb(self, number: int, look: Look) -> bytes | None:
        """See `Surfaces`."""
        if number not in self.files:
            return None
        path = self.files[number]
        if not self.is_textured:
            return dressed(read_mesh(path), look)
        if look == "colours" and path.suffix == ".glb":
            content = path.read_bytes()
            if EXTENSION.encode() not in content:  # a browser would have to fetch a decoder
                return content
        textured = read_textured(path)
        if look != "colours":
            return dressed(textured.mesh, look)
        picture = encode_picture(textured.texture, "jpeg")
        return textured_glb(textured.mesh, textured.atlas.uvs, picture, "jpeg")


class CheckpointSurfaces:
    """The newest checkpoint's surfaces, meshed coarsely when they are asked for."""

    def __init__(self, run: Path, device: str, resolution: int) -> None:
        """Takes hold of a run, which may still be training.

        Args:
            run: Its folder.
            device: Where the field is asked.
            resolution: Cells along model space's side.
        """
        self._run, self._device = run, device
        self._config = MeshingConfig(resolution=resolution, outline_reach=0.0)
        self._loaded: tuple[str, Reconstruction] | None = None

    @property
    def version(self) -> str:
        """See `Surfaces`: the newest checkpoint's step; empty before the first."""
        found = max((self._run / "checkpoints").glob("step_*.json"), default=None)
        return f"step {int(found.stem.removeprefix('step_'))}" if found else ""

    def glb(self, number: int, look: Look) -> bytes | None:
        """See `Surfaces`."""
        version = self.version
        if not version:
            return None
        if self._loaded is None or self._loaded[0] != version:
            from .reconstruction import load_reconstruction

            self._loaded = version, load_reconstruction(self._run, self._device)
        reconstruction = self._loaded[1]
        mesh = extract_mesh(
            reconstruction, reconstruction.frame_numbers.index(number), self._config
        )
        return dressed(mesh, look) if mesh.n_faces else None


def dressed(mesh: Mesh, look: Look) -> bytes:
    """Returns a mesh as a GLB in a look; without colours of its own it is grey under lamps.

    Vertices at the same place share their normal, so that seams of a texture do not show.
    """
    if look == "colours" and mesh.colours is not None:
        return coloured_glb(mesh)
    places, numbers = np.unique(mesh.vertices, axis=0, return_inverse=True)
    normals = vertex_normals(places, numbers.reshape(-1)[mesh.faces])[numbers.reshape(-1)]
    if look == "normals":
        colours = np.round(255 * (normals + 1) / 2).astype(np.uint8)
        return coloured_glb(replace(mesh, colours=colours))
    return coloured_glb(Mesh(mesh.vertices, mesh.faces, normals), _CLAY)
