"""Laws of sheets: cells where their names say, names that are all there."""

from __future__ import annotations

import numpy as np
import pytest
from sheet_cells import cells_of

from resfields_ngp.sheets import GAP, MARGIN, laid_out

ACROSS = ("one", "two", "three")


def cells(height: int = 50, width: int = 70) -> list[list[np.ndarray | None]]:
    """Returns two rows of three cells, each of a shade of its own."""
    shades = np.arange(6).reshape(2, 3) * 20 + 30
    return [[np.full((height, width, 3), shade, np.uint8) for shade in row] for row in shades]


def test_each_cell_stands_under_its_name_and_beside_its_row():
    rows = cells()
    rows[1][2] = None
    sheet = laid_out(rows, ("3", "12"), ACROSS)
    assert sheet.shape == (MARGIN + 2 * (50 + GAP), MARGIN + 3 * (70 + GAP), 3)
    expected = np.array([[30, 50, 70], [90, 110, 235]])
    assert (cells_of(sheet, 2, 3, 70) == expected[..., None, None, None]).all()


def test_names_are_whole_however_long():
    long = "a name of many letters"
    one = laid_out(cells(), (long, "b"), ACROSS)
    other = laid_out(cells(), (long + ", and more", "b"), ACROSS)
    assert other.shape[1] > one.shape[1] > MARGIN + 3 * (70 + GAP)
    left = one.shape[1] - 3 * (70 + GAP)
    beside = one[MARGIN : MARGIN + 50, :left].min((0, 2))
    inked = np.flatnonzero(beside < 200)
    assert 5 <= inked.min() and inked.max() < left - 5
    assert (one[:, :4] == 255).all()


def test_columns_are_as_wide_as_their_names():
    across = ("a longer name", "another, longer yet", "c")
    sheet = laid_out(cells(), ("3", "12"), across)
    column = (sheet.shape[1] - MARGIN) // 3
    assert column > 70 + GAP
    inked = (sheet[:MARGIN] < 200).any((0, 2))[MARGIN:].reshape(3, column)
    assert inked.any(1).all() and not inked[:, -GAP + 1 :].any()
    middles = sheet[MARGIN + 25, MARGIN:].reshape(3, column, 3)[:, (column - GAP) // 2, 0]
    assert middles.tolist() == [30, 50, 70]


@pytest.mark.parametrize(("down", "across"), [(("1",), ACROSS), (("1", "2"), ACROSS[:2])])
def test_names_and_cells_go_together(down: tuple[str, ...], across: tuple[str, ...]):
    with pytest.raises(ValueError, match="zip"):
        laid_out(cells(), down, across)
