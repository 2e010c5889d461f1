"""Laws of OBJ reading: every form of face is the same face, and what is wrong is said."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from resfields_ngp.sequences import SequenceError, TexturedMesh, read_textured_mesh

QUAD = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\n"


def write_texture(path: Path) -> None:
    """Writes a texture of one colour."""
    cv2.imwrite(str(path), np.full((32, 32, 3), 90, np.uint8))


def _read(folder: Path, text: str, mtl: str | None = "newmtl m\nKd 1 0 0\n") -> TexturedMesh:
    path = folder / "a_00000001.obj"
    path.write_text(("mtllib a.mtl\nusemtl m\n" if mtl is not None else "") + text)
    if mtl is not None:
        (folder / "a.mtl").write_text(mtl)
    return read_textured_mesh(path)


@pytest.mark.parametrize(
    "faces",
    [
        "f 1/1 2/2 3/3\nf 1/1 3/3 4/4\n",
        "f 1/1 2/2 3/3 4/4\n",
        "f -4/-4 -3/-3 -2/-2 -1/-1\n",
        "vn 0 0 1\nf 1/1/1 2/2/1 3/3/1\nf 1/1/1 3/3/1 4/4/1\n",
        "f 1/1 2/2 \\\n 3/3\r\nf\t1/1 3/3 4/4 # a comment\r\n",
    ],
    ids=["triangles", "polygon", "from the end", "normals", "odd lines"],
)
def test_all_spellings_of_a_face_are_the_same_face(faces: str, tmp_path: Path):
    mesh = _read(tmp_path, QUAD + faces)
    assert mesh.faces.tolist() == [[0, 1, 2], [0, 2, 3]]
    assert mesh.corner_uvs is not None
    np.testing.assert_array_equal(mesh.corner_uvs, mesh.vertices[mesh.faces][..., :2])


def test_numbers_below_zero_count_from_what_stands_above(tmp_path: Path):
    later = "v 5 5 5\nv 6 5 5\nv 5 6 5\nf -3 -2 -1\n"
    mesh = _read(tmp_path, QUAD + "f -4 -3 -2\n" + later)
    assert mesh.faces.tolist() == [[0, 1, 2], [4, 5, 6]]


def test_polygons_and_empty_faces_are_told(tmp_path: Path):
    mesh = _read(tmp_path, QUAD + "f 1/1 2/2 3/3 4/4\nf 1/1 1/1 2/2\n")
    assert mesh.n_faces == 2
    assert any("1 polygons" in note for note in mesh.notes)
    assert any("1 faces of no area" in note for note in mesh.notes)


def test_faces_without_uv_are_nan(tmp_path: Path):
    mesh = _read(tmp_path, QUAD + "f 1/1 2/2 3/3\nf 1 3 4\n")
    assert mesh.corner_uvs is not None
    assert np.isnan(mesh.corner_uvs).all(axis=(1, 2)).tolist() == [False, True]
    assert _read(tmp_path, QUAD + "f 1 2 3\n").corner_uvs is None


def test_materials_follow_their_faces(tmp_path: Path):
    mtl = "newmtl a\nKd 1 0 0\nnewmtl b\nKd 0 1 0\n"
    text = "mtllib a.mtl\n" + QUAD + "usemtl b\nf 1 2 3\nusemtl a\nf 1 3 4\n"
    mesh = _read(tmp_path, text, mtl)
    assert mesh.face_materials is not None
    colours = [mesh.materials[number].colour for number in mesh.face_materials]
    assert colours == [(0, 1, 0), (1, 0, 0)]


@pytest.mark.parametrize(
    "written",
    [
        "skin.png",
        "C:\\\\scans\\\\take 1\\\\skin.png",
        "C:\\scans\\skin.png",
        "/mnt/other/machine/skin.png",
        "-s 1 1 1 -clamp on skin.png",
        "..\\textures\\skin.png",
    ],
)
def test_textures_are_found_by_paths_of_other_machines(written: str, tmp_path: Path):
    write_texture(tmp_path / "skin.png")
    mesh = _read(tmp_path, QUAD + "f 1/1 2/2 3/3\n", f"newmtl m\nmap_Kd {written}\n")
    texture = mesh.materials[0].texture
    assert texture is not None and texture.shape == (32, 32, 3)
    assert bool(mesh.notes) == ("scans" in written or "mnt" in written or ".." in written)


def test_a_lost_mtl_is_made_up_for_by_a_texture_of_the_same_name(tmp_path: Path):
    write_texture(tmp_path / "a_00000001.png")
    (tmp_path / "a_00000001.obj").write_text("mtllib gone.mtl\nusemtl m\n" + QUAD + "f 1/1 2/2 3/3")
    mesh = read_textured_mesh(tmp_path / "a_00000001.obj")
    assert mesh.materials[0].texture is not None
    assert any("no MTL file" in note for note in mesh.notes)


@pytest.mark.parametrize(
    ("image", "told"),
    [
        (np.full((4, 4), 7, np.uint8), "grey"),
        (np.full((4, 4, 4), 7, np.uint8), "transparency"),
        (np.full((4, 4, 3), 7 * 257, np.uint16), "16 bits"),
    ],
)
def test_textures_of_other_kinds_become_rgb8(image: np.ndarray, told: str, tmp_path: Path):
    cv2.imwrite(str(tmp_path / "skin.png"), image)
    mesh = _read(tmp_path, QUAD + "f 1/1 2/2 3/3\n", "newmtl m\nmap_Kd skin.png\n")
    texture = mesh.materials[0].texture
    assert texture is not None and texture.dtype == np.uint8 and texture.shape == (4, 4, 3)
    assert (texture == 7).all()
    assert any(told in note for note in mesh.notes)


@pytest.mark.parametrize(
    ("text", "mtl", "said"),
    [
        (QUAD + "f 1 2 9\n", None, "line 9: the face names number 9 of 4 vertices"),
        (QUAD + "f 1/1 2/7 3/3\n", None, "number 7 of 4 texture coordinates"),
        (QUAD + "f 1 -9 3\n", None, "is not a face"),
        (QUAD + "f 1 2\n", None, "is not a face"),
        (QUAD + "f 1 two 3\n", None, "f"),
        (QUAD, None, "no faces"),
        ("f 1 2 3\n", None, "no vertices"),
        ("v 0 0 0\nv nan 0 0\nv 0 1 0\nf 1 2 3\n", None, "vertex 2 is not finite"),
        ("v 0 0 zero\n" + QUAD + "f 1 2 3\n", None, '"v" lines'),
        (QUAD + "f 1 1 2\n", None, "no faces with an area"),
        (QUAD + "f 1/1 2/2 3/3\n", "newmtl m\nmap_Kd gone.png\n", "no texture gone.png"),
        (QUAD + "f 1/1 2/2 3/3\n", "newmtl other\nKd 1 1 1\n", 'no material "m"'),
        (QUAD + "f 1/1 2/2 3/3\n", "newmtl m\nKd red\n", "is not a colour"),
    ],
)
def test_damage_is_one_line_that_names_the_file(
    text: str, mtl: str | None, said: str, tmp_path: Path
):
    with pytest.raises(SequenceError) as error:
        _read(tmp_path, text, mtl)
    assert said in str(error.value) and "\n" not in str(error.value)
    assert str(tmp_path) in str(error.value) or "a.mtl" in str(error.value)


def test_a_lost_mtl_without_a_texture_is_an_error(tmp_path: Path):
    (tmp_path / "a.obj").write_text("mtllib gone.mtl\nusemtl m\n" + QUAD + "f 1/1 2/2 3/3")
    with pytest.raises(SequenceError, match=r"a\.obj: no material .gone\.mtl.*a\.png"):
        read_textured_mesh(tmp_path / "a.obj")


@pytest.mark.parametrize(("uv", "is_told"), [("0.5 1.0000004", False), ("2.5 0", True)])
def test_coordinates_outside_the_square_are_told(uv: str, is_told: bool, tmp_path: Path):
    mesh = _read(tmp_path, QUAD + f"vt {uv}\nf 1/5 2/2 3/3\n")
    assert any("the texture repeats" in note for note in mesh.notes) == is_told
