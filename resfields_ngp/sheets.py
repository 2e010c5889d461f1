"""Pictures laid out in rows and columns, each with its name."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

MARGIN = 44
"""Pixels above the cells; at their left there are as many or, for longer names, more."""
GAP = 6
"""Pixels between cells."""
_PADDING = 10  # beside the names at the left
_PAPER, _EMPTY = 255, 235
_INK = (60, 60, 60)
_FACE, _SIZE = cv2.FONT_HERSHEY_SIMPLEX, 0.5


def laid_out(
    rows: Sequence[Sequence[np.ndarray | None]], down: Sequence[str], across: Sequence[str]
) -> np.ndarray:
    """Lays pictures out under the names of their columns and beside those of their rows.

    Args:
        rows: Cells, (H, W, 3) uint8 and all of one size, one at least; grey where there is none.
        down: The name of each row.
        across: The name of each column.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ValueError: Names and cells do not go together.
    """
    height, width = next(cell.shape[:2] for row in rows for cell in row if cell is not None)
    left = max(MARGIN, *(_extent(name)[0] + 2 * _PADDING for name in down))
    column = GAP + max(width, *(_extent(name)[0] for name in across))
    shape = (MARGIN + len(rows) * (height + GAP), left + len(across) * column, 3)
    sheet = np.full(shape, _PAPER, np.uint8)
    middles = [left + j * column + (column - GAP) // 2 for j in range(len(across))]
    for name, middle in zip(across, middles, strict=True):
        _write(sheet, name, (middle, MARGIN // 2))
    for i, (name, row) in enumerate(zip(down, rows, strict=True)):
        top = MARGIN + i * (height + GAP)
        _write(sheet, name, (left // 2, top + height // 2))
        for middle, cell in zip(middles, row, strict=True):
            x = middle - width // 2
            sheet[top : top + height, x : x + width] = _EMPTY if cell is None else cell
    return sheet


def _write(sheet: np.ndarray, text: str, middle: tuple[int, int]) -> None:
    """Writes a name centred on a point."""
    width, height = _extent(text)
    corner = (middle[0] - width // 2, middle[1] + height // 2)
    cv2.putText(sheet, text, corner, _FACE, _SIZE, _INK, 1, cv2.LINE_AA)


def _extent(text: str) -> tuple[int, int]:
    """Returns a name's width and height, pixels."""
    (width, height), _ = cv2.getTextSize(text, _FACE, _SIZE, 1)
    return width, height
