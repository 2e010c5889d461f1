"""Outlines of masks in their cameras, and how far a mesh's own outlines are from them.

A mask is made of whole pixels: tips lose what covers less than half of one, and slanted edges are
stairs. A mesh is therefore not compared with the mask's outline but drawn as a mask itself, and the
two masks are compared: where both show the same shape they agree to the last stair.

Vocabulary
    rim         where a surface turns away from a camera: between vertices that face it and
                vertices that do not.
    gaps        how far outside its own drawn outline the mask's lies, at points of the rim, along
                the surface's normal in the picture; pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from .cameras import projected
from .carving import dilated, mask_distances
from .datasets.base import CaptureConfig, CaptureError, View
from .hull import HullConfig, with_doubts
from .rasterising import image_values

FINER = 3
"""A mesh is drawn with so many samples a pixel each way; half of them make it part of the mask."""
_STEP = 0.5  # pixels between the places where an outline is looked for
_MARGIN = 2  # pixels within a mesh's core from which on small triangles need not be drawn
_HIDDEN = 1.5  # pixels from its own drawn outline beyond which a rim lies before other parts


@dataclass(frozen=True)
class Outline:
    """One camera's mask at one frame, as distances in the picture."""

    distances: np.ndarray
    """(H, W) float32 pixels to the mask's outline, negative on the subject."""
    projection: np.ndarray
    """(3, 4) float64 world to pixels."""
    doubts: np.ndarray | None = None
    """(H, W) uint8, above 0 where the mask may be wrong; None where all of it is trusted."""
    unseen: np.ndarray | None = None
    """(H, W) uint8, above 0 where the image shows nothing, and beside that; None where it is
    whole."""

    @property
    def centre(self) -> np.ndarray:
        """(3,) the camera's place, world units."""
        return -np.linalg.solve(self.projection[:, :3], self.projection[:, 3])


@dataclass(frozen=True)
class Rim:
    """M points of a mesh's rim in one camera."""

    edges: np.ndarray
    """(M, 2) the vertices of the edge that each lies on."""
    shares: np.ndarray
    """(M,) how far along its edge each lies, 0 to 1."""
    normals: np.ndarray
    """(M, 3) unit normals, world axes."""
    pixels: np.ndarray
    """(M, 2) places in the picture."""
    directions: np.ndarray
    """(M, 2) unit directions of the normals in the picture."""
    sizes: np.ndarray
    """(M,) what a pixel measures along the normals, world units."""

    def chosen(self, keep: np.ndarray) -> Rim:
        """Returns the points where `keep` (M,) is True."""
        parts = (self.edges, self.shares, self.normals, self.pixels, self.directions, self.sizes)
        return Rim(*(part[keep] for part in parts))


def mask_outlines(views: Sequence[View], frame: int, slack: float = 0.0) -> list[Outline]:
    """Returns the outlines of a frame's masks; views that have none, or an empty one, are left out.

    Args:
        views: The cameras.
        frame: Which of their frames.
        slack: Pixels by which outlines are moved outwards, as for `HullConfig.slack`.
    """
    found = []
    for view in views:
        if view.masks is None or not view.masks[frame].any():
            continue
        doubts = None if view.doubts is None else dilated(view.doubts[frame])
        unseen = view.unseen_at(frame)
        distances = mask_distances(view.masks[frame], unseen) - np.float32(slack)
        unseen = None if unseen is None else dilated(unseen)
        found.append(Outline(distances, view.cameras.projection(frame), doubts, unseen))
    return found


def stored_outlines(config: CaptureConfig, hull: HullConfig, number: int) -> list[Outline]:
    """Returns the outlines of a frame's masks, by its number, from the capture on disk.

    Raises:
        CaptureError: The capture is gone or damaged.
    """
    from .datasets import load_capture

    try:
        capture = load_capture(replace(config, frames=f"{number}:{number + 1}"))
    except (CaptureError, OSError) as error:
        raise CaptureError(
            f"{error}; meshes are fitted to its masks: bring it back,"
            " or pass --meshing.outline-reach 0"
        ) from error
    return mask_outlines(with_doubts(capture, hull).views, 0, hull.slack)


