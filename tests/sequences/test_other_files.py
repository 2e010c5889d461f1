"""Laws of PLY and plain glTF files: colours, textures and geometry as other programs wrote them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import trimesh

from resfields_ngp.sequences import SequenceConfig, SequenceError, open_sequence, read_textured_mesh


@pytest.mark.parametrize("suffix", ["ply", "glb"])
def test_geometry_and_vertex_colours_of_trimesh_come_back(suffix: str, tmp_path: Path):
    mesh = trimesh.creation.icosphere(subdivisions=1)
    colours = np.random.default_rng(0).integers(0, 256, (len(mesh.vertices), 4), dtype=np.uint8)
    colours[:, 3] = 255
    mesh.visual.vertex_colors = colours
    path = tmp_path / f"ball_1.{suffix}"
    mesh.export(path)
    found = read_textured_mesh(path)
    np.testing.assert_allclose(found.vertices[found.faces], mesh.vertices[mesh.faces], atol=1e-6)
    assert found.colours is not None
    if suffix == "ply":  # glTF stores linear light, which trimesh does not convert to
        np.testing.assert_array_equal(found.colours, colours[:, :3])


def test_a_ply_with_a_texture_has_its_coordinates(tmp_path: Path):
    cv2.imwrite(str(tmp_path / "skin.png"), np.full((4, 4, 3), 50, np.uint8))
    (tmp_path / "a.ply").write_text(
        "ply\nformat ascii 1.0\ncomment TextureFile D:\\scans\\skin.png\nelement vertex 3\n"
        "property float x\nproperty float y\nproperty float z\nproperty float s\n"
        "property float t\nelement face 1\nproperty list uchar int vertex_indices\nend_header\n"
        "0 0 0 0 0\n1 0 0 1 0\n0 1 0 0 1\n3 0 1 2\n"
    )
    mesh = read_textured_mesh(tmp_path / "a.ply")
    assert mesh.corner_uvs is not None and mesh.materials[0].texture is not None
    np.testing.assert_allclose(mesh.corner_uvs[0], [[0, 0], [1, 0], [0, 1]])
    assert any("taken from beside" in note for note in mesh.notes)


@pytest.mark.parametrize("content", ["", "ply\nformat ascii 1.0\nend_header\n", "solid ball"])
def test_a_damaged_ply_is_one_line(content: str, tmp_path: Path):
    (tmp_path / "a_1.ply").write_text(content)
    with pytest.raises(SequenceError, match=r"a_1\.ply"):
        open_sequence(SequenceConfig(path=str(tmp_path))).read(0)


def test_unknown_kinds_are_refused(tmp_path: Path):
    with pytest.raises(SequenceError, match=r"allowed: \.obj, \.ply"):
        read_textured_mesh(tmp_path / "a.stl")
