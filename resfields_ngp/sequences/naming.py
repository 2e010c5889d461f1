"""Which frame a file is: numbers in names, and what is wrong with a folder of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .base import SequenceError

OWLII_NAMES = {
    "NAME_%08d": re.compile(r"(?P<stem>.+)_(?P<number>\d{8})(?P<tail>)"),
    "NAME_fr%04d": re.compile(r"(?P<stem>.+)_fr(?P<number>\d{4})(?P<tail>(_.*)?)"),
}
"""How raw Owlii files are called: as published, and as in MPEG's test sets."""
ANY_NAMES = {"NAME%d": re.compile(r"(?P<stem>.*?)(?P<number>\d+)(?P<tail>\D*)")}
"""Any name with a number, which the last group of digits is."""


@dataclass(frozen=True)
class FrameFiles:
    """The files of a sequence in the order of their numbers."""

    name: str
    """What their names share."""
    paths: tuple[Path, ...]
    """One a frame."""
    numbers: tuple[int, ...]
    """Their numbers, ascending."""
    notes: tuple[str, ...]
    """Numbers that are missing."""


def list_frames(
    folder: Path, suffixes: Sequence[str], names: Mapping[str, re.Pattern[str]], match: str = "*"
) -> FrameFiles:
    """Finds the frames of a sequence in a folder.

    Args:
        folder: Where.
        suffixes: Of the files that count, in lower case: ``.obj``.
        names: `OWLII_NAMES` or `ANY_NAMES`.
        match: Only files whose name matches this pattern of the shell count.

    Raises:
        SequenceError: There are none, a name has no number, two frames have the same number, or
            the files are of several sequences.
    """
    if not folder.is_dir():
        raise SequenceError(f"{folder}: no such folder; pass the folder of a mesh sequence")
    paths = sorted(
        path
        for path in folder.glob(match)
        if path.suffix.lower() in suffixes and not path.name.startswith(".")
    )
    if not paths:
        allowed = " or ".join(f"{name}{suffixes[0]}" for name in names)
        raise SequenceError(f'{folder}: no meshes called "{match}"; expected {allowed}')
    groups: dict[tuple[str, ...], list[tuple[int, Path]]] = {}
    for path in paths:
        key, number = _parsed(path, names, alone=len(paths) == 1)
        groups.setdefault(key, []).append((number, path))
    if len(groups) > 1:
        first, second = (members[0][1].name for members in list(groups.values())[:2])
        raise SequenceError(
            f"{folder}: files of {len(groups)} sequences or namings, such as {first} and {second}; "
            "expected one (--sequence.match PATTERN picks it)"
        )
    key, members = next(iter(groups.items()))
    members.sort()
    numbers = [number for number, _ in members]
    _check_distinct(members)
    # "frame_00012" says nothing; the folder does.
    name = key[1] if names is OWLII_NAMES else folder.resolve().name
    notes = _gaps(numbers)
    return FrameFiles(name, tuple(path for _, path in members), tuple(numbers), notes)


def _parsed(
    path: Path, names: Mapping[str, re.Pattern[str]], alone: bool
) -> tuple[tuple[str, ...], int]:
    """Returns what the names of a sequence share, and the number of this one."""
    for scheme, pattern in names.items():
        found = pattern.fullmatch(path.stem)
        if found is not None:
            key = (scheme, found["stem"], found["tail"], path.suffix.lower())
            return key, int(found["number"])
    if alone:
        return ("", path.stem, "", path.suffix.lower()), 0
    allowed = " or ".join(f"{name}{path.suffix}" for name in names)
    raise SequenceError(f"{path}: not called {allowed}; --sequence.match PATTERN leaves files out")


def _check_distinct(members: Sequence[tuple[int, Path]]) -> None:
    for (number, path), (next_number, other) in zip(members, members[1:], strict=False):
        if number == next_number:
            raise SequenceError(
                f"{path.parent}: {path.name} and {other.name} are both frame {number}; "
                "expected one file a frame"
            )


def _gaps(numbers: Sequence[int]) -> tuple[str, ...]:
    """Returns a note on numbers missing in the middle; even strides are no gaps."""
    steps = [after - before for before, after in zip(numbers, numbers[1:], strict=False)]
    if not steps or len(set(steps)) == 1:
        return ()
    usual = max(set(steps), key=lambda step: (steps.count(step), -step))
    gaps = [
        f"{before + usual}" if step == 2 * usual else f"{before + usual} to {before + step - usual}"
        for before, step in zip(numbers, steps, strict=False)
        if step != usual
    ]
    return (
        f"frames {', '.join(gaps)} are missing: time jumps there, since frames are numbered on "
        "without a gap",
    )
