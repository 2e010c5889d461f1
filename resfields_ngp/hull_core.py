"""Where to begin inside the visual hull: growing a core outwards beats carving the hull inwards.

A hull from few views is the largest shape that agrees with the masks; its corners are seen by no
camera as wrong, so gradients hardly move them. A surface that starts within the core and is pushed
out by the masks stops at the first shape that agrees.

Vocabulary
    depth   distance below the hull's surface, 0 outside.
    radius  of the largest ball in the hull that covers a point (local thickness, Hildebrand and
            Rüegsegger 1997).
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

_N_RADII = 12


def core_distances(
    distances: np.ndarray,  # (G, G, G) signed distance to the hull, model units
    part: float,
) -> np.ndarray:  # (G, G, G) float32
    """Returns the distance raised by `part` of the local radius.

    0 keeps the hull; near 1 leaves its medial axis.
    """
    if part <= 0.0:
        return distances.astype(np.float32)
    return (distances + part * local_radii(distances)).astype(np.float32)


def local_radii(
    distances: np.ndarray,  # (G, G, G) signed distance, negative inside, model units
) -> np.ndarray:  # (G, G, G) float32
    """Returns the radius of the largest inscribed ball near each cell, smoothly 0 far outside.

    Computed at half resolution; parts thinner than that have radius 0.
    """
    coarse = distances[::2, ::2, ::2]
    cell = 1.0 / coarse.shape[0]
    depth = np.maximum(-coarse, 0.0)
    radii = np.zeros_like(coarse)
    largest = float(depth.max())
    for radius in np.linspace(0.0, largest, _N_RADII + 1)[1:]:
        centres = depth >= radius - 0.5 * largest / _N_RADII
        away = ndimage.distance_transform_edt(~centres) * cell
        radii = np.where(away <= 1.25 * radius + cell, radius, radii)
    smooth = ndimage.gaussian_filter(radii, 1.0)
    scale = np.divide(distances.shape, coarse.shape)
    radii = ndimage.zoom(smooth, scale, order=1, mode="nearest", grid_mode=True)
    return np.asarray(radii, np.float32)
