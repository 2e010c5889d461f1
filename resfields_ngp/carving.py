"""Carving: one frame's masks -> signed distances to the intersection of their viewing cones.

Vocabulary
    box         any cube [0, 1]^3 given by a similarity ``world_from_box``; distances are in its
                units.
    slopes      a mask's signed distance as a tangent: times the depth it is a length. Negative on
                the subject.
    unknown     what a view says of a point it cannot judge: minus infinity, the neutral element of
                the maximum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from .cameras import Cameras

FAR = np.float32(2.0)
"""Distance, box units, given to points that no view sees: they are outside."""
_UNKNOWN = np.float32(-np.inf)
_WIDEST = 32000  # what remap fills has sides shorter than 32768


@dataclass(frozen=True)
class Silhouette:
    """One view's mask at one frame, as a field that can be looked up anywhere in space."""

    slopes: np.ndarray
    """(H, W) float32 signed distance to the outline over the depth, negative on the subject."""
    projection: np.ndarray
    """(3, 4) float64 world to pixels."""
    tangent: float
    """What a pixel measures at depth one, at its smallest: in the image's corners."""
    is_cut: bool
    """True where the mask reaches the border of what is seen (or is empty): what lies beyond it is
    then unknown. A subject that is wholly in view leaves nothing beyond it."""
    unseen: np.ndarray | None = None
    """(H, W) uint8, above 0 where the image shows nothing, which counts as beyond its border; None
    where all of it is seen."""

    @property
    def shown(self) -> np.ndarray:
        """(H, W) bool, True on the subject as far as the image shows it."""
        on_subject = self.slopes < 0
        return on_subject if self.unseen is None else on_subject & (self.unseen == 0)

    def distances(
        self,
        homogeneous: Sequence[np.ndarray],  # x * depth, y * depth, depth: each (A, B...) float32
    ) -> np.ndarray:
        """Returns the signed distances (A, B...) to the view's cone, world units, or `unknown`."""
        height, width = self.slopes.shape
        shape, depths = homogeneous[2].shape, homogeneous[2]
        is_ahead = depths > 1e-6
        inverse = 1.0 / np.where(is_ahead, depths, np.float32(1.0))
        # remap wants index coordinates (centres at 0), finite, in two axes shorter than 32768.
        x = (homogeneous[0] * inverse - 0.5).reshape(shape[0], -1)
        y = (homogeneous[1] * inverse - 0.5).reshape(shape[0], -1)
        columns, rows = np.clip(x, -2, width + 1), np.clip(y, -2, height + 1)
        sampled = _sampled(self.slopes, columns, rows)
        # Far beside the image the border's own distance says little, above all at small depths.
        beside = self.tangent * np.hypot(x - columns, y - rows)
        sampled = np.where(beside > 0, np.hypot(sampled, beside), sampled)
        is_known = is_ahead
        if self.is_cut:
            inside = (columns >= -0.5) & (columns <= width - 0.5)
            inside &= (rows >= -0.5) & (rows <= height - 0.5)
            if self.unseen is not None:
                inside &= _sampled(self.unseen, columns, rows, cv2.INTER_NEAREST) == 0
            is_known = is_ahead & inside.reshape(shape)
        return np.where(is_known, sampled.reshape(shape) * depths, _UNKNOWN)


def _sampled(
    image: np.ndarray,  # (H, W)
    columns: np.ndarray,  # (A, B) float32
    rows: np.ndarray,  # (A, B) float32
    kind: int = cv2.INTER_LINEAR,
) -> np.ndarray:  # (A, B)
    """Looks an image up at places given as indices, beyond its border at the nearest pixel."""
    replicate, strips = cv2.BORDER_REPLICATE, range(0, columns.shape[1], _WIDEST)
    parts = [(columns[:, at : at + _WIDEST], rows[:, at : at + _WIDEST]) for at in strips]
    found = [cv2.remap(image, x, y, kind, borderMode=replicate) for x, y in parts]
    return np.concatenate(found, axis=1)


def make_silhouette(
    mask: np.ndarray,  # (H, W) bool
    cameras: Cameras,
    frame: int,
    closing: float = 0.0,
    slack: float = 0.0,
    unseen: np.ndarray | None = None,  # (H, W) bool
) -> Silhouette:
    """Returns the silhouette of a mask.

    Args:
        mask: True on the subject.
        cameras: The view's cameras.
        frame: Which of them took the mask.
        closing: Gaps and holes up to twice this radius are closed first; a fraction of the image's
            longer side.
        slack: Pixels by which the outline is then moved outwards.
        unseen: Where the image shows nothing; None where all of it is seen.
    """
    pixels = mask_distances(close_mask(mask, closing), unseen) - np.float32(slack)
    tangents = _tangents_per_pixel(cameras, frame)
    return Silhouette(
        slopes=pixels * tangents,
        projection=cameras.projection(frame),
        tangent=float(tangents.min()),
        is_cut=touches_border(mask, unseen) or not mask.any(),
        unseen=None if unseen is None else unseen.astype(np.uint8),
    )


