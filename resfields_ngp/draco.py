"""Draco for glTF: positions, normals, texture coordinates and triangles in one small buffer.

The extension: https://github.com/KhronosGroup/glTF/tree/main/extensions/2.0/Khronos/
KHR_draco_mesh_compression; the package: DracoPy, an extra.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .extras import required

EXTENSION = "KHR_draco_mesh_compression"
"""Its name in glTF files."""

POSITION_BITS = 16
"""Positions are rounded to the mesh's longest side over 2^16 - 1: 0.03 mm for a person."""

_PLACE_BITS = 14  # a quarter of a texel at most in a texture of 8192
_NORMAL_BITS = 10
_LEVEL = 7  # of 10; the higher ones are slower and no smaller


@dataclass(frozen=True)
class Compressed:
    """A mesh as Draco keeps it: rounded, its vertices and triangles in another order."""

    content: bytes
    """The buffer."""
    ids: Mapping[str, int]
    """glTF's name of each attribute to its number in the buffer."""
    positions: np.ndarray
    """(V', 3) float32, as they are decoded."""
    n_faces: int
    """Number of triangles."""


def compress(attributes: Mapping[str, np.ndarray], faces: np.ndarray) -> Compressed:
    """Compresses a mesh.

    Args:
        attributes: POSITION (V, 3), TEXCOORD_0 (V, 2), and perhaps NORMAL (V, 3) of unit length.
        faces: (F, 3).

    Raises:
        ImportError: DracoPy is not installed.
    """
    draco = required("DracoPy")
    normals = attributes.get("NORMAL")
    content = draco.encode(
        np.asarray(attributes["POSITION"], np.float32),
        np.asarray(faces, np.uint32),
        quantization_bits=POSITION_BITS,
        compression_level=_LEVEL,
        tex_coord=np.asarray(attributes["TEXCOORD_0"], np.float64),
        tex_coord_quantization_bits=_PLACE_BITS,
        normals=None if normals is None else np.asarray(normals, np.float64),
        normal_quantization_bits=_NORMAL_BITS,
    )
    # Only the decoder knows how many vertices there are now, and which number each attribute has.
    decoded = draco.decode(content)
    kinds = draco.AttributeType
    names = {kinds.POSITION: "POSITION", kinds.NORMAL: "NORMAL", kinds.TEX_COORD: "TEXCOORD_0"}
    ids = {names[each["attribute_type"]]: int(each["unique_id"]) for each in decoded.attributes}
    return Compressed(content, ids, decoded.points, len(decoded.faces))