def find_rim(
    outline: Outline,
    vertices: np.ndarray,  # (V, 3) world
    normals: np.ndarray,  # (V, 3) unit, outward
    edges: np.ndarray,  # (E, 2)
) -> Rim:
    """Returns where a mesh's edges cross the rim in an outline's camera, hidden parts too."""
    from .backends.cpu.outlines import turning

    facing, chosen = turning(vertices, normals, edges, outline.centre)
    edges = edges[chosen]
    start, end = facing[edges[:, 0]], facing[edges[:, 1]]
    shares = start / (start - end)
    positions = _between(vertices, edges, shares)
    along = _between(normals, edges, shares)
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-12)
    matrix = outline.projection
    pixels, depths = projected(positions, matrix)
    moved = along @ matrix[:, :3].T  # of homogeneous pixels, for a unit along the normal
    motions = (moved[:, :2] - pixels * moved[:, 2:]) / depths[:, None]
    speeds = np.maximum(np.linalg.norm(motions, axis=1), 1e-12)
    rim = Rim(edges, shares, along, pixels, motions / speeds[:, None], 1 / speeds)
    return rim.chosen(depths > 1e-9)


def outline_gaps(
    outline: Outline,
    rim: Rim,
    own: np.ndarray,  # (H, W) from `drawn_distances`
    reach: float,
) -> np.ndarray:
    """Returns the gaps (M,) at a rim, NaN where the rim is hidden or no outline is within reach.

    Args:
        outline: The mask's.
        rim: Points of the mesh's rim.
        own: Distances to the mesh's own drawn outline.
        reach: Pixels up to which outlines are looked for.
    """
    mine = _crossings(own, rim, _HIDDEN)
    is_seen = np.isfinite(mine)
    seen = rim.chosen(is_seen)
    masks = _crossings(outline.distances, seen, reach + _HIDDEN)
    found = masks - mine[is_seen]
    for unknown in (outline.doubts, outline.unseen):
        if unknown is not None:
            places = seen.pixels + np.nan_to_num(masks)[:, None] * seen.directions
            found[image_values(unknown, places, cv2.INTER_NEAREST) > 0] = np.nan
    found[np.abs(found) > reach] = np.nan
    gaps = np.full(len(mine), np.nan)
    gaps[is_seen] = found
    return gaps


def drawn_distances(
    pixels: np.ndarray,  # (V, 2)
    faces: np.ndarray,  # (F, 3)
    shape: tuple[int, int],  # height, width
) -> np.ndarray:
    """Returns (H, W) float32 pixels to the outline of a closed mesh that is drawn as a mask."""
    from .backends.cpu.outlines import draw

    core, deep = _cores(pixels, shape)
    seen = np.zeros((shape[0] * FINER, shape[1] * FINER), np.float32)
    draw(np.ascontiguousarray(pixels), np.ascontiguousarray(faces), deep, _MARGIN, seen)
    parts = cv2.resize(seen, (shape[1], shape[0]), interpolation=cv2.INTER_AREA)
    return mask_distances((parts >= 0.5) | (core > 0))


def _cores(pixels: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Returns what vertices at (V, 2) pixels cover by themselves, (H, W) uint8.

    First the pixels with vertices in or beside all of those within two pixels, which need no
    drawing; then those of them that are farther than `_MARGIN` from all others. Only dense meshes
    have any.
    """
    places = np.floor(pixels).astype(np.int64)
    inside = ((places >= 0) & (places < shape[::-1])).all(1)
    dots = np.zeros(shape, np.uint8)
    dots[places[inside, 1], places[inside, 0]] = 1
    closed = cv2.morphologyEx(dots, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    core = cv2.erode(closed, np.ones((5, 5), np.uint8), borderValue=0)
    return core, cv2.erode(core, np.ones((2 * _MARGIN + 1,) * 2, np.uint8), borderValue=0)


def _crossings(distances: np.ndarray, rim: Rim, reach: float) -> np.ndarray:
    """Returns (M,) pixels along a rim's directions to the nearest way out of a mask, else NaN."""
    from .backends.cpu.outlines import nearest_exits

    steps = np.arange(-np.ceil(reach / _STEP), np.ceil(reach / _STEP) + 1) * _STEP
    places = rim.pixels[:, None] + steps[:, None] * rim.directions[:, None]
    values = image_values(distances, places.reshape(-1, 2), cv2.INTER_LINEAR)
    return nearest_exits(values.reshape(len(rim.pixels), len(steps)), steps, reach)


def _between(values: np.ndarray, edges: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Returns what vertices' values (V, 3) are at places on edges, (M, 3)."""
    start, end = values[edges[:, 0]], values[edges[:, 1]]
    return start + (end - start) * shares[:, None]
