"""Laws of mesh files: what is written is read back, or nothing is there."""

from __future__ import annotations

import errno
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh

from resfields_ngp import writing
from resfields_ngp.mesh import Mesh
from resfields_ngp.mesh_files import FORMATS, read_mesh, write_mesh
from resfields_ngp.sequences.gltf import Gltf


@pytest.fixture
def mesh() -> Mesh:
    ball = trimesh.creation.icosphere(subdivisions=2)
    vertices = np.asarray(ball.vertices)
    colours = np.random.default_rng(0).integers(0, 256, (len(vertices), 3)).astype(np.uint8)
    return Mesh(vertices * 3 + [10.0, 0, 0], np.asarray(ball.faces), vertices[::-1], colours)


@pytest.mark.parametrize("suffix", FORMATS)
def test_written_meshes_read_back(mesh: Mesh, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"000000.{suffix}"
    write_mesh(mesh, path)
    found = read_mesh(path)
    np.testing.assert_allclose(found.vertices, mesh.vertices, atol=1e-4)
    np.testing.assert_array_equal(found.faces, mesh.faces)
    np.testing.assert_array_equal(found.colours, mesh.colours)


@pytest.mark.parametrize("suffix", FORMATS)
def test_meshes_far_from_the_origin_keep_their_shape(
    mesh: Mesh, suffix: str, tmp_path: Path
) -> None:
    """As in a surveyor's coordinates, where neighbouring floats are half a metre apart."""
    far = Mesh(mesh.vertices + [4e5, 5.2e6, 300.0], mesh.faces, mesh.normals, mesh.colours)
    path = tmp_path / f"far.{suffix}"
    write_mesh(far, path)
    found = read_mesh(path)
    np.testing.assert_allclose(found.vertices, far.vertices, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(found.colours, mesh.colours)


def test_normals_are_those_given(mesh: Mesh) -> None:
    n = len(mesh.vertices)
    body = FORMATS["ply"](mesh).split(b"end_header\n", 1)[1]
    ply = np.frombuffer(body, [("xyz", "<f4", 3), ("n", "<f4", 3), ("c", "u1", 3)], n)["n"]
    lines = FORMATS["obj"](mesh).decode().splitlines()
    obj = [[float(x) for x in line.split()[1:]] for line in lines if line.startswith("vn ")]
    content = FORMATS["glb"](mesh)
    size = int.from_bytes(content[12:16], "little")
    tree = json.loads(content[20 : 20 + size])
    accessor = tree["accessors"][tree["meshes"][0]["primitives"][0]["attributes"]["NORMAL"]]
    start = 28 + size + tree["bufferViews"][accessor["bufferView"]]["byteOffset"]
    glb = np.frombuffer(content, "<f4", 3 * n, start).reshape(-1, 3)
    for found in (ply, obj, glb):
        np.testing.assert_allclose(found, mesh.normals, atol=1e-4)


def test_colours_are_linear_in_glb_and_tell_all_shades_apart(mesh: Mesh, tmp_path: Path) -> None:
    """As glTF has it: 127 of 255 in sRGB is 0.2122 of the light."""
    grey = np.repeat(np.arange(len(mesh.vertices))[:, None] % 256, 3, axis=1).astype(np.uint8)
    write_mesh(replace(mesh, colours=grey), tmp_path / "grey.glb")
    file = Gltf.open(tmp_path / "grey.glb")
    primitive = file.tree["meshes"][0]["primitives"][0]
    linear = file.accessor(primitive["attributes"]["COLOR_0"])
    np.testing.assert_allclose(
        linear[[0, 127]], [[0, 0, 0, 1], [0.2122, 0.2122, 0.2122, 1]], atol=1e-4
    )
    assert len(np.unique(linear[:, 0])) == len(np.unique(grey))
    material = file.tree["materials"][primitive["material"]]
    assert "KHR_materials_unlit" in material["extensions"]
    write_mesh(Mesh(mesh.vertices, mesh.faces), tmp_path / "bare.glb")
    bare = Gltf.open(tmp_path / "bare.glb").tree
    assert bare["materials"][0] == {
        "pbrMetallicRoughness": {"metallicFactor": 0.0, "roughnessFactor": 1.0}
    }


@pytest.mark.parametrize("suffix", FORMATS)
def test_bare_meshes_read_back(mesh: Mesh, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"bare.{suffix}"
    write_mesh(Mesh(mesh.vertices, mesh.faces), path)
    found = read_mesh(path)
    np.testing.assert_array_equal(found.faces, mesh.faces)
    assert found.colours is None


def test_full_disk_leaves_no_file_and_names_it(
    mesh: Mesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writing.os, "fsync", full)
    with pytest.raises(OSError, match="000000.ply: could not be written .No space left") as caught:
        write_mesh(mesh, tmp_path / "000000.ply")
    assert caught.value.errno == errno.ENOSPC
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_interrupted_write_keeps_the_former_file(mesh: Mesh, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    writing.write_whole(path, b"before")
    with pytest.raises(KeyboardInterrupt), writing.whole_file(path) as partial:
        partial.write_bytes(b"aft")
        raise KeyboardInterrupt
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_bytes() == b"before"


def test_unknown_format_lists_the_known(mesh: Mesh, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'stl'; allowed: ply, obj, glb"):
        write_mesh(mesh, tmp_path / "a.stl")


def test_cut_off_file_is_named(mesh: Mesh, tmp_path: Path) -> None:
    path = tmp_path / "000000.ply"
    write_mesh(mesh, path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match="000000.ply: not a readable mesh"):
        read_mesh(path)
