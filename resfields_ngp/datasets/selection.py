"""Which frames and cameras of a capture are asked for, and which file is which frame."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from .base import CaptureConfig, CaptureError

DEFAULT_TEST_CAMERA = CaptureConfig().test_camera


def frame_order(path: Path) -> tuple[list[str | int], str]:
    """Returns a key that sorts files by name, with the numbers in names by their value.

    For numbers padded to one length that is the order of the names.

    >>> [path.name for path in sorted(map(Path, ("10.png", "9.png")), key=frame_order)]
    ['9.png', '10.png']
    """
    parts: list[str | int] = list(re.split(r"(\d+)", path.stem))
    parts[1::2] = [int(number) for number in parts[1::2]]
    return parts, path.name


def count_alike(files: Sequence[Path], others: Sequence[Path]) -> bool:
    """Returns whether the last numbers in files' names rise as in others', where names have any.

    >>> count_alike([Path("0.png"), Path("2.png")], [Path("m7.png"), Path("m8.png")])
    False
    """
    steps = []
    for paths in (files, others):
        found = [re.findall(r"\d+", path.stem) for path in paths]
        if not all(found):
            return True
        steps.append([int(numbers[-1]) - int(found[0][-1]) for numbers in found])
    return steps[0] == steps[1]


def select_frames(slice_text: str, n_frames: int, where: str) -> list[int]:
    """Returns the frames that ``start:stop:stride`` (or a single number) selects.

    Args:
        slice_text: As in Python; parts may be left out, negative numbers count from the end.
        n_frames: How many frames there are.
        where: What the error names: the capture.

    Raises:
        CaptureError: Not such a text, or it reaches outside the frames, or selects none.

    >>> select_frames("2:8:3", 12, "capture"), select_frames("-1", 12, "capture")
    ([2, 5], [11])
    """
    allowed = f"allowed: start:stop:stride within 0:{n_frames}"
    if not re.fullmatch(r"\s*(-?\d+|(-?\d+)?(:(-?\d+)?){1,2})\s*", slice_text):
        raise CaptureError(f'{where}: frames "{slice_text}" is not a slice; {allowed}')
    parts = [int(part) if part.strip() else None for part in slice_text.split(":")]
    if len(parts) == 1 and parts[0] is not None:
        parts = [parts[0], parts[0] + 1 or None]
    start, stop, stride = (*parts, None, None)[:3]
    outside = (start is not None and not -n_frames <= start < n_frames) or (
        stop is not None and not -n_frames <= stop <= n_frames
    )
    if outside or (stride is not None and stride < 1):
        found = f"it has {n_frames} frames" if outside else "the stride must be 1 or more"
        raise CaptureError(f'{where}: frames "{slice_text}" is out of range: {found}; {allowed}')
    frames = list(range(n_frames))[start:stop:stride]
    if not frames:
        raise CaptureError(f'{where}: frames "{slice_text}" selects none; {allowed}')
    return frames


def select_cameras(
    names: Sequence[str], config: CaptureConfig, where: str
) -> tuple[list[str], str | None]:
    """Returns the names of the training cameras, in order, and the test camera's or None.

    Args:
        names: The cameras there are.
        config: What is asked for. The default test camera may be absent, any other must exist.
        where: What the error names: the capture.

    Raises:
        CaptureError: A camera is asked for that is not there, or none is left to train on.
    """
    available = f"available: {', '.join(names)}"
    test = config.test_camera or None
    if test is not None and test not in names:
        if test != DEFAULT_TEST_CAMERA:
            raise CaptureError(f'{where}: no test camera "{test}"; {available}')
        test = None
    missing = [name for name in config.cameras if name not in names]
    if missing:
        raise CaptureError(f'{where}: no camera "{missing[0]}" to train on; {available}')
    if test is not None and test in config.cameras:
        raise CaptureError(
            f'{where}: camera "{test}" is both trained on and held out; '
            "leave it out of cameras, or name another test_camera"
        )
    training = list(dict.fromkeys(config.cameras)) or [name for name in names if name != test]
    if not training:
        raise CaptureError(f"{where}: no camera is left to train on; {available}")
    return training, test
