"""PLY meshes: vertex colours, or a texture where the file names one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import trimesh
from trimesh.visual import ColorVisuals

from .base import Material, SequenceError, TexturedMesh
from .textures import find_texture, read_texture


def read_ply(path: Path) -> TexturedMesh:
    """Reads a PLY mesh; its texture is the one that a ``TextureFile`` comment names.

    Raises:
        SequenceError: It is missing, damaged or without faces, or its texture is missing.
    """
    if not path.is_file():
        raise SequenceError(f"{path}: no such mesh")
    try:
        loaded = trimesh.load(path, process=False, force="mesh")
        assert isinstance(loaded, trimesh.Trimesh)
        vertices = np.asarray(loaded.vertices, np.float64)
        faces = np.asarray(loaded.faces, np.int64).reshape(-1, 3)
    except Exception as error:  # trimesh raises whatever its parsers stumble over
        raise SequenceError(f"{path}: not a readable PLY mesh ({error}); copy it again") from error
    if len(faces) == 0 or faces.max() >= len(vertices):
        raise SequenceError(f"{path}: no faces, or faces of absent vertices; expected a mesh")
    uvs = getattr(loaded.visual, "uv", None)
    written = _texture_comment(path)
    if uvs is not None and written is not None:
        found, moved = find_texture(written, path.parent, path.name)
        texture, converted = read_texture(found)
        material = Material(found.stem, texture=texture)
        corner_uvs = np.asarray(uvs, np.float64)[faces]
        notes = (*moved, *converted)
        return TexturedMesh(vertices, faces, (material,), None, corner_uvs, None, notes)
    colours = None
    if isinstance(loaded.visual, ColorVisuals) and loaded.visual.kind == "vertex":
        colours = np.asarray(loaded.visual.vertex_colors)[:, :3].astype(np.uint8)
    return TexturedMesh(vertices, faces, colours=colours)


def _texture_comment(path: Path) -> str | None:
    with open(path, "rb") as file:
        header = file.read(4096).partition(b"end_header")[0]
    for line in header.decode("ascii", "replace").splitlines():
        if line.lower().startswith("comment texturefile"):
            return line.split(None, 2)[2].strip()
    return None
