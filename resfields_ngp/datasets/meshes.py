"""Sequences of meshes: ``.anime``, or a folder of OBJ, PLY or GLB files (raw Owlii among them)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import trimesh

from ..mesh import Mesh
from .anime import read_anime
from .selection import frame_order, select_frames

SUFFIXES = (".obj", ".ply", ".glb")


class MeshSequenceError(ValueError):
    """The meshes on disk are not usable: one line with file, what was found, what is allowed."""


@dataclass(frozen=True)
class MeshesConfig:
    """Which meshes."""

    path: str = ""
    """A .anime file, or a folder of OBJ, PLY or GLB files, one a frame, in the order of the
    numbers in their names."""
    frames: str = "::"
    """Frames to use, as start:stop:stride."""


@dataclass(frozen=True)
class MeshSequence:
    """A surface that moves, a mesh a frame."""

    name: str
    """The file's or folder's name."""
    meshes: tuple[Mesh, ...]
    """One a frame, in the input's own units; connectivity may change."""
    frame_numbers: tuple[int, ...]
    """The input's own index of each frame used."""

    @property
    def n_frames(self) -> int:
        """The number of frames."""
        return len(self.meshes)

    def vertices(self) -> np.ndarray:
        """Returns (n_frames, V, 3) vertices that correspond from frame to frame.

        Raises:
            MeshSequenceError: Connectivity changes; the message names the frame.
        """
        first = self.meshes[0]
        for number, mesh in zip(self.frame_numbers, self.meshes, strict=True):
            same = len(mesh.vertices) == len(first.vertices)
            if not (same and np.array_equal(mesh.faces, first.faces)):
                raise MeshSequenceError(
                    f"{self.name}: frame {number} has {len(mesh.vertices)} vertices and"
                    f" {mesh.n_faces} triangles connected otherwise than frame"
                    f" {self.frame_numbers[0]}; correspondences need one connectivity, as in .anime"
                )
        return np.stack([mesh.vertices for mesh in self.meshes])


def load_meshes(config: MeshesConfig) -> MeshSequence:
    """Reads a sequence of meshes.

    Raises:
        MeshSequenceError: A mesh is not readable, has no faces or vertices that are no numbers.
        FileNotFoundError: It is not there.
    """
    path = Path(config.path)
    if not path.exists():
        raise FileNotFoundError(
            f"{path}: no such meshes; a .anime file or a folder of OBJ, PLY or GLB files is needed"
        )
    if path.is_dir():
        files = sorted(
            (file for file in path.iterdir() if file.suffix.lower() in SUFFIXES), key=frame_order
        )
        if not files:
            raise MeshSequenceError(f"{path}: no meshes there; allowed: {', '.join(SUFFIXES)}")
        chosen = _selected(config, len(files))
        meshes = tuple(_checked(_read_file(files[i]), str(files[i])) for i in chosen)
        return MeshSequence(path.name, meshes, tuple(chosen))
    if path.suffix.lower() != ".anime":
        raise MeshSequenceError(
            f"{path}: found a {path.suffix or 'nameless'} file; allowed: .anime, or a folder of"
            f" {', '.join(SUFFIXES)}"
        )
    try:
        vertices, faces = read_anime(path)
    except ValueError as error:
        raise MeshSequenceError(str(error)) from None
    chosen = _selected(config, len(vertices))
    meshes = [Mesh(vertices[i].astype(np.float64), faces) for i in chosen]
    named = zip(chosen, meshes, strict=True)
    return MeshSequence(
        path.stem, tuple(_checked(mesh, f"{path}: frame {i}") for i, mesh in named), tuple(chosen)
    )


def _selected(config: MeshesConfig, n_frames: int) -> list[int]:
    try:
        return select_frames(config.frames, n_frames, config.path)
    except ValueError as error:
        raise MeshSequenceError(str(error)) from None


def _read_file(path: Path) -> Mesh:
    """Returns a file's mesh; vertices that a file repeats, as at texture seams, become one.

    A vertex no face uses is dropped with them.
    """
    options: Any = {"skip_materials": True} if path.suffix.lower() == ".obj" else {}
    try:
        loaded: Any = trimesh.load(path, process=False, force="mesh", **options)
        vertices, faces = np.asarray(loaded.vertices, np.float64), np.asarray(loaded.faces)
    except OSError:
        raise
    except Exception as error:  # trimesh raises whatever its parsers stumble over
        raise MeshSequenceError(f"{path}: not a readable mesh ({error}); export it again") from None
    if not len(faces):
        return Mesh(vertices.reshape(-1, 3), np.zeros((0, 3), np.int64))
    unique, numbers = np.unique(vertices, axis=0, return_inverse=True)
    welded = numbers.reshape(-1)[faces.astype(np.int64)]
    corners = np.sort(welded, axis=1)
    proper = (corners[:, 0] != corners[:, 1]) & (corners[:, 1] != corners[:, 2])
    return Mesh(unique, welded).subset(proper)


def _checked(mesh: Mesh, where: str) -> Mesh:
    if mesh.n_faces == 0:
        raise MeshSequenceError(f"{where}: the mesh has no faces; a surface of triangles is needed")
    broken = ~np.isfinite(mesh.vertices).all(1)
    if broken.any():
        raise MeshSequenceError(
            f"{where}: {int(broken.sum())} vertices are not finite, vertex"
            f" {int(broken.argmax())} the first; mend or leave out the frame"
        )
    return mesh
