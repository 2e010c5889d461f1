"""Meshes as binary glTF 2.0, unlit: the photographs' light is in their colours already."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np

from .draco import EXTENSION, compress
from .mesh import Mesh, is_far
from .sequences.gltf import linear_of_srgb

FLOAT, _UNSIGNED, _SHORT = 5126, 5125, 5123
_STORED = {FLOAT: "<f4", _UNSIGNED: "<u4", _SHORT: "<u2"}
_VERTICES, _INDICES = 34962, 34963
_UNLIT = "KHR_materials_unlit"
ASSET = {"version": "2.0", "generator": "resfields_ngp"}


def coloured_glb(mesh: Mesh, reflectance: float = 1.0) -> bytes:
    """Returns a GLB of one mesh with its vertices' colours; without colours it is lit.

    A mesh without triangles is an empty scene.

    Colours are linear in glTF, and so are stored with 16 bits, which tell all shades of sRGB apart.

    Args:
        mesh: It stays in its own units and axes.
        reflectance: Grey level of a mesh without colours, linear, 0 to 1.
    """
    if mesh.n_faces == 0:
        return packed({"asset": ASSET, "scenes": [{}]}, b"")
    parts = Buffer()
    place, attributes = _placed(mesh)
    primitive = _add_plain(parts, attributes, mesh.faces)
    if mesh.colours is None:
        grey = {} if reflectance == 1 else {"baseColorFactor": [*[reflectance] * 3, 1.0]}
        return _document(parts, place, primitive, {"pbrMetallicRoughness": _MATT | grey}, {})
    levels = np.full((len(mesh.vertices), 4), 65535)
    levels[:, :3] = np.round(65535 * linear_of_srgb(mesh.colours / 255))
    colours = parts.add(levels, "VEC4", _SHORT, _VERTICES)
    parts.accessors[colours]["normalized"] = True
    primitive["attributes"]["COLOR_0"] = colours
    unlit = {"pbrMetallicRoughness": _MATT, "extensions": {_UNLIT: {}}}
    return _document(parts, place, primitive, unlit, {"extensionsUsed": [_UNLIT]})


def textured_glb(
    mesh: Mesh, uvs: np.ndarray, picture: bytes, kind: str, draco: bool = False
) -> bytes:
    """Returns a GLB of one mesh with one texture.

    Args:
        mesh: Positions, triangles and perhaps normals, a vertex for each place in the texture; they
            stay in the mesh's own units and axes.
        uvs: (V, 2), v upwards; glTF's runs downwards.
        picture: The texture, encoded.
        kind: What it is encoded as, png or jpeg.
        draco: Whether the mesh is compressed, which rounds it; see `draco.compress`.

    Raises:
        ImportError: draco is asked for and DracoPy is not installed.
    """
    parts = Buffer()
    place, attributes = _placed(mesh)
    attributes["TEXCOORD_0"] = np.stack([uvs[:, 0], 1 - uvs[:, 1]], axis=1)
    primitive = (_add_compressed if draco else _add_plain)(parts, attributes, mesh.faces)
    image = parts.add_bytes(picture)
    required = {"extensionsRequired": [EXTENSION]} if draco else {}
    more = {
        "extensionsUsed": [_UNLIT, *required.get("extensionsRequired", [])],
        **required,
        "textures": [{"source": 0, "sampler": 0}],
        "samplers": [_SAMPLER],
        "images": [{"bufferView": image, "mimeType": f"image/{kind}"}],
    }
    return _document(parts, place, primitive, _MATERIAL, more)


def _placed(mesh: Mesh) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Returns a mesh's place, and its positions from there on with their normals.

    Floats are too coarse far from the origin: there the node carries the mesh's place.
    """
    place = mesh.vertices.mean(axis=0) if is_far(mesh) else np.zeros(3)
    attributes = {"POSITION": mesh.vertices - place}
    if mesh.normals is not None:
        lengths = np.linalg.norm(mesh.normals, axis=1, keepdims=True)
        normals = np.where(lengths > 1e-6, mesh.normals / np.maximum(lengths, 1e-6), [0, 0, 1.0])
        attributes["NORMAL"] = normals
    return place, attributes


