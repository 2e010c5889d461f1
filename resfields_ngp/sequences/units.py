"""The unit of a sequence, from how tall the figure is in it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .base import SequenceError

METRES = {"m": 1.0, "dm": 0.1, "cm": 0.01, "mm": 0.001}
"""Unit to its length in metres."""
FIGURE_HEIGHTS = (0.5, 3.0)
"""Metres between which figures are tall: a child with its knees bent, a man with his arms up."""


def find_unit(heights: Sequence[float], unit: str, where: str) -> tuple[float, str]:
    """Finds the unit of a sequence.

    Args:
        heights: Of the figure at each frame, in the sequence's own unit.
        unit: A key of `METRES`, a number of metres, or ``auto``: the unit in which the figure is
            as tall as figures are. The ranges of the units do not overlap.
        where: What an error names: the sequence.

    Returns:
        Metres per unit, and a sentence that says so.

    Raises:
        SequenceError: No unit fits, or the frames are in several units.

    >>> find_unit([1870.0, 1874.0], "auto", "basketball")[0]
    0.001
    """
    tall = np.asarray(heights, float)
    middle = float(np.median(tall))
    odd = int(np.argmax(np.abs(np.log(np.maximum(tall, 1e-300) / max(middle, 1e-300)))))
    if not 0.2 < tall[odd] / max(middle, 1e-300) < 5:
        raise SequenceError(
            f"{where}: the figure is {tall[odd]:g} tall in frame {odd} of those chosen and "
            f"{middle:g} in most; expected one unit: scale that frame or leave it out with --frames"
        )
    tallest = float(tall.max())
    if unit != "auto":
        metres = _given(unit, where)
        return metres, f"unit {unit}, as said: the figure is {tallest * metres:.3f} m tall"
    low, high = FIGURE_HEIGHTS
    for name, metres in METRES.items():
        if low <= tallest * metres < high:
            return metres, f"unit {name}: the figure is {tallest:g} {name} tall"
    raise SequenceError(
        f"{where}: {tallest:g} tall, which in no unit of {', '.join(METRES)} is a figure of "
        f"{low:g} to {high:g} metres; pass --unit, also as metres per unit: --unit 0.01"
    )


def _given(unit: str, where: str) -> float:
    if unit in METRES:
        return METRES[unit]
    try:
        metres = float(unit)
    except ValueError:
        metres = 0.0
    if not 0 < metres < np.inf:
        allowed = ", ".join(("auto", *METRES))
        raise SequenceError(f'{where}: unit "{unit}"; allowed: {allowed}, or metres per unit')
    return metres
