"""Laws of Draco in GLB files: what is decoded is what was written, rounded; the file is smaller."""

from __future__ import annotations

import json
import struct
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from textured_ball import ball, textured_ball

from resfields_ngp.atlas import TexturedMesh
from resfields_ngp.draco import EXTENSION, POSITION_BITS, compress
from resfields_ngp.gltf import textured_glb
from resfields_ngp.textured_files import read_textured, write_textured

NAME = "ball_00000001"


@pytest.fixture
def draco() -> Any:
    return pytest.importorskip("DracoPy", reason="DracoPy is an extra")


def written(textured: TexturedMesh, folder: Path) -> Path:
    """Writes a compressed GLB and returns its path."""
    return write_textured(textured, folder / NAME, ("glb",), "png", draco=True)[0]


def parts(content: bytes) -> tuple[dict[str, Any], bytes]:
    """Returns the JSON of a GLB, and the buffer that its primitive is compressed in."""
    size = struct.unpack("<I", content[12:16])[0]
    document = json.loads(content[20 : 20 + size])
    stored = document["meshes"][0]["primitives"][0]["extensions"][EXTENSION]
    view = document["bufferViews"][stored["bufferView"]]
    begin = 28 + size + view["byteOffset"]
    return document, content[begin : begin + view["byteLength"]]


def assert_same_triangles(found: np.ndarray, truth: np.ndarray, atol: float) -> None:
    """Both are (F, 3, k): triangles in any order, each from any of its corners."""
    assert found.shape == truth.shape
    middles, wanted = found.mean(1), truth.mean(1)
    order = np.linalg.norm(middles[:, None] - wanted[None], axis=-1).argmin(axis=0)
    assert len(set(order.tolist())) == len(truth)
    turns = np.stack([np.roll(found[order], turn, axis=1) for turn in range(3)])
    assert np.abs(turns - truth).max(axis=(2, 3)).min(axis=0).max() <= atol


def test_what_is_decoded_is_what_was_written(draco: Any, tmp_path: Path) -> None:
    document, content = parts(written(textured_ball(), tmp_path).read_bytes())
    assert document["extensionsRequired"] == [EXTENSION]
    assert set(document["extensionsUsed"]) == {EXTENSION, "KHR_materials_unlit"}
    primitive = document["meshes"][0]["primitives"][0]
    decoded, accessors = draco.decode(content), document["accessors"]
    ids = primitive["extensions"][EXTENSION]["attributes"]
    assert set(ids) == set(primitive["attributes"]) == {"POSITION", "NORMAL", "TEXCOORD_0"}
    values = {
        name: decoded.get_attribute_by_unique_id(number)["data"] for name, number in ids.items()
    }
    for name, number in primitive["attributes"].items():
        assert accessors[number]["count"] == len(values[name])
        assert "bufferView" not in accessors[number]
    bounds = accessors[primitive["attributes"]["POSITION"]]
    assert bounds["min"] == values["POSITION"].min(0).tolist()
    assert bounds["max"] == values["POSITION"].max(0).tolist()
    assert accessors[primitive["indices"]]["count"] == decoded.faces.size
    mesh, uvs = textured_ball().split()
    assert mesh.normals is not None
    step = np.ptp(mesh.vertices, axis=0).max() / (2**POSITION_BITS - 1)
    assert_same_triangles(values["POSITION"][decoded.faces], mesh.vertices[mesh.faces], step + 1e-6)
    flipped = np.stack([uvs[:, 0], 1 - uvs[:, 1]], axis=1)
    assert_same_triangles(values["TEXCOORD_0"][decoded.faces], flipped[mesh.faces], 1e-4)
    outwards = values["POSITION"] - ball()[0].vertices.mean(0)
    np.testing.assert_allclose(values["NORMAL"], outwards, atol=0.01)


def test_it_is_read_back_and_smaller(draco: Any, tmp_path: Path) -> None:
    truth = textured_ball()
    found = read_textured(written(truth, tmp_path))
    assert_same_triangles(
        found.mesh.vertices[found.mesh.faces], truth.mesh.vertices[truth.mesh.faces], 1e-4
    )
    places = found.atlas.uvs[found.atlas.faces]
    assert_same_triangles(places, truth.atlas.uvs[truth.atlas.faces], 1e-4)
    np.testing.assert_array_equal(found.texture, truth.texture)
    mesh, uvs = truth.split()
    plain, small = (len(textured_glb(mesh, uvs, b"", "png", each)) for each in (False, True))
    assert small < plain / 5


def test_far_from_the_origin_the_shape_is_kept(draco: Any, tmp_path: Path) -> None:
    near, away = textured_ball(), np.array([4e5, 5.2e6, 300.0])
    far = replace(near, mesh=replace(near.mesh, vertices=near.mesh.vertices + away))
    found = read_textured(written(far, tmp_path))
    assert_same_triangles(
        found.mesh.vertices[found.mesh.faces] - away,
        near.mesh.vertices[near.mesh.faces],
        1e-4,
    )


def test_frames_that_share_connectivity_share_it_compressed(draco: Any) -> None:
    mesh, uvs = textured_ball().split()
    bent = mesh.vertices + 0.3 * np.sin(3 * mesh.vertices[:, ::-1])
    first, second = (
        draco.decode(compress({"POSITION": positions, "TEXCOORD_0": uvs}, mesh.faces).content)
        for positions in (mesh.vertices, bent)
    )
    np.testing.assert_array_equal(first.faces, second.faces)
    np.testing.assert_array_equal(first.tex_coord, second.tex_coord)


def test_without_its_package_the_error_names_the_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "DracoPy", None)
    with pytest.raises(ImportError, match=r"pip install 'resfields-ngp\[draco\]'"):
        written(textured_ball(), tmp_path)
    assert not list(tmp_path.iterdir())


def test_reading_without_the_package_names_the_line(
    draco: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(textured_ball(), tmp_path)
    monkeypatch.setitem(sys.modules, "DracoPy", None)
    with pytest.raises(ImportError, match=r"pip install 'resfields-ngp\[draco\]'"):
        read_textured(path)
