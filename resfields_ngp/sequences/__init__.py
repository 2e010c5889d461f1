"""Sequences of textured meshes: raw Owlii folders, OBJ, PLY or GLB in frame order, animated glTF.

>>> from resfields_ngp.sequences import SequenceConfig, open_sequence
>>> sequence = open_sequence(SequenceConfig(path="basketball"))      # doctest: +SKIP
>>> mesh = sequence.read(0)                                          # doctest: +SKIP
>>> mesh.vertices.shape, mesh.faces.shape, mesh.corner_uvs.shape     # doctest: +SKIP
((20711, 3), (39614, 3), (39614, 3, 2))
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .base import Material, MeshSequence, SequenceError, TexturedMesh, leaves_square
from .folders import GLTF_SUFFIXES, FolderSequence, open_animation, read_textured_mesh
from .naming import ANY_NAMES, OWLII_NAMES, list_frames
from .units import find_unit

__all__ = [
    "Material",
    "MeshSequence",
    "SequenceConfig",
    "SequenceError",
    "TexturedMesh",
    "find_unit",
    "leaves_square",
    "open_sequence",
    "read_textured_mesh",
]


@dataclass(frozen=True)
class SequenceConfig:
    """Which meshes, and how large they are."""

    path: str = ""
    """Folder of a mesh sequence, or an animated .glb or .gltf."""
    naming: Literal["any", "owlii"] = "any"
    """owlii: NAME_%08d.obj, as published, or NAME_fr%04d.obj, as in MPEG's test sets."""
    match: str = "*"
    """Pattern of file names, where a folder holds several sequences: dancer_*."""
    frames: str = "::"
    """Frames to use, as start:stop:stride over the files in the order of their numbers."""
    unit: str = "auto"
    """auto takes the unit in which the figure is 0.5 to 3 metres tall; or m, dm, cm, mm, or a
    number, metres per unit."""
    up: Literal["y", "z"] = "y"
    """The axis along which the figure stands."""
    animation: str = ""
    """Animation of a glTF file, by name; the first by default."""
    fps: float = 24.0
    """Frames per second of an animation, above 0."""

    def __post_init__(self) -> None:
        if self.naming not in ("any", "owlii"):
            raise ValueError(f'naming is "{self.naming}"; allowed: any, owlii')
        if self.up not in ("y", "z"):
            raise ValueError(f'up is "{self.up}"; allowed: y, z')
        if not self.fps > 0:
            raise ValueError(f"fps is {self.fps}; allowed: above 0")


def open_sequence(config: SequenceConfig) -> MeshSequence:
    """Finds all frames of a sequence; meshes are read as they are asked for.

    Raises:
        SequenceError: There is no such sequence, or its files are not one; one line that says why.
    """
    path = Path(config.path)
    if not config.path:
        raise SequenceError("no sequence is named; pass its folder")
    if path.is_file():
        if path.suffix.lower() in GLTF_SUFFIXES:
            return open_animation(path, config.animation, config.fps)
        return FolderSequence(path.stem, (path,), (0,))
    if config.naming == "owlii":
        files = list_frames(path, (".obj",), OWLII_NAMES, config.match)
    else:
        files = list_frames(path, (".obj", ".ply", *GLTF_SUFFIXES), ANY_NAMES, config.match)
    return FolderSequence(files.name, files.paths, files.numbers, files.notes)
