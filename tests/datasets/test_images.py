"""Laws of reading images: what counts as the subject in a mask."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from resfields_ngp.datasets.base import CaptureError
from resfields_ngp.datasets.images import read_mask, read_rgba
from resfields_ngp.datasets.layout import write_png


def test_soft_edges_of_masks_are_cut_at_half_and_labels_are_not(tmp_path: Path):
    ramp = np.tile(np.arange(256, dtype=np.uint8), (4, 1))
    write_png(tmp_path / "soft.png", ramp)
    np.testing.assert_array_equal(read_mask(tmp_path / "soft.png"), ramp > 127)
    labels = np.tile(np.arange(16, dtype=np.uint8), (4, 1))
    write_png(tmp_path / "labels.png", labels)
    np.testing.assert_array_equal(read_mask(tmp_path / "labels.png"), labels > 0)


def test_sixteen_bits_are_rounded_to_eight(tmp_path: Path):
    every = np.arange(256, dtype=np.uint16)
    exact = np.stack([every * 257, every[::-1] * 257, every * 257, every * 257], axis=-1)[None]
    offsets = np.random.default_rng(0).integers(-128, 129, exact.shape)
    for image in (exact, np.clip(exact + offsets, 0, 65535).astype(np.uint16)):
        assert cv2.imwrite(str(tmp_path / "deep.png"), image)
        colours, alphas = read_rgba(tmp_path / "deep.png")
        np.testing.assert_array_equal(colours[..., 0], exact[..., 2] // 257)
        np.testing.assert_array_equal(colours[..., 1], exact[..., 1] // 257)
        np.testing.assert_array_equal(alphas, exact[..., 3] // 257)


def test_pictures_of_floats_are_refused(tmp_path: Path):
    path = tmp_path / "light.tiff"
    assert cv2.imwrite(str(path), np.zeros((3, 4, 3), np.float32))
    with pytest.raises(CaptureError, match="channels are float32; allowed: RGB or RGBA of 8 or 16"):
        read_rgba(path)
