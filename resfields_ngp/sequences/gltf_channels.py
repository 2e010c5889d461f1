"""How the animations of a glTF file run: keys in time, and what is between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .gltf import Gltf

PATHS = ("translation", "rotation", "scale", "weights")


@dataclass(frozen=True)
class Channel:
    """How one property of one node runs."""

    node: int
    """Which node."""
    path: str
    """translation, rotation, scale or weights."""
    times: np.ndarray
    """(n,) seconds, ascending."""
    values: np.ndarray
    """(n, k), or (n, 3, k) for cubic splines: tangent in, value, tangent out."""
    interpolation: str
    """LINEAR, STEP or CUBICSPLINE."""

    def at(self, time: float) -> np.ndarray:
        """Returns the (k,) value at a time, seconds; the ends hold outside."""
        is_cubic = self.interpolation == "CUBICSPLINE"
        keys = self.values[:, 1] if is_cubic else self.values
        if time <= self.times[0] or len(self.times) == 1:
            return keys[0]
        if time >= self.times[-1]:
            return keys[-1]
        after = int(np.searchsorted(self.times, time, side="right"))
        span = self.times[after] - self.times[after - 1]
        share = (time - self.times[after - 1]) / span
        if self.interpolation == "STEP":
            return keys[after - 1]
        if is_cubic:
            value = _hermite(self.values[after - 1], self.values[after], share, span)
            return value / np.linalg.norm(value) if self.path == "rotation" else value
        if self.path == "rotation":
            return slerp(keys[after - 1], keys[after], share)
        return (1 - share) * keys[after - 1] + share * keys[after]


def slerp(start: np.ndarray, end: np.ndarray, share: float) -> np.ndarray:
    """Returns the (4,) unit quaternion between two, on the shorter way.

    >>> slerp(np.array([0, 0, 0, 1.0]), np.array([0, 0, 1.0, 0]), 1.0).round(6).tolist()
    [0.0, 0.0, 1.0, 0.0]
    """
    cosine = float(start @ end)
    end, cosine = (-end, -cosine) if cosine < 0 else (end, cosine)
    angle = np.arccos(min(cosine, 1.0))
    if angle < 1e-6:
        between = (1 - share) * start + share * end
    else:
        between = np.sin((1 - share) * angle) * start + np.sin(share * angle) * end
    return between / np.linalg.norm(between)


def _hermite(before: np.ndarray, after: np.ndarray, share: float, span: float) -> np.ndarray:
    """Returns the cubic spline of the glTF specification, appendix C."""
    square, cube = share**2, share**3
    return (
        (2 * cube - 3 * square + 1) * before[1]
        + span * (cube - 2 * square + share) * before[2]
        + (3 * square - 2 * cube) * after[1]
        + span * (cube - square) * after[0]
    )


def read_channel(file: Gltf, entry: dict[str, Any], channel: dict[str, Any]) -> Channel | None:
    """Returns a channel of an animation; None where it moves nothing that meshes depend on.

    Args:
        file: The file.
        entry: The animation's JSON.
        channel: The channel's.
    """
    target = channel["target"]
    if "node" not in target or target["path"] not in PATHS:
        return None
    sampler = entry["samplers"][channel["sampler"]]
    times = file.accessor(sampler["input"])[:, 0]
    values = file.accessor(sampler["output"])
    interpolation = sampler.get("interpolation", "LINEAR")
    n_parts = 3 if interpolation == "CUBICSPLINE" else 1
    # The weights of several targets are scalars one after another.
    values = values.reshape(len(times), n_parts, -1)
    return Channel(
        target["node"],
        target["path"],
        times,
        values if n_parts == 3 else values[:, 0],
        interpolation,
    )
