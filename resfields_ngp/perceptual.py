"""LPIPS (Zhang et al. 2018, arXiv:1801.03924) with AlexNet, from weights that the user supplies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor

# Name in the lpips package's state dict, stride and padding of AlexNet's convolutions.
_LAYERS = (
    ("net.slice1.0", 4, 2),
    ("net.slice2.3", 1, 2),
    ("net.slice3.6", 1, 1),
    ("net.slice4.8", 1, 1),
    ("net.slice5.10", 1, 1),
)
_POOLED = (1, 2)  # layers that a maximum over 3 x 3 with stride 2 comes before
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)


class Lpips:
    """The distance of two pictures as people judge it; 0 for the same, up to about 1."""

    def __init__(self, weights: dict[str, Tensor]):
        self._weights = weights

    @staticmethod
    def load(path: Path) -> Lpips:
        """Reads the state dict of ``lpips.LPIPS(net="alex")``.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is not that network's state dict.
        """
        if not path.is_file():
            raise FileNotFoundError(f"evaluation.lpips_weights: {path}: no such file")
        needed = [f"{name}.{kind}" for name, _, _ in _LAYERS for kind in ("weight", "bias")]
        needed += [f"lin{i}.model.1.weight" for i in range(len(_LAYERS))]
        try:
            found = torch.load(path, map_location="cpu", weights_only=True)
            return Lpips({key: found[key].float() for key in needed})
        except Exception as error:  # torch.load raises whatever its unpickler stumbles over
            raise ValueError(
                f"{path}: not the state dict of lpips.LPIPS(net='alex') ({type(error).__name__}); "
                "save it with torch.save(lpips.LPIPS(net='alex').state_dict(), path)"
            ) from error

    @torch.no_grad()
    def __call__(self, picture: np.ndarray, truth: np.ndarray) -> float:
        """Returns the distance of two (H, W, 3) pictures in [0, 1]."""
        distance = 0.0
        pairs = zip(self._features(picture), self._features(truth), strict=True)
        for i, (x, y) in enumerate(pairs):
            squared = (functional.normalize(x, eps=1e-10) - functional.normalize(y, eps=1e-10)) ** 2
            judged = functional.conv2d(squared, self._weights[f"lin{i}.model.1.weight"])
            distance += float(judged.mean())
        return distance

    def _features(self, picture: np.ndarray) -> list[Tensor]:
        """Returns the five layers' activations, (1, C, h, w) each."""
        values = torch.from_numpy(np.ascontiguousarray(picture)).float().permute(2, 0, 1)[None]
        shift, scale = torch.tensor(_SHIFT).view(1, 3, 1, 1), torch.tensor(_SCALE).view(1, 3, 1, 1)
        values = (values * 2 - 1 - shift) / scale
        layers = []
        for i, (name, stride, padding) in enumerate(_LAYERS):
            if i in _POOLED:
                values = functional.max_pool2d(values, 3, 2)
            weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
            values = functional.relu(functional.conv2d(values, weight, bias, stride, padding))
            layers.append(values)
        return layers
