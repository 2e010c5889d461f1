"""Where model space lies in the world; spaces and units: `records`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ModelSpace:
    """Where model space lies in the world, frame by frame.

    A point x of model space at frame i lies at ``world_from_model @ (x + offsets[i])``: the offsets
    take the subject's walk out of the signal, so that shared features follow the body.
    """

    world_from_model: np.ndarray
    """(4, 4) float64 similarity (uniform scale, rotation, translation)."""
    offsets: np.ndarray
    """(n_frames, 3) float64 translations, in model units."""

    @property
    def scale(self) -> float:
        """World units per model unit."""
        return float(np.cbrt(np.linalg.det(self.world_from_model[:3, :3])))

    def world_from_frame(self, frame: int) -> np.ndarray:
        """Returns the (4, 4) similarity that takes frame `frame`'s model space to the world."""
        shift = np.eye(4)
        shift[:3, 3] = self.offsets[frame]
        return self.world_from_model @ shift

    def to_world(self, positions: np.ndarray, frame: int) -> np.ndarray:
        """Returns (N, 3) model positions of a frame in world units."""
        matrix = self.world_from_frame(frame)
        return positions @ matrix[:3, :3].T + matrix[:3, 3]

    def to_model(self, positions: np.ndarray, frame: int) -> np.ndarray:
        """Returns (N, 3) world positions in model space at a frame; the inverse of `to_world`."""
        matrix = np.linalg.inv(self.world_from_frame(frame))
        return positions @ matrix[:3, :3].T + matrix[:3, 3]
