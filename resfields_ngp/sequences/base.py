"""What a mesh sequence gives: textured triangles, frame by frame, and what was repaired in them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from ..records import check_shape


class SequenceError(ValueError):
    """A mesh sequence is not usable: one line with file, what was found, what is allowed."""


@dataclass(frozen=True)
class Material:
    """What a part of a surface looks like."""

    name: str = "material"
    """As in the file."""
    colour: tuple[float, float, float] = (0.7, 0.7, 0.7)
    """sRGB in [0, 1] where there is no texture; a texture is not multiplied by it."""
    texture: np.ndarray | None = None
    """(H, W, 3) uint8 sRGB, the first row on top; None without."""


@dataclass(frozen=True)
class TexturedMesh:
    """The surface at one frame, in the file's own units."""

    vertices: np.ndarray
    """(V, 3) float64 positions."""
    faces: np.ndarray
    """(F, 3) int64 vertex numbers, counter-clockwise seen from outside."""
    materials: tuple[Material, ...] = (Material(),)
    """What faces are made of."""
    face_materials: np.ndarray | None = None
    """(F,) numbers of materials; None: all of the first."""
    corner_uvs: np.ndarray | None = None
    """(F, 3, 2) float64 texture coordinates of the faces' corners, v upwards (OBJ); NaN for faces
    without; None where no face has any."""
    colours: np.ndarray | None = None
    """(V, 3) uint8 sRGB of the vertices; used where a face's material has no texture."""
    notes: tuple[str, ...] = field(default=())
    """What was repaired on reading, one sentence each."""

    def __post_init__(self) -> None:
        check_shape("vertices", self.vertices, "V 3")
        n_faces = check_shape("faces", self.faces, "F 3")["F"]
        if self.corner_uvs is not None:
            check_shape("corner_uvs", self.corner_uvs, f"{n_faces} 3 2")
        if self.face_materials is not None:
            check_shape("face_materials", self.face_materials, f"{n_faces}")
        if self.colours is not None:
            check_shape("colours", self.colours, f"{len(self.vertices)} 3")

    @property
    def n_faces(self) -> int:
        """The number of triangles."""
        return len(self.faces)


def leaves_square(corner_uvs: np.ndarray) -> bool:
    """Returns whether texture coordinates (F, 3, 2) leave [0, 1] by more than they are rounded.

    >>> leaves_square(np.array([[[0, 1.00001], [0, 0], [np.nan, 0.5]]]))
    False
    """
    known = corner_uvs[np.isfinite(corner_uvs)]
    return bool(len(known) and (known.min() < -1e-3 or known.max() > 1 + 1e-3))


class MeshSequence(Protocol):
    """Meshes in the order of time; can be sent to other processes."""

    @property
    def name(self) -> str:
        """What the sequence is called."""
        ...

    @property
    def frame_numbers(self) -> tuple[int, ...]:
        """The files' own number of each frame, ascending."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What is remarkable about the sequence, one sentence each."""
        ...

    def read(self, index: int) -> TexturedMesh:
        """Reads the mesh at a position in the sequence.

        Raises:
            SequenceError: The file is damaged or lacks something; one line that names it.
        """
        ...

    def stamp(self) -> str:
        """Returns a text that changes when the files do."""
        ...
