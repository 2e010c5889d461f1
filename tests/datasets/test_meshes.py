"""Laws of mesh sequences: every format gives the same surface, faults name file and frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh

from resfields_ngp.datasets.anime import write_anime
from resfields_ngp.datasets.meshes import MeshesConfig, MeshSequenceError, load_meshes
from resfields_ngp.mesh import Mesh, edge_counts, face_volumes
from resfields_ngp.mesh_files import write_mesh


def box(size: float = 1.0) -> Mesh:
    solid = trimesh.creation.box((size, size, size))
    return Mesh(np.asarray(solid.vertices), np.asarray(solid.faces))


def write_boxes(folder: Path, suffix: str = ".ply", n_frames: int = 3) -> Path:
    for frame in range(n_frames):
        write_mesh(box(1.0 + frame), folder / f"frame_{frame:03d}{suffix}")
    return folder


@pytest.mark.parametrize("suffix", [".obj", ".ply", ".glb"])
def test_a_folder_is_read_in_order_whatever_the_format(tmp_path: Path, suffix: str):
    sequence = load_meshes(MeshesConfig(str(write_boxes(tmp_path, suffix))))
    assert sequence.frame_numbers == (0, 1, 2)
    volumes = [float(face_volumes(mesh).sum()) for mesh in sequence.meshes]
    assert volumes == pytest.approx([1.0, 8.0, 27.0])


def test_vertices_repeated_at_texture_seams_are_welded(tmp_path: Path):
    mesh = box()
    corners = mesh.vertices[mesh.faces].reshape(-1, 3)  # every triangle on its own
    soup = Mesh(corners, np.arange(len(corners)).reshape(-1, 3))
    write_mesh(soup, tmp_path / "soup.obj")
    (welded,) = load_meshes(MeshesConfig(str(tmp_path))).meshes
    assert len(welded.vertices) == 8 and (edge_counts(welded) == 2).all()


def test_frames_are_chosen_and_keep_their_numbers(tmp_path: Path):
    sequence = load_meshes(MeshesConfig(str(write_boxes(tmp_path)), "1::1"))
    assert sequence.frame_numbers == (1, 2) and sequence.n_frames == 2


def test_vertices_correspond_in_anime_files(tmp_path: Path):
    mesh = box()
    vertices = np.stack([mesh.vertices + frame for frame in range(3)])
    write_anime(tmp_path / "a.anime", vertices, mesh.faces)
    found = load_meshes(MeshesConfig(str(tmp_path / "a.anime"))).vertices()
    assert np.allclose(found, vertices, atol=1e-6)


def test_connectivity_that_changes_is_told_with_its_frame(tmp_path: Path):
    write_boxes(tmp_path, n_frames=2)
    ball = trimesh.creation.icosphere(1)
    write_mesh(Mesh(np.asarray(ball.vertices), np.asarray(ball.faces)), tmp_path / "frame_002.ply")
    sequence = load_meshes(MeshesConfig(str(tmp_path)))
    with pytest.raises(MeshSequenceError, match="frame 2 has 42 vertices and 80 triangles"):
        sequence.vertices()


def _no_faces(folder: Path) -> Path:
    path = write_boxes(folder) / "frame_001.ply"
    write_mesh(Mesh(box().vertices, np.zeros((0, 3), np.int64)), path)
    return folder


def _nan(folder: Path) -> Path:
    mesh = box()
    vertices = np.stack([mesh.vertices] * 3)
    vertices[1, 5] = np.nan
    write_anime(folder / "a.anime", vertices, mesh.faces)
    return folder / "a.anime"


def _garbage(folder: Path) -> Path:
    (write_boxes(folder) / "frame_001.ply").write_bytes(b"ply\nnonsense")
    return folder


def _other_file(folder: Path) -> Path:
    (folder / "a.fbx").write_bytes(b"")
    return folder / "a.fbx"


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (_no_faces, "frame_001.ply: the mesh has no faces"),
        (_nan, "frame 1: 1 vertices are not finite, vertex 5 the first"),
        (_garbage, "frame_001.ply: not a readable mesh"),
        (_other_file, r"a.fbx: found a .fbx file; allowed: .anime"),
        (lambda folder: folder, "no meshes there; allowed: .obj, .ply, .glb"),
    ],
)
def test_meshes_that_are_no_use_are_named(tmp_path: Path, make, complaint: str):
    path = make(tmp_path)
    with pytest.raises(MeshSequenceError, match=complaint) as error:
        load_meshes(MeshesConfig(str(path)))
    assert "\n" not in str(error.value)


def test_a_missing_sequence_is_a_missing_file(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="nowhere: no such meshes"):
        load_meshes(MeshesConfig(str(tmp_path / "nowhere")))
