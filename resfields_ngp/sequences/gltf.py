"""glTF 2.0 files, binary or with files beside them: buffers, accessors, materials.

The specification: https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html. What moves is in
`gltf_motion`.
"""

from __future__ import annotations

import base64
import json
import struct
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import cv2
import numpy as np

from .base import Material, SequenceError
from .textures import as_rgb8, find_texture, read_texture

_KINDS = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
_READABLE = ("KHR_mesh_quantization", "KHR_texture_transform", "KHR_materials_unlit")


@dataclass(frozen=True)
class Gltf:
    """A glTF file, decoded as it is asked for."""

    path: Path
    """The file."""
    tree: dict[str, Any]
    """Its JSON."""
    binary: bytes
    """The binary chunk of a GLB."""

    @staticmethod
    def open(path: Path) -> Gltf:
        """Opens a ``.glb`` or ``.gltf``.

        Raises:
            SequenceError: It is missing, cut off, no glTF 2.0, or needs an extension that is not
                read here.
        """
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise SequenceError(f"{path}: no such file") from None
        is_binary = content[:4] == b"glTF"
        text, binary = glb_chunks(content, str(path)) if is_binary else (content, b"")
        try:
            tree = json.loads(text)
            version = str(tree["asset"]["version"])
        except (ValueError, KeyError, TypeError):
            raise SequenceError(f"{path}: not a glTF file; expected .glb or .gltf") from None
        if not version.startswith("2"):
            raise SequenceError(f"{path}: glTF {version}; allowed: 2.0, export it again")
        for name in tree.get("extensionsRequired", []):
            if name not in _READABLE:
                raise SequenceError(f"{path}: needs {name}; export it again without compression")
        return Gltf(path, tree, binary)

    def accessor(self, number: int) -> np.ndarray:
        """Returns an accessor's rows, (n, width) float64 or int64; normalised integers as floats.

        Raises:
            SequenceError: It reaches beyond its buffer.
        """
        entry = self.tree["accessors"][number]
        kind, width = np.dtype(_KINDS[entry["componentType"]]), _WIDTHS[entry["type"]]
        count = entry["count"]
        if "bufferView" in entry:
            rows = self._rows(entry["bufferView"], entry.get("byteOffset", 0), kind, width, count)
        else:
            rows = np.zeros((count, width), kind)
        if "sparse" in entry:
            rows = self._with_sparse(rows, entry["sparse"])
        if kind.kind == "f":
            return rows.astype(np.float64)
        if entry.get("normalized", False):
            return np.maximum(rows.astype(np.float64) / np.iinfo(kind).max, -1.0)
        return rows.astype(np.int64)

    def _with_sparse(self, rows: np.ndarray, sparse: dict[str, Any]) -> np.ndarray:
        where, values = sparse["indices"], sparse["values"]
        kind = np.dtype(_KINDS[where["componentType"]])
        offset = where.get("byteOffset", 0)
        places = self._rows(where["bufferView"], offset, kind, 1, sparse["count"])[:, 0]
        offset, width = values.get("byteOffset", 0), rows.shape[1]
        changed = rows.copy()
        changed[places] = self._rows(
            values["bufferView"], offset, rows.dtype, width, sparse["count"]
        )
        return changed

    def _rows(self, view: int, offset: int, kind: np.dtype, width: int, count: int) -> np.ndarray:
        entry = self.tree["bufferViews"][view]
        content = self._buffers[entry.get("buffer", 0)]
        size = kind.itemsize * width
        stride = entry.get("byteStride", size)
        begin = entry.get("byteOffset", 0) + offset
        if count and begin + stride * (count - 1) + size > len(content):
            raise SequenceError(f"{self.path}: cut off; an accessor reaches beyond its buffer")
        return np.ndarray((count, width), kind, content, begin, (stride, kind.itemsize)).copy()

    @cached_property
    def _buffers(self) -> list[bytes]:
        return [
            self._resource(entry["uri"]) if "uri" in entry else self.binary
            for entry in self.tree.get("buffers", [])
        ]

    def _resource(self, uri: str) -> bytes:
        if uri.startswith("data:"):
            return base64.b64decode(uri.partition(",")[2])
        path = self.path.parent / unquote(uri)
        try:
            return path.read_bytes()
        except FileNotFoundError:
            raise SequenceError(f"{self.path}: no {uri}; put it beside the file") from None

    @cached_property
    def materials(self) -> tuple[tuple[Material, ...], list[str]]:
        """The materials, a grey one last for parts without, and what was repaired."""
        notes: list[str] = []
        made = [self._material(entry, notes) for entry in self.tree.get("materials", [])]
        return (*made, Material("none")), notes

    def _material(self, entry: dict[str, Any], notes: list[str]) -> Material:
        surface = entry.get("pbrMetallicRoughness", {})
        linear = np.array(surface.get("baseColorFactor", [1, 1, 1, 1])[:3], float)
        red, green, blue = srgb_of_linear(linear).tolist()
        texture = None
        if "baseColorTexture" in surface:
            number = surface["baseColorTexture"]["index"]
            texture, found = self._image(self.tree["textures"][number].get("source"))
            notes += found
            if linear.min() < 1:
                factor = np.array([red, green, blue])
                texture = np.round(texture * factor).astype(np.uint8)
        return Material(entry.get("name", "material"), (red, green, blue), texture)

    def _image(self, number: int | None) -> tuple[np.ndarray, list[str]]:
        if number is None:
            raise SequenceError(f"{self.path}: a texture is not PNG or JPEG; export it again")
        entry = self.tree["images"][number]
        name = entry.get("name") or f"image {number}"
        uri = entry.get("uri", "")
        if uri and not uri.startswith("data:"):
            found, moved = find_texture(unquote(uri), self.path.parent, self.path.name)
            texture, converted = read_texture(found)
            return texture, [*moved, *converted]
        content = self._resource(uri) if uri else self._view(entry["bufferView"])
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
        if image is None:
            raise SequenceError(f"{self.path}: {name} is not an image; export it again")
        return as_rgb8(image, name)

    def _view(self, number: int) -> bytes:
        entry = self.tree["bufferViews"][number]
        begin = entry.get("byteOffset", 0)
        return self._buffers[entry.get("buffer", 0)][begin : begin + entry["byteLength"]]


