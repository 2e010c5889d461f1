"""Floaters: separate parts of a surface that no mask needs.

Where cones through parts of the subject happen to meet, masks of few cameras leave room for more
than the subject, and colours of what is seen behind suit it. Such a part explains nothing: each
pixel that it covers is covered by the subject as well. A hand that has come off its arm covers
pixels of its own, however small it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import mcubes
import numpy as np
from scipy import ndimage

from .cameras import projected
from .mesh import Mesh, face_areas, face_volumes
from .outlines import Outline, drawn_distances

_NEAR = 1.5
"""Pixels around other parts in which a pixel may be theirs: outlines are not that exact."""
_LEAST = 3
"""Pixels of its own that a part must have in a mask to be needed there,"""
_SHARE = 0.25
"""and which part of all that it covers there."""
_BESIDE = 0.25
"""Cells around a surface that count as it: thinner parts have no centre of a cell inside."""


@dataclass(frozen=True)
class _Shadow:
    """What a part covers in a picture."""

    window: tuple[slice, slice]
    """Rows and columns around it."""
    covered: np.ndarray
    """(h, w) bool: the pixels that it covers there."""
    near: np.ndarray
    """(h, w) bool: these and those next to them."""


class _Picture:
    """What parts cover in a mask, while one after the other is left out."""

    def __init__(self, parts: Sequence[Mesh], outline: Outline) -> None:
        self._outline = outline
        self._shadows = [_shadow(part, outline) for part in parts]
        self._counts = np.zeros(outline.distances.shape, np.int32)  # of parts near to each pixel
        for shadow in self._shadows:
            self._counts[shadow.window] += shadow.near

    def needs(self, index: int) -> bool:
        """Whether a part covers some of the mask, or of what is in doubt, that is no other's."""
        shadow, outline = self._shadows[index], self._outline
        shown = outline.distances[shadow.window] < 0
        if outline.doubts is not None:
            shown |= outline.doubts[shadow.window] > 0
        if outline.unseen is not None:
            shown &= outline.unseen[shadow.window] == 0
        own = shadow.covered & shown
        alone = int((own & (self._counts[shadow.window] == shadow.near)).sum())
        return alone >= max(_LEAST, _SHARE * float(own.sum()))

    def leave_out(self, index: int) -> None:
        """Takes a part away."""
        shadow = self._shadows[index]
        self._counts[shadow.window] -= shadow.near


def needed_parts(
    parts: Sequence[Mesh],
    outlines: Sequence[Outline],
) -> np.ndarray:  # (n_parts,) bool
    """Returns which parts of a surface the masks need.

    The smallest first, parts are left out whose pixels in the masks others cover as well, but for
    one mask of four or more: what it shows alone may be anywhere before its camera. The largest is
    always needed, and without masks all are.

    Args:
        parts: Closed meshes that face outwards, world units.
        outlines: The masks, by camera.
    """
    needed = np.ones(len(parts), bool)
    if len(parts) < 2 or not outlines:
        return needed
    pictures = [_Picture(parts, outline) for outline in outlines]
    least = 2 if len(outlines) > 3 else 1
    for index in np.argsort([face_areas(part).sum() for part in parts])[:-1]:
        needed[index] = sum(picture.needs(index) for picture in pictures) >= least
        if not needed[index]:
            for picture in pictures:
                picture.leave_out(index)
    return needed


def distances_without_floaters(
    distances: np.ndarray,  # (G, G, G) signed, at cell centres, model units
    to_world: Callable[[np.ndarray], np.ndarray],
    outlines: Callable[[], Sequence[Outline]],
) -> np.ndarray:  # (G, G, G)
    """Returns a frame's distances, those around floaters raised to the way to what is left.

    A grid breaks what is thin: parts with less than two cells between them are one.

    Args:
        distances: As an `Occupancy` caches them.
        to_world: From (N, 3) model positions to world units.
        outlines: Gives the masks, by camera; not asked for where there is one part only.
    """
    cell, around = 1.0 / len(distances), np.ones((3, 3, 3))
    inside = distances < _BESIDE * cell
    labels = np.empty(distances.shape, np.int32)
    ndimage.label(ndimage.binary_dilation(inside, around), around, output=labels)
    labels[~inside] = 0
    windows = ndimage.find_objects(labels)
    if len(windows) < 2:
        return distances
    parts = [_surface(distances, labels == i, box) for i, box in enumerate(windows, 1)]
    bodies = [replace(part, vertices=to_world(part.vertices)) for part in parts]
    needed = needed_parts(bodies, outlines())
    if needed.all():
        return distances
    kept = np.append(False, needed)[labels]
    reach = ndimage.binary_dilation((labels > 0) & ~kept, around, iterations=2)
    raised = reach & np.logical_not(ndimage.binary_dilation(kept, around))
    away = np.asarray(ndimage.distance_transform_edt(~kept), distances.dtype) * cell
    return np.where(raised, np.maximum(distances, away), distances).astype(distances.dtype)


def _surface(distances: np.ndarray, inside: np.ndarray, window: tuple[slice, ...]) -> Mesh:
    """Returns the closed surface around a window's cells, model space, facing outwards."""
    cell = 1.0 / len(distances)
    beside = np.maximum(distances[window], 2 * _BESIDE * cell)
    values = np.where(inside[window], distances[window], beside)
    vertices, faces = mcubes.marching_cubes(np.pad(values, 1, constant_values=cell), _BESIDE * cell)
    first = np.array([axis.start for axis in window])
    mesh = Mesh((vertices - 0.5 + first) * cell, faces.astype(np.int64))
    return mesh if face_volumes(mesh).sum() > 0 else replace(mesh, faces=mesh.faces[:, ::-1])


def _shadow(part: Mesh, outline: Outline) -> _Shadow:
    """Draws a part in a picture, in a window of its own."""
    pixels, _ = projected(np.asarray(part.vertices, np.float64), outline.projection)
    height, width = outline.distances.shape
    room = int(np.ceil(_NEAR)) + 1
    low = np.clip(np.floor(pixels.min(0)).astype(int) - room, 0, (width, height))
    high = np.clip(np.ceil(pixels.max(0)).astype(int) + room, low, (width, height))
    window = slice(low[1], high[1]), slice(low[0], high[0])
    shape = int(high[1] - low[1]), int(high[0] - low[0])
    if 0 in shape:
        nothing = np.zeros(shape, bool)
        return _Shadow(window, nothing, nothing)
    distances = drawn_distances(pixels - low, part.faces, shape)
    return _Shadow(window, distances < 0, distances < _NEAR)
