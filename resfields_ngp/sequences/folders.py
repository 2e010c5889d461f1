"""Mesh sequences on disk: folders with a file a frame, and animated glTF files."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from .base import SequenceError, TexturedMesh
from .gltf import Gltf
from .gltf_motion import Motion
from .obj import read_obj, without_empty_faces
from .ply import read_ply

GLTF_SUFFIXES = (".glb", ".gltf")


@dataclass(frozen=True)
class FolderSequence:
    """A file a frame: OBJ, PLY or glTF."""

    name: str
    """What the files' names share."""
    paths: tuple[Path, ...]
    """One a frame."""
    frame_numbers: tuple[int, ...]
    """Their numbers."""
    notes: tuple[str, ...] = ()
    """Numbers that are missing."""

    def read(self, index: int) -> TexturedMesh:
        """Reads the mesh at a position in the sequence.

        Raises:
            SequenceError: The file is damaged or lacks something; one line that names it.
        """
        return read_textured_mesh(self.paths[index])

    def stamp(self) -> str:
        """Returns a text that changes when a file is exchanged for one of another size."""
        sizes = [f"{path.name}:{path.stat().st_size}" for path in self.paths]
        return hashlib.sha256("\n".join(sizes).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class AnimatedSequence:
    """One glTF file whose animation gives the frames."""

    path: Path
    """The file."""
    animation: str
    """Its animation; empty for the first."""
    times: tuple[float, ...]
    """Of each frame, seconds."""
    notes: tuple[str, ...] = ()
    """What is remarkable."""

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.stem

    @property
    def frame_numbers(self) -> tuple[int, ...]:
        """Counts the frames."""
        return tuple(range(len(self.times)))

    def read(self, index: int) -> TexturedMesh:
        """Returns the mesh at a frame's time.

        Raises:
            SequenceError: The file is damaged; one line that names it.
        """
        return without_empty_faces(
            _motion_of(self.path, self.animation).mesh(self.times[index]), self.path
        )

    def stamp(self) -> str:
        """Returns a text that changes with the file or the times."""
        told = f"{self.path.stat().st_size} {self.animation} {self.times}"
        return hashlib.sha256(told.encode()).hexdigest()[:16]


@lru_cache(maxsize=1)
def _motion_of(path: Path, animation: str) -> Motion:
    """Returns an opened file; a process reads many frames of the same one."""
    return Motion.find(Gltf.open(path), animation)


def open_animation(path: Path, animation: str, frames_per_second: float) -> AnimatedSequence:
    """Opens a glTF file; the last key is left out, since in a cycle it is the first again.

    Raises:
        SequenceError: The file or its animation cannot be read.
    """
    motion = Motion.find(Gltf.open(path), animation)
    # Files round the time of the last key to single precision.
    n_frames = max(1, int(np.floor(motion.duration * frames_per_second + 1e-3)))
    times = tuple(index / frames_per_second for index in range(n_frames))
    note = f"{n_frames} frames of {motion.duration:g} s of animation, {frames_per_second:g}/s"
    return AnimatedSequence(path, animation, times, (note,) if motion.channels else ())


def read_textured_mesh(path: Path) -> TexturedMesh:
    """Reads one mesh by its suffix: .obj, .ply, .glb or .gltf (its rest pose).

    Raises:
        SequenceError: It is damaged, lacks something, or has another suffix.
    """
    suffix = path.suffix.lower()
    if suffix == ".obj":
        return read_obj(path)
    if suffix == ".ply":
        return without_empty_faces(read_ply(path), path)
    if suffix in GLTF_SUFFIXES:
        file = Gltf.open(path)
        return without_empty_faces(Motion(file, ()).mesh(0.0), path)
    raise SequenceError(f"{path}: unknown kind of mesh; allowed: .obj, .ply, .glb, .gltf")
