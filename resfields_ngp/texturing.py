"""Textured meshes of a run: decimated, unwrapped, baked, and written as production tools read them.

They lie in ``RUN/textured``, named as Owlii's sequences are: ``NAME_%08d``, counted from 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from .atlas import Atlas, TexturedMesh, unwrap
from .baking import BakingConfig, Witness, bake
from .datasets.base import View
from .frame_surface import Surface
from .textured_files import SUFFIXES, read_textured, write_textured
from .tracking import FrameMesh

if TYPE_CHECKING:
    from .reconstruction import Reconstruction

FOLDER = "textured"
"""Where a run keeps its textured meshes."""


@dataclass(frozen=True)
class TexturingConfig:
    """Whether meshes get a texture, and of what kind."""

    kind: Literal["none", "uv"] = "none"
    """none: vertex colours. uv: a picture for each frame, baked from the training cameras."""
    size: int = 1024
    """Side of the texture, texels, 64 to 8192."""
    picture: Literal["png", "jpeg"] = "png"
    """How the texture is encoded."""
    draco: bool = False
    """Whether glb files are compressed with Draco, which rounds positions to 1/65535 of the longest
    side; needs the extra resfields-ngp[draco]."""
    name: str = ""
    """First part of the files' names; the capture's name where empty."""
    padding: int = 4
    """Texels kept free around each chart, 1 or more."""
    frames_per_second: float = 30.0
    """Speed at which usd and glb sequences play, those without a texture too, above 0."""
    baking: BakingConfig = field(default_factory=BakingConfig)
    """How photographs are weighed."""

    def __post_init__(self) -> None:
        if not 64 <= self.size <= 8192:
            raise ValueError(f"texturing.size is {self.size}; allowed: 64 to 8192")
        if self.padding < 1:
            raise ValueError(f"texturing.padding is {self.padding}; allowed: 1 or more")
        if self.frames_per_second <= 0:
            raise ValueError(
                f"texturing.frames_per_second is {self.frames_per_second}; allowed: above 0"
            )
        if any(mark in self.name for mark in "/\\ %") or self.name.startswith("."):
            raise ValueError(
                f"texturing.name is '{self.name}'; allowed: a file's name without blanks,"
                " slashes, percent signs or a leading dot"
            )


ViewsAt = Callable[[int], Sequence[View]]
"""From a frame's number to what the training cameras saw then, views of that frame alone."""


class TexturedWriter:
    """Unwraps, bakes and writes the meshes of frames; see `frame_jobs.FrameWriter`."""

    def __init__(
        self,
        reconstruction: Reconstruction,
        views_at: ViewsAt,
        names: FrameNames,
        texturing: TexturingConfig,
        up: str,
    ) -> None:
        self._reconstruction, self._views_at = reconstruction, views_at
        self._names, self._texturing, self._up = names, texturing, up
        self._unwrapped: tuple[int, Atlas] | None = None

    def paths(self, number: int) -> list[Path]:
        """Returns a frame's files."""
        return self._names.paths(number)

    def write(self, number: int, found: FrameMesh) -> list[Path]:
        """Writes a frame's files; frames of one group share their atlas."""
        textured, names = self.textured(number, found), self._names
        base, draco = names.base(number), self._texturing.draco
        return write_textured(textured, base, names.formats, names.picture, self._up, draco)

    def textured(self, number: int, found: FrameMesh) -> TexturedMesh:
        """Returns a frame's mesh with its texture."""
        config = self._texturing
        if self._unwrapped is None or self._unwrapped[0] != found.key:
            atlas = unwrap(found.key_mesh, config.size, config.padding)
            self._unwrapped = (found.key, atlas)
        atlas = self._unwrapped[1]
        views = self._views_at(number)
        witnesses = [Witness(view, 0, found.mesh, config.baking) for view in views]
        surface = Surface(self._reconstruction, found.frame)
        colours = surface.world_colours
        texture = bake(found.mesh, atlas, config.size, witnesses, colours, config.baking)
        return TexturedMesh(found.mesh, atlas, texture)


@dataclass(frozen=True)
class FrameNames:
    """The names of an export's files."""

    folder: Path
    """Where they lie."""
    name: str
    """What they begin with."""
    formats: Sequence[str]
    """Formats of the meshes."""
    picture: str
    """Kind of the pictures."""

    def stem(self, number: int) -> str:
        """Returns a frame's name without suffix; Owlii counts from 1."""
        return f"{self.name}_{number + 1:08d}"

    def base(self, number: int) -> Path:
        """Returns the path of a frame's files without suffix."""
        return self.folder / self.stem(number)

    def paths(self, number: int) -> list[Path]:
        """Returns all files of a frame."""
        suffixes: list[str] = []
        for each in self.formats:
            suffixes.append(MESH_SUFFIXES[each])
            if each == "obj":
                suffixes.append(".mtl")
            if each in ("obj", "usd"):
                suffixes.append(SUFFIXES[self.picture])
        base = self.base(number)
        return [base.with_name(base.name + suffix) for suffix in dict.fromkeys(suffixes)]


MESH_SUFFIXES = {"obj": ".obj", "glb": ".glb", "ply": ".ply", "usd": ".usdc"}
"""Format to the suffix of its files."""


def axes(up: np.ndarray) -> str:
    """Returns the name of the axis that an up direction (3,) is nearest to.

    >>> axes(np.array([0.1, 0.98, 0.0])), axes(np.array([0.0, 0.0, -1.0]))
    ('+y', '-z')
    """
    axis = int(np.argmax(np.abs(up)))
    return f"{'+' if up[axis] > 0 else '-'}{'xyz'[axis]}"


def read_export(run: Path, number: int) -> TexturedMesh:
    """Reads a frame of a run's textured export, as OBJ or GLB.

    Raises:
        FileNotFoundError: The export lacks the frame, or has neither format.
        ValueError: A file is damaged.
    """
    files = readable_frames(run)
    if number not in files:
        raise not_exported(run, number)
    return read_textured(files[number])


def not_exported(run: Path, number: int) -> FileNotFoundError:
    """Returns the error of a frame that a run's textured export has no OBJ or GLB of."""
    return FileNotFoundError(
        f"{run / FOLDER}: no obj or glb of frame {number}; run mesh --texture uv --format obj first"
    )


def readable_frames(run: Path) -> dict[int, Path]:
    """Returns the OBJ or GLB file of each frame that a run's textured export has one of."""
    from .manifest import read_manifest

    found = {}
    for row in read_manifest(run / FOLDER / "manifest.json")["frames"]:
        readable = [name for name in row["files"] if name.endswith((".obj", ".glb"))]
        if readable:
            found[row["frame"]] = run / FOLDER / readable[-1]
    return found
