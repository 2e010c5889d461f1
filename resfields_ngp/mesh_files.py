"""Meshes as files: binary PLY, OBJ and GLB, with normals and vertex colours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import trimesh
from trimesh.visual import ColorVisuals

from .gltf import coloured_glb
from .mesh import Mesh, is_far
from .sequences.gltf import Gltf
from .sequences.gltf_motion import Motion
from .writing import write_whole


def write_mesh(mesh: Mesh, path: Path) -> None:
    """Writes a mesh in the format of the path's suffix; the file is whole or not there.

    Raises:
        ValueError: The suffix is not one of `FORMATS`.
        OSError: The disk is full or the folder is not writable.
    """
    suffix = path.suffix.lstrip(".").lower()
    if suffix not in FORMATS:
        raise ValueError(f"{path}: unknown mesh format '{suffix}'; allowed: {', '.join(FORMATS)}")
    write_whole(path, FORMATS[suffix](mesh))


def read_mesh(path: Path) -> Mesh:
    """Reads a mesh and its colours, not its normals, without merging or dropping anything.

    Raises:
        ValueError: The file is cut off or not a mesh.
    """
    try:
        if path.suffix.lower() == ".glb":
            return _read_glb(path)
        loaded = trimesh.load(path, process=False, force="mesh")
        assert isinstance(loaded, trimesh.Trimesh)
        vertices, faces = np.asarray(loaded.vertices), np.asarray(loaded.faces, np.int64)
    except OSError:
        raise
    except Exception as error:  # trimesh raises whatever its parsers stumble over
        raise ValueError(f"{path}: not a readable mesh ({error}); mesh the frame again") from error
    return Mesh(vertices, faces.reshape(-1, 3), None, _colours_of(loaded))


def _read_glb(path: Path) -> Mesh:
    """Reads a GLB at rest; trimesh takes the linear colours of glTF for sRGB."""
    scene = Motion(Gltf.open(path), ()).mesh(0.0)
    return Mesh(scene.vertices, np.asarray(scene.faces), None, scene.colours)


def _colours_of(loaded: trimesh.Trimesh) -> np.ndarray | None:
    """Returns the (V, 3) uint8 vertex colours of a file that has them."""
    if not isinstance(loaded.visual, ColorVisuals) or loaded.visual.kind != "vertex":
        return None
    return np.asarray(loaded.visual.vertex_colors)[:, :3].astype(np.uint8)


def to_ply(mesh: Mesh) -> bytes:
    """Returns a binary little-endian PLY: float normals, unsigned-byte colours.

    Positions are floats too, or doubles where the mesh is far from the origin.
    """
    kind, word = ("<f8", "double") if is_far(mesh) else ("<f4", "float")
    columns = [(axis, kind, word, mesh.vertices[:, i]) for i, axis in enumerate("xyz")]
    if mesh.normals is not None:
        columns += [(f"n{a}", "<f4", "float", mesh.normals[:, i]) for i, a in enumerate("xyz")]
    if mesh.colours is not None:
        names = ("red", "green", "blue")
        columns += [(name, "u1", "uchar", mesh.colours[:, i]) for i, name in enumerate(names)]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(mesh.vertices)}"]
    header += [f"property {word} {name}" for name, _, word, _ in columns]
    header += [f"element face {mesh.n_faces}", "property list uchar int vertex_indices"]
    vertices = np.empty(len(mesh.vertices), [(name, kind) for name, kind, _, _ in columns])
    for name, _, _, values in columns:
        vertices[name] = values
    faces = np.empty(mesh.n_faces, [("count", "u1"), ("corners", "<i4", 3)])
    faces["count"], faces["corners"] = 3, mesh.faces
    start = "\n".join([*header, "end_header\n"]).encode()
    return start + vertices.tobytes() + faces.tobytes()


def to_obj(mesh: Mesh) -> bytes:
    """Returns an OBJ with normals; colours follow the positions as fractions, as MeshLab reads."""
    rows, pattern = mesh.vertices.astype(np.float64), "v %.7g %.7g %.7g"
    if is_far(mesh):
        pattern = pattern.replace("7", "14")
    if mesh.colours is not None:
        rows = np.hstack([rows, mesh.colours / 255])
        pattern += " %.4f %.4f %.4f"
    lines = [pattern % tuple(row) for row in rows.tolist()]
    if mesh.normals is not None:
        lines += [f"vn {x:.4f} {y:.4f} {z:.4f}" for x, y, z in mesh.normals.tolist()]
    corners = (mesh.faces + 1).tolist()
    if mesh.normals is None:
        lines += [f"f {a} {b} {c}" for a, b, c in corners]
    else:
        lines += [f"f {a}//{a} {b}//{b} {c}//{c}" for a, b, c in corners]
    return ("\n".join(lines) + "\n").encode()


FORMATS: dict[str, Callable[[Mesh], bytes]] = {
    "ply": to_ply,
    "obj": to_obj,
    "glb": coloured_glb,
}
