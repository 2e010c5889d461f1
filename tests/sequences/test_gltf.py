"""Laws of glTF reading: files made here by hand, moved in closed form."""

from __future__ import annotations

import base64
import json
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from resfields_ngp.sequences import SequenceConfig, SequenceError, open_sequence
from resfields_ngp.sequences.gltf_channels import Channel, slerp

TRIANGLE = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], np.float32)
HALF = np.sqrt(0.5)


class Builder:
    """Collects accessors, and writes them with some JSON as a GLB."""

    def __init__(self) -> None:
        self.binary = b""
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []

    def bytes_view(self, content: bytes) -> int:
        """Adds bytes and returns the number of their view."""
        self.binary += b"\0" * (-len(self.binary) % 4)
        view = {"buffer": 0, "byteOffset": len(self.binary), "byteLength": len(content)}
        self.binary += content
        self.views.append(view)
        return len(self.views) - 1

    def add(self, array: np.ndarray, kind: str, **more: Any) -> int:
        """Adds an array and returns the number of its accessor."""
        codes = {"f4": 5126, "u2": 5123, "u1": 5121}
        entry = {"bufferView": self.bytes_view(array.tobytes()), "count": len(array), "type": kind}
        entry["componentType"] = codes[array.dtype.str[1:]]
        self.accessors.append(entry | more)
        return len(self.accessors) - 1

    def write(self, path: Path, **tree: Any) -> Path:
        """Writes the file."""
        tree |= {"asset": {"version": "2.0"}, "accessors": self.accessors}
        tree |= {"bufferViews": self.views, "buffers": [{"byteLength": len(self.binary)}]}
        text = json.dumps(tree).encode()
        text += b" " * (-len(text) % 4)
        binary = self.binary + b"\0" * (-len(self.binary) % 4)
        chunks = struct.pack("<I4s", len(text), b"JSON") + text
        chunks += struct.pack("<I4s", len(binary), b"BIN\0") + binary
        path.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks)
        return path


def _mesh(build: Builder, **attributes: int) -> dict[str, Any]:
    indices = build.add(np.arange(3, dtype=np.uint16), "SCALAR")
    position = build.add(TRIANGLE, "VEC3")
    primitive = {"attributes": {"POSITION": position, **attributes}, "indices": indices}
    return {"primitives": [primitive]}


def _animation(build: Builder, path: str, values: np.ndarray, kind: str, **more: Any) -> Any:
    times = build.add(np.array([0, 1], np.float32), "SCALAR")
    sampler = {"input": times, "output": build.add(values.astype(np.float32), kind), **more}
    channel = {"sampler": 0, "target": {"node": 0, "path": path}}
    return {"name": path, "samplers": [sampler], "channels": [channel]}


def _frames(path: Path, **settings: Any) -> list[np.ndarray]:
    sequence = open_sequence(SequenceConfig(path=str(path), **settings))
    return [sequence.read(i).vertices for i in range(len(sequence.frame_numbers))]


def test_a_turning_node_turns_its_mesh_evenly(tmp_path: Path):
    build = Builder()
    mesh = _mesh(build)
    quarter = np.array([[0, 0, 0, 1], [0, 0, HALF, HALF]])
    path = build.write(
        tmp_path / "turn.glb",
        meshes=[mesh],
        nodes=[{"mesh": 0, "translation": [1, 2, 3], "scale": [2, 2, 2]}],
        animations=[_animation(build, "rotation", quarter, "VEC4")],
    )
    frames = _frames(path, fps=3.0)
    assert len(frames) == 3  # the key at 1 s begins the next cycle
    for index, found in enumerate(frames):
        angle = np.pi / 2 * index / 3
        turn = [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
        np.testing.assert_allclose(found, 2 * TRIANGLE @ np.array(turn).T + [1, 2, 3], atol=1e-6)


def test_a_skin_moves_by_its_joints_and_not_by_its_node(tmp_path: Path):
    build = Builder()
    joints = np.tile(np.array([[0, 1, 0, 0]], np.uint8), (3, 1))
    weights = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0.5, 0.5, 0, 0]], np.float32)
    mesh = _mesh(build, JOINTS_0=build.add(joints, "VEC4"), WEIGHTS_0=build.add(weights, "VEC4"))
    inverse = np.tile(np.eye(4, dtype=np.float32), (2, 1, 1))
    inverse[1, 3, :3] = [-1, 0, 0]  # column-major: joint 1 rests at x = 1
    skin = {"joints": [0, 1], "inverseBindMatrices": build.add(inverse.reshape(2, 16), "MAT4")}
    lift = np.array([[0, 0, 0], [0, 0, 4.0]])
    path = build.write(
        tmp_path / "skin.glb",
        meshes=[mesh],
        skins=[skin],
        nodes=[{}, {"translation": [1, 0, 0]}, {"mesh": 0, "skin": 0, "translation": [9, 9, 9]}],
        animations=[_animation(build, "translation", lift, "VEC3")],
    )
    rest, moved = _frames(path, fps=2.0)
    np.testing.assert_allclose(rest, TRIANGLE, atol=1e-6)
    np.testing.assert_allclose(moved - TRIANGLE, [[0, 0, 2], [0, 0, 0], [0, 0, 1]], atol=1e-6)


