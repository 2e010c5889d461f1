"""Laws of .anime files: what is written is read, frame 0 too; what is broken is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from resfields_ngp.datasets.anime import read_anime, write_anime


def moving_tetrahedron(n_frames: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Returns (T, 4, 3) vertices whose first frame differs from all others, and (4, 3) faces."""
    random = np.random.default_rng(0)
    vertices = random.normal(size=(n_frames, 4, 3)).astype(np.float32)
    return vertices, np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])


@pytest.mark.parametrize("n_frames", [1, 2, 5])
def test_a_sequence_written_is_read_back_with_frame_0(tmp_path: Path, n_frames: int):
    vertices, faces = moving_tetrahedron(n_frames)
    write_anime(tmp_path / "a.anime", vertices, faces)
    found, found_faces = read_anime(tmp_path / "a.anime")
    assert found.shape == vertices.shape
    assert np.array_equal(found[0], vertices[0])
    assert np.allclose(found, vertices, atol=1e-6)
    assert np.array_equal(found_faces, faces)


def test_a_file_read_and_written_again_is_the_same_to_rounding(tmp_path: Path):
    write_anime(tmp_path / "a.anime", *moving_tetrahedron())
    vertices, faces = read_anime(tmp_path / "a.anime")
    write_anime(tmp_path / "b.anime", vertices, faces)
    assert np.allclose(read_anime(tmp_path / "b.anime")[0], vertices, atol=1e-6)
    sizes = {(tmp_path / name).stat().st_size for name in ("a.anime", "b.anime")}
    assert sizes == {12 + 12 * 4 + 12 * 4 + 3 * 12 * 4}


def broken(content: bytes, fault: str) -> bytes:
    """Returns a file's content with a fault."""
    header = np.frombuffer(content[:12], "<i4").copy()
    if fault == "cut off":
        return content[:-8]
    if fault == "header":
        return content[:7]
    if fault == "too long":
        return content + b"\0" * 12
    if fault == "no faces":
        header[2] = 0
    if fault == "negative":
        header[0] = -3
    if fault == "frames":
        header[0] += 1
    if fault == "vertex":
        split = 12 + 12 * 4
        return content[:split] + np.int32(99).tobytes() + content[split + 4 :]
    return header.tobytes() + content[12:]


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        ("cut off", "cut off, .* bytes where the header"),
        ("header", "cut off, 7 bytes where 12 are the header"),
        ("too long", "too long"),
        ("no faces", "0 triangles; each must be 1 or more"),
        ("negative", "-3 frames"),
        ("frames", "cut off"),
        ("vertex", "a triangle names vertex 99; allowed: 0 to 3"),
    ],
)
def test_a_broken_file_is_named_with_what_is_wrong(tmp_path: Path, fault: str, complaint: str):
    path = tmp_path / "a.anime"
    write_anime(path, *moving_tetrahedron())
    path.write_bytes(broken(path.read_bytes(), fault))
    with pytest.raises(ValueError, match=complaint) as error:
        read_anime(path)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)
