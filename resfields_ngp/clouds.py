"""Ground-truth points of a frame, as the ResFields layout keeps them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

_KINDS = {
    "char": "i1",
    "int8": "i1",
    "uchar": "u1",
    "uint8": "u1",
    "short": "<i2",
    "int16": "<i2",
    "ushort": "<u2",
    "uint16": "<u2",
    "int": "<i4",
    "int32": "<i4",
    "uint": "<u4",
    "uint32": "<u4",
    "float": "<f4",
    "float32": "<f4",
    "double": "<f8",
    "float64": "<f8",
}


def read_cloud(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Reads the points of a binary little-endian or ASCII PLY file.

    Returns:
        (N, 3) float64 positions, and (N, 3) float64 unit normals or None. Normals may be stored as
        floats or as signed bytes.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not a PLY file of points, or is cut off.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such cloud") from None
    header, end, body = content.partition(b"end_header\n")
    lines = [line.split() for line in header.decode("ascii", "replace").splitlines()]
    if not end or lines[0] != ["ply"]:
        raise ValueError(f"{path}: not a PLY file; clouds are PLY files of points")
    count, fields = _vertex_fields(lines, path)
    if ["format", "ascii", "1.0"] in lines:
        rows = np.array([line.split() for line in body.decode().splitlines()[:count]], float)
        columns = {name: rows[:, i] for i, (name, _) in enumerate(fields)} if count else {}
    elif ["format", "binary_little_endian", "1.0"] in lines:
        kind = np.dtype(fields)
        if len(body) < count * kind.itemsize:
            raise ValueError(f"{path}: cut off; the header says {count} points")
        columns = np.frombuffer(body, kind, count)
    else:
        raise ValueError(f"{path}: unknown PLY format; allowed: ascii, binary_little_endian")
    names = [name for name, _ in fields]
    positions = np.stack([np.asarray(columns[axis], np.float64) for axis in "xyz"], 1)
    if "nx" not in names:
        return positions, None
    normals = np.stack([np.asarray(columns[f"n{axis}"], np.float64) for axis in "xyz"], 1)
    return positions, normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


def _vertex_fields(lines: list[list[str]], path: Path) -> tuple[int, list[tuple[str, str]]]:
    """Returns the number of vertices and their fields as numpy types."""
    count, fields, within = 0, [], False
    for line in lines:
        if line[:1] == ["element"]:
            within = line[1] == "vertex"
            count = int(line[2]) if within else count
        elif line[:1] == ["property"] and within:
            if line[1] not in _KINDS:
                raise ValueError(f"{path}: points have a property of unknown type '{line[1]}'")
            fields.append((line[2], _KINDS[line[1]]))
    if not {"x", "y", "z"} <= {name for name, _ in fields} or count == 0:
        raise ValueError(f"{path}: no points with x, y and z in this PLY file")
    return count, fields
