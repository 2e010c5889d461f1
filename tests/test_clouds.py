"""Laws of clouds: points and normals come back whatever their types; damage is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from resfields_ngp.clouds import read_cloud

POINTS = np.array([[0.25, -0.5, 1.0], [2.0, 0.0, -1.5]], "<f4")
NORMALS = np.array([[127, 0, 0], [0, 76, -102]], "i1")


def write(path: Path, kind: str = "char", body: bytes | None = None, form: str = "binary") -> Path:
    word = "ascii" if form == "ascii" else "binary_little_endian"
    lines = ["ply", f"format {word} 1.0", "comment points", "element vertex 2"]
    lines += [f"property float {axis}" for axis in "xyz"]
    if kind:
        lines += [f"property {kind} n{axis}" for axis in "xyz"]
    if body is None:
        stored = NORMALS if kind == "char" else (NORMALS / 127).astype("<f4")
        pairs = zip(POINTS, stored, strict=True)
        body = b"".join(p.tobytes() + (n.tobytes() if kind else b"") for p, n in pairs)
    path.write_bytes("\n".join([*lines, "end_header\n"]).encode() + body)
    return path


@pytest.mark.parametrize("kind", ["char", "float"])
def test_normals_are_units_whatever_their_type(tmp_path: Path, kind: str) -> None:
    points, normals = read_cloud(write(tmp_path / "a.ply", kind))
    np.testing.assert_array_equal(points, POINTS)
    np.testing.assert_allclose(normals, [[1, 0, 0], [0, 0.6, -0.8]], atol=0.01)
    assert normals is not None
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1)


def test_clouds_without_normals_have_none(tmp_path: Path) -> None:
    points, normals = read_cloud(write(tmp_path / "a.ply", ""))
    np.testing.assert_array_equal(points, POINTS)
    assert normals is None


def test_ascii_clouds_are_read(tmp_path: Path) -> None:
    body = b"0.25 -0.5 1 1 0 0\n2 0 -1.5 0 0.6 -0.8\n"
    points, normals = read_cloud(write(tmp_path / "a.ply", "float", body, "ascii"))
    np.testing.assert_array_equal(points, POINTS)
    np.testing.assert_allclose(normals, [[1, 0, 0], [0, 0.6, -0.8]])


def test_damaged_clouds_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "000007.ply")
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ValueError, match="000007.ply: cut off"):
        read_cloud(path)
    path.write_bytes(b"OFF\n")
    with pytest.raises(ValueError, match="000007.ply: not a PLY"):
        read_cloud(path)
    with pytest.raises(FileNotFoundError, match="none.ply"):
        read_cloud(tmp_path / "none.ply")