def _document(
    parts: Buffer,
    place: np.ndarray,
    primitive: dict[str, Any],
    material: dict[str, Any],
    more: dict[str, Any],
) -> bytes:
    """Returns a GLB of one primitive at a place."""
    return packed(
        {
            "asset": ASSET,
            **more,
            "scene": 0,
            "scenes": [{"nodes": [0]}],
            "nodes": [{"mesh": 0} | ({"translation": place.tolist()} if place.any() else {})],
            "meshes": [{"primitives": [primitive | {"material": 0}]}],
            "materials": [material],
            "accessors": parts.accessors,
            "bufferViews": parts.views,
            "buffers": [{"byteLength": len(parts.content)}],
        },
        parts.content,
    )


def _add_plain(
    parts: Buffer, attributes: dict[str, np.ndarray], faces: np.ndarray
) -> dict[str, Any]:
    """Appends a mesh as it is; returns the primitive."""
    numbers = {
        name: parts.add(values, _SHAPES[name], FLOAT, _VERTICES)
        for name, values in attributes.items()
    }
    parts.accessors[numbers["POSITION"]] |= _bounds(attributes["POSITION"])
    indices = parts.add(faces.ravel(), "SCALAR", _UNSIGNED, _INDICES)
    return {"attributes": numbers, "indices": indices}


def _add_compressed(
    parts: Buffer, attributes: dict[str, np.ndarray], faces: np.ndarray
) -> dict[str, Any]:
    """Appends a mesh as Draco keeps it; returns the primitive."""
    found = compress(attributes, faces)
    count = len(found.positions)
    numbers = {name: parts.declare(count, _SHAPES[name], FLOAT) for name in attributes}
    parts.accessors[numbers["POSITION"]] |= _bounds(found.positions)
    indices = parts.declare(3 * found.n_faces, "SCALAR", _UNSIGNED)
    stored = {"bufferView": parts.add_bytes(found.content), "attributes": found.ids}
    return {"attributes": numbers, "indices": indices, "extensions": {EXTENSION: stored}}


def _bounds(positions: np.ndarray) -> dict[str, list[float]]:
    """Returns the bounds of positions, those of the numbers as stored."""
    stored = positions.astype(np.float32).astype(float)
    return {"min": stored.min(0).tolist(), "max": stored.max(0).tolist()}


_SHAPES = {"POSITION": "VEC3", "NORMAL": "VEC3", "TEXCOORD_0": "VEC2"}
_MATT = {"metallicFactor": 0.0, "roughnessFactor": 1.0}
_MATERIAL: dict[str, Any] = {
    "pbrMetallicRoughness": {"baseColorTexture": {"index": 0}, **_MATT},
    "extensions": {_UNLIT: {}},
}
# Linear with mipmaps; clamped to the edge.
_SAMPLER = {"magFilter": 9729, "minFilter": 9987, "wrapS": 33071, "wrapT": 33071}


class Buffer:
    """The binary part, with the views and accessors that say what lies in it."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []

    def add(self, values: np.ndarray, shape: str, kind: int, target: int | None = None) -> int:
        """Appends an array; returns the number of its accessor."""
        stored = np.ascontiguousarray(values, _STORED[kind])
        view = self.add_bytes(stored.tobytes())
        if target is not None:
            self.views[view]["target"] = target
        number = self.declare(len(stored), shape, kind)
        self.accessors[number]["bufferView"] = view
        return number

    def declare(self, count: int, shape: str, kind: int) -> int:
        """Adds an accessor whose values lie elsewhere; returns its number."""
        self.accessors.append({"componentType": kind, "count": count, "type": shape})
        return len(self.accessors) - 1

    def add_bytes(self, values: bytes) -> int:
        """Appends bytes, aligned to 4; returns the number of their view."""
        view = {"buffer": 0, "byteOffset": self.append(values), "byteLength": len(values)}
        self.views.append(view)
        return len(self.views) - 1

    def append(self, values: bytes) -> int:
        """Appends bytes, padded to 4, without a view; returns where they begin."""
        begin = len(self.content)
        self.content += values + b"\0" * (-len(values) % 4)
        return begin


def packed(document: dict[str, Any], content: bytes | bytearray) -> bytes:
    """Returns the container: header, JSON chunk, binary chunk."""
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    chunks = [struct.pack("<I4s", len(text), b"JSON"), text]
    if content:
        chunks += [struct.pack("<I4s", len(content), b"BIN\0"), content]
    return b"".join([struct.pack("<4sII", b"glTF", 2, 12 + sum(map(len, chunks))), *chunks])