def test_morph_targets_add_by_their_weights(tmp_path: Path):
    build = Builder()
    mesh = _mesh(build)
    offsets = np.array([[0, 0, 1], [0, 0, 2], [0, 0, 3]], np.float32)
    mesh["primitives"][0]["targets"] = [{"POSITION": build.add(offsets, "VEC3")}]
    path = build.write(
        tmp_path / "morph.glb",
        meshes=[mesh],
        nodes=[{"mesh": 0}],
        animations=[_animation(build, "weights", np.array([0, 1]), "SCALAR")],
    )
    frames = _frames(path, fps=4.0)
    for share, found in zip((0, 0.25, 0.5, 0.75), frames, strict=True):
        np.testing.assert_allclose(found, TRIANGLE + share * offsets, atol=1e-6)


def test_a_cubic_spline_meets_its_keys_and_tangents():
    values = np.array([[[0.0], [1.0], [2.0]], [[0.5], [3.0], [0.0]]])
    channel = Channel(0, "weights", np.array([0.0, 2.0]), values, "CUBICSPLINE")
    assert channel.at(0.0) == [1.0] and channel.at(2.0) == [3.0]
    step = 1e-6
    np.testing.assert_allclose((channel.at(step) - channel.at(0.0)) / step, [2.0], atol=1e-4)
    np.testing.assert_allclose((channel.at(2.0) - channel.at(2 - step)) / step, [0.5], atol=1e-4)


def test_steps_hold_and_ends_hold():
    channel = Channel(0, "scale", np.array([1.0, 2.0]), np.array([[1.0], [5.0]]), "STEP")
    assert [channel.at(time)[0] for time in (0.0, 1.0, 1.99, 2.0, 9.0)] == [1, 1, 1, 5, 5]


def test_slerp_goes_the_shorter_way_at_an_even_pace():
    start, end = np.array([0, 0, 0, 1.0]), -np.array([0, 0, HALF, HALF])
    for share in (0.0, 0.3, 1.0):
        angle = share * np.pi / 4
        expected = [0, 0, np.sin(angle), np.cos(angle)]
        np.testing.assert_allclose(slerp(start, end, share), expected, atol=1e-9)


def test_colours_textures_and_uvs_come_in_the_conventions_of_the_rest(tmp_path: Path):
    build = Builder()
    uvs = np.array([[0, 0], [65535, 0], [0, 65535]], np.uint16)
    mesh = _mesh(build, TEXCOORD_0=build.add(uvs, "VEC2", normalized=True))
    mesh["primitives"][0]["material"] = 0
    image = np.zeros((2, 2, 3), np.uint8)
    image[0, 0] = (10, 20, 30)  # BGR at the top left
    png = cv2.imencode(".png", image)[1].tobytes()
    surface = {"baseColorTexture": {"index": 0}, "baseColorFactor": [0.2140411, 1, 1, 1]}
    path = build.write(
        tmp_path / "look.glb",
        meshes=[mesh],
        nodes=[{"mesh": 0}],
        materials=[{"pbrMetallicRoughness": surface}],
        textures=[{"source": 0}],
        images=[{"uri": "data:image/png;base64," + base64.b64encode(png).decode()}],
    )
    found = open_sequence(SequenceConfig(path=str(path))).read(0)
    texture = found.materials[0].texture
    assert texture is not None and found.corner_uvs is not None
    # 0.2140411 of linear light is half of sRGB's range.
    assert texture[0, 0].tolist() == [15, 20, 10]
    np.testing.assert_allclose(found.corner_uvs[0], [[0, 1], [1, 1], [0, 0]], atol=1e-6)


@pytest.mark.parametrize(
    "damage", ["cut", "version", "draco", "animation", "no glTF", "reach", "strip"]
)
def test_damage_is_one_line_that_names_the_file(damage: str, tmp_path: Path):
    build = Builder()
    mesh = _mesh(build)
    if damage == "reach":
        build.accessors[1]["count"] = 99
    if damage == "strip":
        mesh["primitives"][0]["mode"] = 5
    more = {"extensionsRequired": ["KHR_draco_mesh_compression"]} if damage == "draco" else {}
    path = build.write(tmp_path / "bad.glb", meshes=[mesh], nodes=[{"mesh": 0}], **more)
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[:-20])
    elif damage == "version":
        path.write_bytes(content.replace(b'"2.0"', b'"1.0"'))
    elif damage == "no glTF":
        path.write_bytes(b"solid ball")
    name = "gone" if damage == "animation" else ""
    with pytest.raises(SequenceError, match=r"bad\.glb"):
        open_sequence(SequenceConfig(path=str(path), animation=name)).read(0)
