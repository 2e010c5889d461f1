"""Wavefront OBJ files: triangles with texture coordinates and materials, repairs told.

Polygons are cut into fans, numbers below zero count from the end, faces of no area are dropped.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .base import SequenceError, TexturedMesh, leaves_square
from .mtl import read_materials

_ABSENT = -1


@dataclass
class _Lines:
    """The lines of a file by keyword; faces with what was defined before them."""

    vertices: list[bytes] = field(default_factory=list)
    uvs: list[bytes] = field(default_factory=list)
    faces: list[bytes] = field(default_factory=list)
    face_places: list[tuple[int, int, int]] = field(default_factory=list)
    """Line number, vertices and texture coordinates so far."""
    face_materials: list[int] = field(default_factory=list)
    material_names: list[str] = field(default_factory=list)
    libraries: list[str] = field(default_factory=list)


def read_obj(path: Path) -> TexturedMesh:
    """Reads an OBJ file with its materials.

    Raises:
        SequenceError: It is missing, holds no faces or numbers that are none, a face names a
            vertex that is not there, or a material or texture cannot be found.
    """
    try:
        lines = _sorted_lines(path.read_bytes())
    except FileNotFoundError:
        raise SequenceError(f"{path}: no such mesh") from None
    vertices, colours = _positions(lines.vertices, path)
    uvs = _numbers(lines.uvs, path, "vt")[:, :2] if lines.uvs else np.zeros((0, 2))
    corners, owners, notes = _triangles(lines, path)
    _check_range(corners[..., 0], len(vertices), "vertices", lines, owners, path)
    _check_range(corners[..., 1], len(uvs), "texture coordinates", lines, owners, path)
    used, face_materials = np.unique(lines.face_materials, return_inverse=True)
    names = [lines.material_names[number] for number in used]
    materials, found = read_materials(lines.libraries, names, path)
    corner_uvs = _corner_uvs(corners[..., 1], uvs)
    if corner_uvs is not None and leaves_square(corner_uvs):
        notes.append("texture coordinates outside [0, 1]: the texture repeats")
    mesh = TexturedMesh(
        vertices,
        corners[..., 0],
        materials,
        face_materials[owners],
        corner_uvs,
        colours,
        (*notes, *found),
    )
    return without_empty_faces(mesh, path)


def without_empty_faces(mesh: TexturedMesh, path: Path) -> TexturedMesh:
    """Drops faces of no area, and says how many.

    Raises:
        SequenceError: A vertex is not a finite position, or nothing is left.
    """
    if not np.isfinite(mesh.vertices).all():
        row = int(np.argmin(np.isfinite(mesh.vertices).all(axis=1)))
        raise SequenceError(f"{path}: vertex {row + 1} is not finite; mend the file")
    a, b, c = (mesh.vertices[mesh.faces[:, i]] for i in range(3))
    keep = np.any(np.cross(b - a, c - a) != 0, axis=1)
    if not keep.any():
        raise SequenceError(f"{path}: no faces with an area; expected a triangle mesh")
    if keep.all():
        return mesh
    return TexturedMesh(
        mesh.vertices,
        mesh.faces[keep],
        mesh.materials,
        None if mesh.face_materials is None else mesh.face_materials[keep],
        None if mesh.corner_uvs is None else mesh.corner_uvs[keep],
        mesh.colours,
        (*mesh.notes, f"{int((~keep).sum())} faces of no area are left out"),
    )


def _sorted_lines(content: bytes) -> _Lines:
    lines, current = _Lines(), 0
    names = {"": 0}
    for number, line in enumerate(content.replace(b"\\\n", b" ").splitlines(), 1):
        keyword, _, rest = line.strip().replace(b"\t", b" ").partition(b" ")
        if keyword == b"v":
            lines.vertices.append(rest)
        elif keyword == b"vt":
            lines.uvs.append(rest)
        elif keyword == b"f":
            lines.faces.append(rest.partition(b"#")[0])
            lines.face_places.append((number, len(lines.vertices), len(lines.uvs)))
            lines.face_materials.append(current)
        elif keyword == b"usemtl":
            current = names.setdefault(rest.decode(errors="replace").strip(), len(names))
        elif keyword == b"mtllib":
            lines.libraries.append(rest.decode(errors="replace").strip())
    lines.material_names.extend(names)
    return lines


def _positions(rows: list[bytes], path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns positions, and the colours that some programs write behind them."""
    if not rows:
        raise SequenceError(f"{path}: no vertices; expected an OBJ mesh")
    numbers = _numbers(rows, path, "v")
    if numbers.shape[1] < 3:
        raise SequenceError(f"{path}: vertices of {numbers.shape[1]} numbers; expected x, y, z")
    if numbers.shape[1] < 6:
        return numbers[:, :3], None
    shares = numbers[:, 3:6] if numbers[:, 3:6].max() <= 1 else numbers[:, 3:6] / 255
    return numbers[:, :3], np.round(255 * shares.clip(0, 1)).astype(np.uint8)


