"""``manifest.json``: what meshes a run holds, how they measure, and how they lie in the world."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .mesh import MeshStatistics
from .writing import write_whole

if TYPE_CHECKING:
    from .reconstruction import Reconstruction
    from .surfaces import FittedSurfaces

VERSION = 1


class Manifest:
    """The manifest of a run's meshes, rewritten whole after each frame.

    It lists only meshes made with the same weights, settings and model space: opening it for others
    begins a new list, and so their frames are meshed again.
    """

    def __init__(self, path: Path, header: dict[str, Any], frames: dict[int, dict[str, Any]]):
        self._path = path
        self._header = header
        self._frames = frames

    @staticmethod
    def open(
        run: Path, reconstruction: Reconstruction | FittedSurfaces, settings: dict[str, Any]
    ) -> Manifest:
        """Opens ``RUN/manifest.json`` for meshes of a reconstruction.

        Args:
            run: The run folder.
            reconstruction: Where model space lies in the world.
            settings: What the meshes depend on besides; plain JSON values.
        """
        header = {
            "version": VERSION,
            "units": "capture world units",
            "world_from_normalised": reconstruction.world_from_normalised.tolist(),
            "world_from_model": reconstruction.space.world_from_model.tolist(),
            "settings": settings,
        }
        path = run / "manifest.json"
        found = read_manifest(path)
        same = all(found.get(key) == value for key, value in header.items())
        frames = {row["frame"]: row for row in found["frames"]} if same else {}
        return Manifest(path, header, frames)

    def has(self, number: int, paths: Sequence[Path]) -> bool:
        """Returns whether a frame is listed with all of these files, and they are there."""
        listed = self._frames.get(number, {}).get("files", [])
        return all(self._name(path) in listed and path.is_file() for path in paths)

    def drop_outdated(self, number: int) -> None:
        """Removes a frame's files that other weights or settings made, whatever their format."""
        if number not in self._frames:
            for path in (self._path.parent / "meshes").glob(f"{number:06d}.*"):
                path.unlink()

    def add(
        self, number: int, paths: Sequence[Path], statistics: MeshStatistics, offset: np.ndarray
    ) -> None:
        """Lists a frame's mesh and writes the manifest.

        Args:
            number: The capture's own number of the frame.
            paths: Its files, one a format.
            statistics: What it measures, in world units.
            offset: (3,) translation of this frame's model space, in model units.

        Raises:
            OSError: The manifest could not be written; the former one is still whole.
        """
        before = self._frames.get(number, {}).get("files", [])
        files = sorted({*before, *(self._name(path) for path in paths)})
        row = {"frame": number, "files": files, **asdict(statistics)}
        self._frames[number] = {**row, "model_offset": np.asarray(offset).tolist()}
        frames = [self._frames[key] for key in sorted(self._frames)]
        content = json.dumps({**self._header, "frames": frames}, indent=1)
        write_whole(self._path, content.encode())

    def _name(self, path: Path) -> str:
        return path.relative_to(self._path.parent).as_posix()


def read_manifest(path: Path) -> dict[str, Any]:
    """Reads a manifest; one that is missing or damaged has no frames."""
    try:
        found = json.loads(path.read_text())
        return found if isinstance(found.get("frames"), list) else {"frames": []}
    except (OSError, ValueError, AttributeError):
        return {"frames": []}
