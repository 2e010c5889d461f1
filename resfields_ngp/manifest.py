"""``manifest.json``: what meshes a run holds, how they measure, and how they lie in the world."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

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

    def __init__(
        self,
        path: Path,
        header: dict[str, Any],
        frames: dict[int, dict[str, Any]],
        pattern: Callable[[int], str],
    ) -> None:
        self._path, self._pattern = path, pattern
        self._header, self._frames = header, frames
        self._facts: dict[str, Any] = {}

    @staticmethod
    def open(
        folder: Path,
        reconstruction: Reconstruction | FittedSurfaces,
        settings: dict[str, Any],
        pattern: Callable[[int], str] = "meshes/{:06d}.*".format,
        facts: dict[str, Any] | None = None,
    ) -> Manifest:
        """Opens ``FOLDER/manifest.json`` for meshes of a reconstruction.

        Args:
            folder: Where the manifest is: the run folder, or that of an export.
            reconstruction: Where model space lies in the world.
            settings: What the meshes depend on besides; plain JSON values.
            pattern: From a frame's number to the names of its files, relative to the folder.
            facts: What else the header says.
        """
        header = {
            "version": VERSION,
            "units": "capture world units",
            "handedness": "right-handed",
            **(facts or {}),
            "world_from_normalised": reconstruction.world_from_normalised.tolist(),
            "world_from_model": reconstruction.space.world_from_model.tolist(),
            "settings": settings,
        }
        path = folder / "manifest.json"
        found = read_manifest(path)
        same = all(found.get(key) == value for key, value in header.items())
        frames = {row["frame"]: row for row in found["frames"]} if same else {}
        return Manifest(path, header, frames, pattern)

    def has(self, number: int, paths: Sequence[Path]) -> bool:
        """Returns whether a frame is listed with all of these files, and they are there."""
        listed = self._frames.get(number, {}).get("files", [])
        return all(self._name(path) in listed and path.is_file() for path in paths)

    def drop_outdated(self, number: int) -> None:
        """Removes a frame's files that other weights or settings made, whatever their format."""
        if number not in self._frames:
            for path in self._path.parent.glob(self._pattern(number)):
                path.unlink()

    def add(self, number: int, paths: Sequence[Path], row: dict[str, Any]) -> None:
        """Lists a frame's mesh and writes the manifest.

        Args:
            number: The capture's own number of the frame.
            paths: Its files.
            row: What is said of it, in world units; plain JSON values.

        Raises:
            OSError: The manifest could not be written; the former one is still whole.
        """
        before = self._frames.get(number, {}).get("files", [])
        files = sorted({*before, *(self._name(path) for path in paths)})
        self._frames[number] = {"frame": number, "files": files, **row}
        self._write()

    def state(self, **facts: Any) -> None:
        """Adds facts about the whole sequence and writes the manifest."""
        self._facts = facts
        self._write()

    def _write(self) -> None:
        frames = [self._frames[key] for key in sorted(self._frames)]
        content = {**self._header, **groups_of(frames), **self._facts, "frames": frames}
        write_whole(self._path, json.dumps(content, indent=1).encode())

    def _name(self, path: Path) -> str:
        return path.relative_to(self._path.parent).as_posix()


def groups_of(frames: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Returns ``groups`` of tracked frames: key, frames, flips and largest residual of each."""
    groups: dict[int, dict[str, Any]] = {}
    for row in frames:
        if "key" not in row:
            continue
        group = groups.setdefault(
            row["key"], {"key": row["key"], "frames": [], "flips": 0, "largest_residual": 0.0}
        )
        group["frames"].append(row["frame"])
        group["flips"] += row["flips"]
        group["largest_residual"] = max(group["largest_residual"], row["residual"])
    return {"groups": list(groups.values())} if groups else {}


def read_manifest(path: Path) -> dict[str, Any]:
    """Reads a manifest; one that is missing or damaged has no frames."""
    try:
        found = json.loads(path.read_text())
        return found if isinstance(found.get("frames"), list) else {"frames": []}
    except (OSError, ValueError, AttributeError):
        return {"frames": []}