def _numbers(rows: list[bytes], path: Path, keyword: str) -> np.ndarray:
    """Returns the numbers of equally long rows, (n, k)."""
    tokens = b" ".join(rows).split()
    try:
        return np.array(tokens, dtype="S").astype(np.float64).reshape(len(rows), -1)
    except ValueError:
        raise SequenceError(
            f'{path}: "{keyword}" lines with something else than equally many numbers; mend it'
        ) from None


def _triangles(lines: _Lines, path: Path) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Returns (F, 3, 2) numbers of vertices and texture coordinates from 0, and their lines."""
    if not lines.faces:
        raise SequenceError(f"{path}: no faces; expected a mesh, not a cloud of points")
    forms = {(f.count(b"/"), b"//" in f, b"-" in f, len(f.split())) for f in lines.faces}
    slashes, doubled, negative, count = next(iter(forms))
    if len(forms) == 1 and count == 3 and not negative and slashes in (0, 3, 6):
        n_parts = 2 if doubled else slashes // 3 + 1
        text = b" ".join(lines.faces).replace(b"//", b" ").replace(b"/", b" ")
        try:
            parts = np.array(text.split(), dtype="S").astype(np.int64).reshape(-1, 3, n_parts)
        except ValueError:
            raise SequenceError(f'{path}: an "f" line that is not of whole numbers') from None
        absent = np.full(parts.shape[:2], _ABSENT)
        uvs = parts[..., 1] - 1 if n_parts > 1 and not doubled else absent
        return np.stack([parts[..., 0] - 1, uvs], axis=2), np.arange(len(parts)), []
    return _fans(lines, path)


def _fans(lines: _Lines, path: Path) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Returns triangles of faces of any form: polygons are cut into fans."""
    corners, owners, n_polygons = [], [], 0
    for owner, (face, place) in enumerate(zip(lines.faces, lines.face_places, strict=True)):
        try:
            polygon = [_corner(token, place) for token in face.split()]
        except ValueError:
            polygon = []
        if len(polygon) < 3:
            text = face.decode(errors="replace").strip()
            raise SequenceError(f'{path}: line {place[0]}: "f {text}" is not a face')
        n_polygons += len(polygon) > 3
        for second, third in zip(polygon[1:], polygon[2:], strict=False):
            corners.append((polygon[0], second, third))
            owners.append(owner)
    notes = [f"{n_polygons} polygons are cut into triangles"] if n_polygons else []
    return np.array(corners, np.int64).reshape(-1, 3, 2), np.array(owners), notes


def _corner(token: bytes, place: tuple[int, int, int]) -> tuple[int, int]:
    """Returns vertex and texture coordinate of ``v``, ``v/vt``, ``v/vt/vn`` or ``v//vn``."""
    parts = token.split(b"/")
    numbers = [int(part) if part else 0 for part in (*parts, b"")[:2]]
    if numbers[0] == 0:
        raise ValueError
    vertex, uv = (
        number - 1 if number > 0 else so_far + number
        for number, so_far in zip(numbers, place[1:], strict=True)
    )
    if (numbers[1] < 0 and uv < 0) or vertex < 0:
        raise ValueError
    return vertex, uv if numbers[1] else _ABSENT


def _check_range(
    numbers: np.ndarray, n: int, what: str, lines: _Lines, owners: np.ndarray, path: Path
) -> None:
    wrong = np.flatnonzero((numbers >= n).any(axis=1) | (numbers < _ABSENT).any(axis=1))
    if what == "vertices" and len(wrong) == 0:
        wrong = np.flatnonzero((numbers < 0).any(axis=1))
    if len(wrong):
        line = lines.face_places[owners[wrong[0]]][0]
        raise SequenceError(
            f"{path}: line {line}: the face names number {numbers[wrong[0]].max() + 1} of "
            f"{n} {what}; the file is cut off or damaged"
        )


def _corner_uvs(numbers: np.ndarray, uvs: np.ndarray) -> np.ndarray | None:
    """Returns (F, 3, 2), NaN for the faces that lack a coordinate at any corner."""
    absent = (numbers == _ABSENT).any(axis=1)
    if absent.all():
        return None
    corner_uvs = uvs[np.where(numbers == _ABSENT, 0, numbers)]
    corner_uvs[absent] = np.nan
    return corner_uvs
