"""The materials of OBJ files, and their textures found where they are."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .base import Material, SequenceError
from .textures import find_texture, read_texture

_TEXTURE_SUFFIXES = (".png", ".jpg", ".jpeg")
_OPTION_LENGTHS = {"-s": 3, "-o": 3, "-t": 3, "-mm": 2}
"""How many numbers follow an option of ``map_Kd`` at most; one word follows any other."""


@dataclass
class _Entry:
    """What an MTL file says of a material."""

    where: Path
    colour: tuple[float, float, float] = (0.7, 0.7, 0.7)
    map: str | None = None


def read_materials(
    libraries: Sequence[str], names: Sequence[str], obj: Path
) -> tuple[tuple[Material, ...], list[str]]:
    """Reads the materials that an OBJ file uses.

    Without an MTL file, an image of the OBJ's own name beside it is the texture, as the Owlii and
    MPEG sequences name theirs.

    Args:
        libraries: As its ``mtllib`` lines name them.
        names: Of its ``usemtl`` lines; the first, empty, stands for faces before any of them.
        obj: The OBJ file.

    Returns:
        A material for each name, and what was repaired.

    Raises:
        SequenceError: An MTL file, a material or a texture is missing, and nothing stands in.
    """
    entries, notes, lost = _read_libraries(libraries, obj)
    beside = next((p for s in _TEXTURE_SUFFIXES if (p := obj.with_suffix(s)).is_file()), None)
    materials = []
    for name in names:
        entry = entries.get(name) or (_sole(entries) if name == "" else None)
        if entry is not None:
            material, found = _material(name, entry)
            notes += found
        elif beside is not None:
            texture, found = read_texture(beside)
            material = Material(name, texture=texture)
            notes += [f"{obj.name}: texture {beside.name} taken by its name, no MTL file", *found]
        elif lost or (name and entries):
            missing = lost[0] if lost else name
            raise SequenceError(
                f'{obj}: no material "{missing}"; put the MTL file, or {obj.stem}.png, beside it'
            )
        else:
            material = Material(name)
        materials.append(material)
    return tuple(materials), list(dict.fromkeys(notes))


def _sole(entries: dict[str, _Entry]) -> _Entry | None:
    """Returns the only material there is: faces before any ``usemtl`` are made of it."""
    return next(iter(entries.values())) if len(entries) == 1 else None


def _read_libraries(
    libraries: Sequence[str], obj: Path
) -> tuple[dict[str, _Entry], list[str], list[str]]:
    """Returns the entries of the MTL files, repairs, and the files that are not there."""
    entries: dict[str, _Entry] = {}
    notes: list[str] = []
    lost: list[str] = []
    for written in libraries:
        plain = written.replace("\\", "/")
        path = obj.parent / plain
        if not path.is_file():
            path = obj.parent / plain.rsplit("/", 1)[-1]
            if path.is_file():
                notes.append(f"{obj.name}: {written} taken from beside the file")
        if path.is_file():
            entries |= _read_library(path)
        else:
            lost.append(written)
    return entries, notes, lost


def _read_library(path: Path) -> dict[str, _Entry]:
    entries: dict[str, _Entry] = {}
    current = _Entry(path)
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        keyword, _, rest = line.strip().replace("\t", " ").partition(" ")
        if keyword == "newmtl":
            current = entries[rest.strip()] = _Entry(path)
        elif keyword == "Kd":
            numbers = rest.split()
            try:
                red, green, blue = (float(each) for each in (numbers * 3)[:3])
            except ValueError:
                raise SequenceError(f'{path}: "{line.strip()}" is not a colour') from None
            current.colour = (red, green, blue)
        elif keyword.lower() == "map_kd":
            current.map = _map_path(rest)
    return entries


def _map_path(text: str) -> str:
    """Returns the path of a ``map_Kd`` line: what is left behind its options.

    >>> _map_path("-clamp on -s 1 1 1 my texture.png")
    'my texture.png'
    """
    text = text.strip()
    while text.startswith("-"):
        option, _, text = text.partition(" ")
        for _ in range(_OPTION_LENGTHS.get(option, 1)):
            word, _, rest = text.strip().partition(" ")
            if option in _OPTION_LENGTHS and not _is_number(word):
                break
            text = rest
        text = text.strip()
    return shlex.split(text)[0] if text.startswith('"') else text


def _is_number(word: str) -> bool:
    try:
        return bool(np.isfinite(float(word)))
    except ValueError:
        return False


def _material(name: str, entry: _Entry) -> tuple[Material, list[str]]:
    if entry.map is None:
        return Material(name, entry.colour), []
    path, moved = find_texture(entry.map, entry.where.parent, entry.where.name)
    texture, converted = read_texture(path)
    return Material(name, entry.colour, texture), [*moved, *converted]
