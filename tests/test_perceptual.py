"""Laws of LPIPS with weights of the right shapes: identity, symmetry, and clear errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from resfields_ngp.perceptual import Lpips

SHAPES = [(64, 3, 11), (192, 64, 5), (384, 192, 3), (256, 384, 3), (256, 256, 3)]
NAMES = ["net.slice1.0", "net.slice2.3", "net.slice3.6", "net.slice4.8", "net.slice5.10"]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    state = {}
    for i, ((outputs, inputs, size), name) in enumerate(zip(SHAPES, NAMES, strict=True)):
        state[f"{name}.weight"] = torch.randn(outputs, inputs, size, size) / (inputs**0.5 * size)
        state[f"{name}.bias"] = torch.zeros(outputs)
        state[f"lin{i}.model.1.weight"] = torch.rand(1, outputs, 1, 1)
    torch.save(state, tmp_path / "alex.pth")
    return tmp_path / "alex.pth"


def test_distance_is_zero_for_the_same_and_symmetric(weights: Path) -> None:
    lpips = Lpips.load(weights)
    x, y = np.random.default_rng(0).uniform(size=(2, 64, 64, 3))
    assert lpips(x, x) == 0.0
    assert lpips(x, y) == pytest.approx(lpips(y, x))
    assert lpips(x, y) > lpips(x, 0.9 * x + 0.1 * y) > 0


def test_other_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="lpips_weights"):
        Lpips.load(tmp_path / "none.pth")
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="other.pth: not the state dict"):
        Lpips.load(tmp_path / "other.pth")
