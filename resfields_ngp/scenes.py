"""Scene files: the settings of known captures, clips and meshes, and where their data lies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .config import read_scene

FOLDER = Path(__file__).resolve().parents[1] / "scenes"
"""The scenes of this checkout."""


@dataclass(frozen=True)
class Scene:
    """A scene file."""

    path: Path
    """The file."""
    verb: str
    """What runs it: ``reconstruct``, or ``fit`` and its task."""
    data: str
    """Where its data is, below ``--data``; empty where it is named on the command line."""
    about: str
    """Its first comment."""


def known_scenes(folder: Path = FOLDER) -> Iterator[Scene]:
    """Yields the scenes of a folder, by name.

    Raises:
        FileNotFoundError: There is no such folder, as where the package was installed without one.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no scenes here; they come with a checkout's scenes/")
    for path in sorted(folder.glob("*.toml")):
        table = read_scene(path)
        task = table.get("task")
        data = table.get("input" if task else "capture", {}).get("path", "")
        comments = [line for line in path.read_text().splitlines() if line.startswith("#")]
        about = comments[0].lstrip("# ") if comments else ""
        yield Scene(path, f"fit {task}" if task else "reconstruct", data, about)


def placed(path: str, data: Path | None) -> str:
    """Returns a scene's path below the data folder, or as it is; absolute, to be passed back."""
    return str(((data or Path()) / path).resolve())