def srgb_of_linear(linear: np.ndarray) -> np.ndarray:
    """Returns sRGB in [0, 1] of linear light in [0, 1] (IEC 61966-2-1).

    >>> srgb_of_linear(np.array([0.0, 1.0])).round(9).tolist()
    [0.0, 1.0]
    """
    light = np.clip(linear, 0, 1)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055).clip(0)


def linear_of_srgb(srgb: np.ndarray) -> np.ndarray:
    """Returns linear light in [0, 1] of sRGB in [0, 1] (IEC 61966-2-1).

    >>> linear_of_srgb(np.array([0.0, 1.0])).tolist()
    [0.0, 1.0]
    """
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def glb_chunks(content: bytes, path: str = "GLB") -> tuple[bytes, bytes]:
    """Returns the JSON and the binary chunk of a GLB.

    Raises:
        SequenceError: It is cut off; the message begins with `path`.
    """
    chunks, position = {}, 12
    while position + 8 <= len(content):
        length, kind = struct.unpack_from("<I4s", content, position)
        if position + 8 + length > len(content):
            raise SequenceError(f"{path}: cut off after {len(content)} bytes; copy it again")
        chunks.setdefault(kind, content[position + 8 : position + 8 + length])
        position += 8 + length
    if b"JSON" not in chunks:
        raise SequenceError(f"{path}: a GLB without JSON; copy it again")
    return chunks[b"JSON"], chunks.get(b"BIN\0", b"")
