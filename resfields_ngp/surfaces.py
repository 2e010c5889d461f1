"""Surfaces that a field was fitted to directly, frame by frame, with all that meshes them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .field import SurfaceField
from .model_space import ModelSpace


@dataclass(frozen=True)
class FittedSurfaces:
    """A field whose surfaces can be meshed, and where model space lies."""

    field: SurfaceField
    """The signed distance."""
    space: ModelSpace
    """Model space in the world."""
    frame_numbers: tuple[int, ...]
    """The input's own index of each frame."""
    world_from_normalised: np.ndarray
    """(4, 4) from the sequence's [-1, 1] to the world."""
    occupancy: None = None
    """Nothing is known to be empty."""
    outlines: None = None
    """There are no masks."""
    surface_level: float = 0.0
    """Signed distance of the surface."""

    @property
    def n_frames(self) -> int:
        """The number of frames."""
        return len(self.frame_numbers)
