"""Laws of reading images: what counts as the subject in a mask."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from resfields_ngp.datasets.images import read_mask
from resfields_ngp.datasets.layout import write_png


def test_soft_edges_of_masks_are_cut_at_half_and_labels_are_not(tmp_path: Path):
    ramp = np.tile(np.arange(256, dtype=np.uint8), (4, 1))
    write_png(tmp_path / "soft.png", ramp)
    np.testing.assert_array_equal(read_mask(tmp_path / "soft.png"), ramp > 127)
    labels = np.tile(np.arange(16, dtype=np.uint8), (4, 1))
    write_png(tmp_path / "labels.png", labels)
    np.testing.assert_array_equal(read_mask(tmp_path / "labels.png"), labels > 0)
