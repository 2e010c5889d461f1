"""Laws of surfaces to look at: in every look they are where they were, and show what they are."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from textured_ball import CENTRE, ball, textured_ball

from resfields_ngp.draco import EXTENSION
from resfields_ngp.mesh import Mesh
from resfields_ngp.mesh_files import read_mesh, write_mesh
from resfields_ngp.textured_files import read_textured, write_textured
from resfields_ngp.viewed_surfaces import LOOKS, ExportedSurfaces, Look, dressed

NUMBER = 7


def coloured_ball() -> Mesh:
    """Returns the sphere with colours that tell its vertices apart."""
    mesh = ball(2)[0]
    colours = np.random.default_rng(0).integers(0, 256, (len(mesh.vertices), 3))
    return replace(mesh, colours=colours.astype(np.uint8))


def listed(folder: Path, *names: str) -> ExportedSurfaces:
    """Returns the surfaces of a manifest that lists files of one frame."""
    rows = [{"frame": NUMBER, "files": list(names)}]
    (folder / "manifest.json").write_text(json.dumps({"frames": rows}))
    return ExportedSurfaces.of(folder, is_textured=any("ball" in name for name in names))


def read_back(glb: bytes | None, folder: Path) -> Mesh:
    """Returns the mesh of a GLB."""
    assert glb is not None
    path = folder / "seen.glb"
    path.write_bytes(glb)
    return read_mesh(path)


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("suffix", ["ply", "obj", "glb"])
def test_a_mesh_stays_where_it_is_in_every_look(tmp_path: Path, look: Look, suffix: str) -> None:
    mesh = coloured_ball()
    write_mesh(mesh, tmp_path / f"000007.{suffix}")
    seen = read_back(listed(tmp_path, f"000007.{suffix}").glb(NUMBER, look), tmp_path)
    np.testing.assert_allclose(seen.vertices, mesh.vertices, atol=1e-5)
    np.testing.assert_array_equal(seen.faces, mesh.faces)


def test_colours_are_the_meshs_own(tmp_path: Path) -> None:
    mesh = coloured_ball()
    seen = read_back(dressed(mesh, "colours"), tmp_path)
    np.testing.assert_array_equal(seen.colours, mesh.colours)


def test_normals_of_a_sphere_point_away_from_its_middle(tmp_path: Path) -> None:
    mesh = coloured_ball()
    seen = read_back(dressed(mesh, "normals"), tmp_path)
    assert seen.colours is not None
    # Triangles of this sphere are a twelfth of it across: their mean differs by a degree or so.
    expected = 255 * (mesh.vertices - CENTRE + 1) / 2
    np.testing.assert_allclose(seen.colours, expected, atol=3)


def test_shape_is_lit_and_has_normals_and_no_colours() -> None:
    glb = dressed(coloured_ball(), "shape")
    tree = json.loads(glb[20 : 20 + int.from_bytes(glb[12:16], "little")])
    assert "extensions" not in tree["materials"][0]  # which would make it unlit
    assert set(tree["meshes"][0]["primitives"][0]["attributes"]) == {"POSITION", "NORMAL"}
    assert tree["materials"][0]["pbrMetallicRoughness"]["baseColorFactor"][0] < 1


def test_a_mesh_without_colours_is_seen_as_its_shape() -> None:
    mesh = ball(2)[0]
    assert dressed(mesh, "colours") == dressed(mesh, "shape") != dressed(mesh, "normals")


def test_seams_of_a_texture_do_not_show_in_normals(tmp_path: Path) -> None:
    write_textured(textured_ball(), tmp_path / "ball", ("glb",), "png")
    seen = read_back(listed(tmp_path, "ball.glb").glb(NUMBER, "normals"), tmp_path)
    assert seen.colours is not None
    places, numbers = np.unique(seen.vertices, axis=0, return_inverse=True)
    assert len(places) < len(seen.vertices)
    first = np.zeros((len(places), 3), np.uint8)
    first[numbers.reshape(-1)] = seen.colours
    np.testing.assert_array_equal(first[numbers.reshape(-1)], seen.colours)


def test_a_textured_glb_is_shown_as_it_is(tmp_path: Path) -> None:
    write_textured(textured_ball(), tmp_path / "ball", ("glb", "obj"), "png")
    surfaces = listed(tmp_path, "ball.obj", "ball.glb")
    assert surfaces.glb(NUMBER, "colours") == (tmp_path / "ball.glb").read_bytes()


def test_a_textured_obj_is_shown_with_its_texture(tmp_path: Path) -> None:
    textured = textured_ball()
    write_textured(textured, tmp_path / "ball", ("obj",), "png")
    glb = listed(tmp_path, "ball.obj").glb(NUMBER, "colours")
    assert glb is not None
    (tmp_path / "seen.glb").write_bytes(glb)
    seen = read_textured(tmp_path / "seen.glb")
    difference = np.abs(seen.texture.astype(int) - textured.texture)
    assert difference.mean() < 4  # a JPEG's; another picture's is about 80
    assert len(seen.mesh.faces) == len(textured.mesh.faces)


def test_draco_is_unpacked_for_the_browser(tmp_path: Path) -> None:
    pytest.importorskip("DracoPy")
    write_textured(textured_ball(), tmp_path / "ball", ("glb",), "png", draco=True)
    assert EXTENSION.encode() in (tmp_path / "ball.glb").read_bytes()
    glb = listed(tmp_path, "ball.glb").glb(NUMBER, "colours")
    assert glb is not None and EXTENSION.encode() not in glb


def test_only_files_that_are_there_count(tmp_path: Path) -> None:
    write_mesh(coloured_ball(), tmp_path / "000007.obj")
    surfaces = listed(tmp_path, "000007.ply", "000007.obj")
    assert surfaces.files == {NUMBER: tmp_path / "000007.obj"}
    assert surfaces.glb(NUMBER + 1, "colours") is None
    (tmp_path / "000007.obj").unlink()
    assert not ExportedSurfaces.of(tmp_path, is_textured=False).files


def test_a_textured_ply_has_no_texture_to_show(tmp_path: Path) -> None:
    write_textured(textured_ball(), tmp_path / "ball", ("ply",), "png")
    assert not listed(tmp_path, "ball.ply").files
