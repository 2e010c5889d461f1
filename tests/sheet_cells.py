"""The cells of a sheet of pictures."""

from __future__ import annotations

import numpy as np

from resfields_ngp.sheets import GAP, MARGIN


def cells_of(sheet: np.ndarray, n_rows: int, n_columns: int, width: int) -> np.ndarray:
    """Returns (n_rows, n_columns, H, width, 3): the cells below and beside the names."""
    width += GAP
    pictures = sheet[MARGIN:, -n_columns * width :]
    pictures = pictures.reshape(n_rows, -1, n_columns, width, 3)[:, :-GAP, :, :-GAP]
    return pictures.transpose(0, 2, 1, 3, 4)
