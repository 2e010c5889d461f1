"""Laws of textured files: what is written is read back, and names are those of Owlii's files."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from textured_ball import as_colours, ball, textured_ball

from resfields_ngp.mesh_files import read_mesh
from resfields_ngp.textured_files import read_textured, with_vertex_colours, write_textured

NAME = "ball_00000001"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder with the ball in every format that needs no extra package."""
    out = tmp_path_factory.mktemp("files")
    write_textured(textured_ball(), out / NAME, ("obj", "glb", "ply"), "png")
    return out


@pytest.mark.parametrize("suffix", ["obj", "glb"])
def test_triangles_texture_and_places_come_back(folder: Path, suffix: str) -> None:
    found, truth = read_textured(folder / f"{NAME}.{suffix}"), textured_ball()
    np.testing.assert_allclose(
        found.mesh.vertices[found.mesh.faces],
        truth.mesh.vertices[truth.mesh.faces],
        atol=1e-6,
    )
    places = found.atlas.uvs[found.atlas.faces]
    np.testing.assert_allclose(places, truth.atlas.uvs[truth.atlas.faces], atol=1e-6)
    np.testing.assert_array_equal(found.texture, truth.texture)


@pytest.mark.parametrize("suffix", ["obj", "glb"])
def test_meshes_far_from_the_origin_keep_their_shape(suffix: str, tmp_path: Path) -> None:
    near = textured_ball()
    far = replace(near, mesh=replace(near.mesh, vertices=near.mesh.vertices + [4e5, 5.2e6, 300.0]))
    write_textured(far, tmp_path / NAME, (suffix,), "png")
    found = read_textured(tmp_path / f"{NAME}.{suffix}")
    np.testing.assert_allclose(
        found.mesh.vertices[found.mesh.faces], far.mesh.vertices[far.mesh.faces], rtol=0, atol=1e-5
    )


def test_the_obj_is_as_owlii_writes_it(folder: Path) -> None:
    lines = (folder / f"{NAME}.obj").read_text().splitlines()
    assert lines[0] == f"mtllib {NAME}.mtl"
    kinds = {line.split()[0] for line in lines}
    assert kinds == {"mtllib", "v", "vt", "usemtl", "f"}
    assert sum(line.startswith("v ") for line in lines) == len(textured_ball().mesh.vertices)
    assert f"map_Kd {NAME}.png" in (folder / f"{NAME}.mtl").read_text()


def test_vertex_colours_are_the_textures_there(folder: Path) -> None:
    mesh = read_mesh(folder / f"{NAME}.ply")
    truth = ball()[0]
    np.testing.assert_allclose(mesh.vertices, truth.vertices, atol=1e-6)
    assert mesh.colours is not None
    off = np.abs(mesh.colours.astype(int) - as_colours(truth.vertices)).max(1)
    assert np.median(off) <= 6 and off.max() <= 25  # a texel is 6 grey levels wide
    again = with_vertex_colours(textured_ball()).colours
    np.testing.assert_array_equal(mesh.colours, again)


def test_the_glb_is_unlit_and_says_its_bounds(folder: Path) -> None:
    content = (folder / f"{NAME}.glb").read_bytes()
    magic, version, length = struct.unpack("<4sII", content[:12])
    assert (magic, version, length) == (b"glTF", 2, len(content))
    size = struct.unpack("<I", content[12:16])[0]
    document = json.loads(content[20 : 20 + size])
    assert document["extensionsUsed"] == ["KHR_materials_unlit"]
    vertices = ball()[0].vertices
    position = document["accessors"][
        document["meshes"][0]["primitives"][0]["attributes"]["POSITION"]
    ]
    np.testing.assert_allclose(
        [position["min"], position["max"]], [vertices.min(0), vertices.max(0)]
    )
    for view in document["bufferViews"]:
        assert view["byteOffset"] % 4 == 0


def test_jpeg_is_smaller_and_about_the_same(folder: Path, tmp_path: Path) -> None:
    files = write_textured(textured_ball(), tmp_path / NAME, ("obj", "glb"), "jpeg")
    assert [path.suffix for path in files] == [".obj", ".mtl", ".jpg", ".glb"]
    for path in (files[0], files[-1]):
        off = np.abs(read_textured(path).texture.astype(int) - textured_ball().texture)
        assert 0 < off.mean() < 4


def test_a_missing_mesh_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none.obj.*mesh --texture uv"):
        read_textured(tmp_path / "none.obj")


@pytest.mark.parametrize("damage", ["cut", "no texture"])
def test_a_damaged_mesh_is_named(folder: Path, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "broken.glb"
    path.write_bytes((folder / f"{NAME}.glb").read_bytes()[:3000])
    if damage == "no texture":
        path = tmp_path / "bare.obj"
        path.write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    with pytest.raises(ValueError, match=rf"{path.name}: not a readable textured mesh"):
        read_textured(path)