def mask_distances(
    mask: np.ndarray,  # (H, W) bool
    unseen: np.ndarray | None = None,  # (H, W) bool
) -> np.ndarray:
    """Returns (H, W) float32 pixels to the outline of a mask, negative on the subject.

    Where it meets what is unseen there is no outline, as there is none at the picture's border;
    unseen pixels themselves go with what is nearest, subject or background.
    """
    solid = np.array(mask, np.uint8)
    empty = 1 - solid
    if unseen is not None:
        solid[unseen], empty[unseen] = 0, 0
    # Half a pixel off, so that zero lies on the edge between pixels and not on either's centre.
    outer = cv2.distanceTransform(1 - solid, cv2.DIST_L2, cv2.DIST_MASK_5)
    inner = cv2.distanceTransform(1 - empty, cv2.DIST_L2, cv2.DIST_MASK_5)
    return np.where(outer < inner, 0.5 - inner, outer - 0.5).astype(np.float32)


def close_mask(
    mask: np.ndarray,  # (H, W) bool
    closing: float,
) -> np.ndarray:
    """Returns the mask (H, W), closed by a disc: `closing` is its radius over the longer side."""
    mask = np.ascontiguousarray(mask)
    radius = round(closing * max(mask.shape))
    if radius < 1:
        return mask
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    # Padded by itself: else the closing would fill every corner between subject and border.
    padded = cv2.copyMakeBorder(
        mask.view(np.uint8), *(radius,) * 4, borderType=cv2.BORDER_CONSTANT, value=0
    )
    closed = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, disc)
    return np.ascontiguousarray(closed[radius:-radius, radius:-radius]).view(bool)


def touches_border(
    mask: np.ndarray,  # (H, W) bool
    unseen: np.ndarray | None = None,  # (H, W) bool
) -> bool:
    """Returns whether any pixel on the border of the image, or of what it shows, is the subject."""
    if unseen is not None and (mask & (dilated(unseen) > 0)).any():
        return True
    return bool(mask[[0, -1]].any() or mask[:, [0, -1]].any())


def dilated(
    mask: np.ndarray,  # (H, W) bool
) -> np.ndarray:
    """Returns (H, W) uint8, 1 on a mask and on the pixels next to it, corners included."""
    return cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8))


def _tangents_per_pixel(cameras: Cameras, frame: int) -> np.ndarray:
    """Returns (H, W) what a pixel measures at depth one across the line of sight, at its smallest.

    The distance from a point to the plane through camera and outline is a pixel's width times the
    cosine of the ray's angle for an outline around the axis, a little more for others: taking the
    smaller never cuts too much.
    """
    matrix = cameras.intrinsics[frame]
    across = (np.arange(cameras.width) + 0.5 - matrix[0, 2]) / matrix[0, 0]
    down = (np.arange(cameras.height) + 0.5 - matrix[1, 2]) / matrix[1, 1]
    cosines = 1.0 / np.sqrt(1.0 + across[None, :] ** 2 + down[:, None] ** 2)
    return (cosines / max(matrix[0, 0], matrix[1, 1])).astype(np.float32)


def carve(
    silhouettes: Sequence[Silhouette],
    world_from_box: np.ndarray,  # (4, 4) similarity
    resolution: int,
    tolerance: int = 0,
) -> np.ndarray:
    """Returns the signed distances to the visual hull at the centres of a box's cells.

    The hull is the intersection of the views' cones, so the distance is the greatest of theirs:
    exact inside and beside smooth parts, too small outside of an edge where two cones meet.

    Args:
        silhouettes: One per view.
        world_from_box: Where the box lies.
        resolution: Cells per side.
        tolerance: How many views may disagree before a point is carved away; one that sees it must
            agree.

    Returns:
        (resolution,) * 3 float32 at ``(i + 0.5) / resolution``, indexed [x, y, z], box units,
        negative inside; `FAR` where no view sees.
    """
    centres = (np.arange(resolution, dtype=np.float64) + 0.5) / resolution
    scale = np.cbrt(np.linalg.det(world_from_box[:3, :3]))
    views = []
    for silhouette in silhouettes:
        matrix = silhouette.projection @ world_from_box
        views.append(silhouette.distances(_project_grid(matrix, centres)))
    return np.minimum(intersect(views, tolerance) / np.float32(scale), FAR)


def _project_grid(
    matrix: np.ndarray,  # (3, 4)
    centres: np.ndarray,  # (G,)
) -> list[np.ndarray]:
    """Returns the homogeneous pixels, three (G, G, G) float32, of a grid: each a sum of axes."""
    x, y, z = (matrix[:, axis, None] * centres for axis in range(3))
    x = (x + matrix[:, 3, None]).astype(np.float32)
    y, z = y.astype(np.float32), z.astype(np.float32)
    return [x[k][:, None, None] + (y[k][:, None] + z[k][None, :]) for k in range(3)]


def intersect(views: Sequence[np.ndarray], tolerance: int = 0) -> np.ndarray:
    """Returns the distance to an intersection: the views' greatest, infinite if none knows.

    Args:
        views: Signed distances of one shape, `unknown` where a view cannot tell.
        tolerance: How many of the greatest are passed over; never the last that knows.
    """
    if tolerance < 1 or len(views) < 2:
        worst = np.maximum.reduce(list(views))
    else:
        ordered = np.sort(np.stack(views), axis=0)[::-1]
        n_known = np.isfinite(ordered).sum(axis=0)
        index = np.clip(np.minimum(tolerance, n_known - 1), 0, None)
        worst = np.take_along_axis(ordered, index[None], axis=0)[0]
    return np.where(np.isneginf(worst), np.float32(np.inf), worst)
