"""Textured meshes as binary glTF 2.0, unlit: the photographs' light is in the texture already."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np

from .mesh import Mesh
from .mesh_files import is_far

_FLOAT, _UNSIGNED = 5126, 5125
_VERTICES, _INDICES = 34962, 34963


def textured_glb(mesh: Mesh, uvs: np.ndarray, picture: bytes, kind: str) -> bytes:
    """Returns a GLB of one mesh with one texture.

    Args:
        mesh: Positions, triangles and perhaps normals, a vertex for each place in the texture; they
            stay in the mesh's own units and axes.
        uvs: (V, 2), v upwards; glTF's runs downwards.
        picture: The texture, encoded.
        kind: What it is encoded as, png or jpeg.
    """
    # Floats are too coarse far from the origin: there the node carries the mesh's place.
    place = mesh.vertices.mean(axis=0) if is_far(mesh) else np.zeros(3)
    positions = mesh.vertices - place
    bounds = {"min": positions.min(0).tolist(), "max": positions.max(0).tolist()}
    parts = _Buffer()
    attributes = {"POSITION": parts.add(positions, "VEC3", _FLOAT, _VERTICES)}
    if mesh.normals is not None:
        lengths = np.linalg.norm(mesh.normals, axis=1, keepdims=True)
        normals = np.where(lengths > 1e-6, mesh.normals / np.maximum(lengths, 1e-6), [0, 0, 1.0])
        attributes["NORMAL"] = parts.add(normals, "VEC3", _FLOAT, _VERTICES)
    flipped = np.stack([uvs[:, 0], 1 - uvs[:, 1]], axis=1)
    attributes["TEXCOORD_0"] = parts.add(flipped, "VEC2", _FLOAT, _VERTICES)
    indices = parts.add(mesh.faces.ravel(), "SCALAR", _UNSIGNED, _INDICES)
    # The bounds must be those of the numbers as stored.
    for name, values in bounds.items():
        parts.accessors[attributes["POSITION"]][name] = np.float32(values).astype(float).tolist()
    image = parts.add_bytes(picture)
    primitive = {"attributes": attributes, "indices": indices, "material": 0}
    return _packed(
        {
            "asset": {"version": "2.0", "generator": "resfields_ngp"},
            "extensionsUsed": ["KHR_materials_unlit"],
            "scene": 0,
            "scenes": [{"nodes": [0]}],
            "nodes": [{"mesh": 0} | ({"translation": place.tolist()} if place.any() else {})],
            "meshes": [{"primitives": [primitive]}],
            "materials": [_MATERIAL],
            "textures": [{"source": 0, "sampler": 0}],
            "samplers": [_SAMPLER],
            "images": [{"bufferView": image, "mimeType": f"image/{kind}"}],
            "accessors": parts.accessors,
            "bufferViews": parts.views,
            "buffers": [{"byteLength": len(parts.content)}],
        },
        bytes(parts.content),
    )


_MATERIAL: dict[str, Any] = {
    "pbrMetallicRoughness": {
        "baseColorTexture": {"index": 0},
        "metallicFactor": 0.0,
        "roughnessFactor": 1.0,
    },
    "extensions": {"KHR_materials_unlit": {}},
}
# Linear with mipmaps; clamped to the edge.
_SAMPLER = {"magFilter": 9729, "minFilter": 9987, "wrapS": 33071, "wrapT": 33071}


class _Buffer:
    """The binary part, with the views and accessors that say what lies in it."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []

    def add(self, values: np.ndarray, shape: str, kind: int, target: int) -> int:
        """Appends an array; returns the number of its accessor."""
        stored = np.ascontiguousarray(values, "<f4" if kind == _FLOAT else "<u4")
        view = self.add_bytes(stored.tobytes())
        self.views[view]["target"] = target
        accessor = {"bufferView": view, "componentType": kind, "count": len(stored), "type": shape}
        self.accessors.append(accessor)
        return len(self.accessors) - 1

    def add_bytes(self, values: bytes) -> int:
        """Appends bytes, aligned to 4; returns the number of their view."""
        view = {"buffer": 0, "byteOffset": len(self.content), "byteLength": len(values)}
        self.views.append(view)
        self.content += values + b"\0" * (-len(values) % 4)
        return len(self.views) - 1


def _packed(document: dict[str, Any], content: bytes) -> bytes:
    """Returns the container: header, JSON chunk, binary chunk."""
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text
    chunks += struct.pack("<I4s", len(content), b"BIN\0") + content
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks
