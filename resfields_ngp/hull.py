"""The visual hull of every frame: where model space lies, how far each of its cells is from it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from scipy import ndimage

from .carving import Silhouette, carve, close_mask, make_silhouette
from .datasets.base import Capture, CaptureError
from .hull_faults import check_not_inverted, explain_empty, normalised_bounds
from .model_space import ModelSpace
from .ranges import check_ranges
from .threads import in_threads

_PLACING_RESOLUTION = 64
_WORTH_FOLLOWING = 0.97  # a box less than 3 % smaller is not worth moving features about


@dataclass(frozen=True)
class HullConfig:
    """How masks carve space, before training."""

    resolution: int = 64
    """Cells per side of every frame's grid; 16 to 256."""
    margin: float = 0.04
    """Room between the hulls of all frames and each face of the box; fraction of the box's side, 0
    to 0.4."""
    stabilise: bool = True
    """Let model space follow the subject where that makes the box smaller."""
    smoothness: float = 10.0
    """How smooth in time the followed path is; 0 follows the centroid exactly, steady motion is
    never changed."""
    closing: float = 0.008
    """Gaps of masks up to twice this radius are closed; fraction of the image's longer side, 0 for
    perfect masks."""
    doubt_gaps: bool = False
    """Whether what `closing` fills is neither subject nor background: no pixel is drawn there. For
    masks that cut limbs off."""
    slack: float = 0.0
    """Pixels by which the masks' outlines, hence the distances' zero, move outwards: for masks that
    are cut too small, or cameras a pixel off."""
    dilation: float = 1.0
    """Pixels by which the occupied cells overshoot the hull."""
    tolerance: int = 0
    """Views that may disagree before a cell is carved away; above 0 only for masks with large
    holes."""
    min_component: float = 0.02
    """Separate parts of the hull below this fraction of the largest part's cells are dropped; 0
    keeps all."""

    def __post_init__(self) -> None:
        check_ranges(
            "hull",
            self,
            resolution=(16, 256),
            margin=(0.0, 0.4),
            smoothness=(0.0, math.inf),
            closing=(0.0, 0.2),
            slack=(-100.0, 100.0),
            dilation=(0.0, math.inf),
            tolerance=(0, math.inf),
            min_component=(0.0, 1.0),
        )


@dataclass(frozen=True)
class Hull:
    """The subject's visual hull at every frame, on a grid in model space."""

    space: ModelSpace
    """Where model space lies, frame by frame."""
    distances: np.ndarray
    """(n_frames, G, G, G) float32 signed distance to the hull at the cell centres ``(i + 0.5) / G``
    of [0, 1]^3, indexed [frame, x, y, z], model units, negative inside. Zero is the masks' own
    outline (moved by `HullConfig.slack`), not the dilated one. A part thinner than a cell may have
    no negative centre, but the centres around it stay below `margin`."""
    margin: float
    """Model units: half a cell's diagonal plus the dilation. Every point of the hull lies in a cell
    below it."""

    @property
    def resolution(self) -> int:
        """Cells per side, G."""
        return self.distances.shape[1]

    @property
    def occupied(self) -> np.ndarray:
        """(n_frames, G, G, G) bool: the cells that may hold the subject, thin parts too."""
        return self.distances < self.margin


def build_hull(capture: Capture, config: HullConfig) -> Hull:
    """Places model space around the subject and carves its hull at every frame.

    The box is a cube in normalised axes, as tight as the union over time of the (stabilised) hulls.

    Args:
        capture: The capture; one without masks gets `full_box`.
        config: How to carve.

    Raises:
        CaptureError: A frame's hull is empty, or the masks look inverted; the message says why.
    """
    if not capture.has_masks:
        return full_box(capture, config.resolution)
    check_not_inverted(capture)
    frames = range(capture.n_frames)
    placed = in_threads(partial(_place_frame, capture, config), frames)
    centroids, lows, highs = (np.stack(values) for values in zip(*placed, strict=True))
    space = _model_space(capture, centroids, lows, highs, config)
    carved = in_threads(partial(_carve_frame, capture, config, space), frames)
    distances = np.stack(list(carved))
    margin = _half_diagonal(config.resolution) + config.dilation * _pixel_size(capture, space)
    return Hull(space, distances, margin)


def full_box(capture: Capture, resolution: int = 64) -> Hull:
    """Returns the hull of a capture without masks: the whole box, inside everywhere, at rest."""
    low, high = normalised_bounds(capture)
    space = _cube_space(capture, low, high, np.zeros((capture.n_frames, 3)), 0.0)
    distances = np.full((capture.n_frames, *(resolution,) * 3), -0.5, np.float32)
    return Hull(space, distances, _half_diagonal(resolution))


def frame_silhouettes(capture: Capture, frame: int, config: HullConfig) -> list[Silhouette]:
    """Returns the repaired silhouettes at a frame of all training views that have masks."""
    return [
        make_silhouette(
            view.masks[frame],
            view.cameras,
            frame,
            config.closing,
            config.slack,
            view.unseen_at(frame),
        )
        for view in capture.views
        if view.masks is not None
    ]


def with_doubts(capture: Capture, config: HullConfig) -> Capture:
    """Returns the capture with what closing adds to its training masks marked as doubtful."""
    if not config.doubt_gaps or not capture.has_masks:
        return capture
    views = []
    for view in capture.views:
        assert view.masks is not None
        closed = [close_mask(mask, config.closing) & ~mask for mask in view.masks]
        views.append(replace(view, doubts=np.stack(closed)))
    return replace(capture, views=tuple(views))


def _place_frame(capture: Capture, config: HullConfig, frame: int) -> tuple[np.ndarray, ...]:
    """Returns centroid, low and high corner, (3,) normalised, of a hull: coarse, then closer."""
    silhouettes = frame_silhouettes(capture, frame, config)
    low, high = normalised_bounds(capture)
    side = float((high - low).max())
    low = (low + high - side) / 2
    centroid = low
    high = low + side
    for _ in range(2):
        box = capture.world_from_normalised @ _similarity(low, side)
        raw = carve(silhouettes, box, _PLACING_RESOLUTION, config.tolerance)
        kept = _kept_cells(raw, config.min_component)
        if not kept.any():
            raise CaptureError(explain_empty(capture, frame, config.closing))
        cell = side / _PLACING_RESOLUTION
        inner = kept & (raw < 0)
        inside = np.argwhere(inner if inner.any() else kept)
        centroid = low + (inside.mean(axis=0) + 0.5) * cell
        cells = np.argwhere(kept)
        high = low + (cells.max(axis=0) + 1) * cell
        low = low + cells.min(axis=0) * cell
        extent = low, high
        side = float((high - low).max())
        low = (low + high - side) / 2
    return centroid, *extent


def _carve_frame(capture: Capture, config: HullConfig, space: ModelSpace, frame: int) -> np.ndarray:
    """Returns (G, G, G) float32 signed distances to a frame's hull; see `Hull.distances`."""
    silhouettes = frame_silhouettes(capture, frame, config)
    box = space.world_from_frame(frame)
    raw = carve(silhouettes, box, config.resolution, config.tolerance)
    kept = _kept_cells(raw, config.min_component)
    if not kept.any():
        raise CaptureError(explain_empty(capture, frame, config.closing))
    return _true_distances(raw, kept)


def _model_space(
    capture: Capture,
    centroids: np.ndarray,  # (n_frames, 3)
    lows: np.ndarray,  # (n_frames, 3)
    highs: np.ndarray,  # (n_frames, 3)
    config: HullConfig,
) -> ModelSpace:
    """Returns the cube that holds all hulls; it follows the centroids where that pays."""
    still = np.zeros_like(centroids)
    # One view knows no depth: the centroid of its cone says more of the camera than of the subject.
    follows = config.stabilise and len(capture.views) > 1
    path = smooth_path(centroids, config.smoothness) if follows else still
    path = path - path.mean(axis=0)
    sides = [((highs - way).max(axis=0) - (lows - way).min(axis=0)).max() for way in (path, still)]
    if sides[0] > _WORTH_FOLLOWING * sides[1]:
        path = still
    low, high = (lows - path).min(axis=0), (highs - path).max(axis=0)
    return _cube_space(capture, low, high, path, config.margin)


def _cube_space(
    capture: Capture,
    low: np.ndarray,  # (3,) normalised
    high: np.ndarray,  # (3,) normalised
    path: np.ndarray,  # (n_frames, 3) normalised
    margin: float,
) -> ModelSpace:
    """Returns the model space of the cube around a box, `margin` of its side wider on each side."""
    side = float((high - low).max()) / (1 - 2 * margin)
    matrix = capture.world_from_normalised @ _similarity((low + high - side) / 2, side)
    return ModelSpace(matrix, path / side)


def _similarity(low: np.ndarray, side: float) -> np.ndarray:
    """Returns the (4, 4) matrix that takes [0, 1]^3 to the cube at corner `low`."""
    matrix = np.diag([side, side, side, 1.0])
    matrix[:3, 3] = low
    return matrix


def smooth_path(
    path: np.ndarray,  # (n, 3)
    smoothness: float,
) -> np.ndarray:
    """Returns the path (n, 3) near the given one with small second differences (Whittaker).

    Minimises ``|y - path|^2 + smoothness |y[i-1] - 2 y[i] + y[i+1]|^2``: steady motion passes
    unchanged, up to the ends, where a moving average would lag.
    """
    n = len(path)
    if n < 3:
        return path
    second = np.diff(np.eye(n), n=2, axis=0)
    return np.linalg.solve(np.eye(n) + smoothness * second.T @ second, path)


def _kept_cells(raw: np.ndarray, min_component: float) -> np.ndarray:
    """Returns the (G, G, G) cells that may hold some of the hull, less small separate parts."""
    candidates = raw < _half_diagonal(raw.shape[0])
    labels = np.empty(raw.shape, np.int32)
    ndimage.label(candidates, structure=np.ones((3, 3, 3)), output=labels)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return candidates & (sizes >= min_component * sizes.max())[labels]


def _true_distances(raw: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Returns signed distances (G, G, G) float32 that are right far from the hull as well.

    Within two cells of the kept cells the cones' own distance, which is smooth; beyond, where it
    may be too small and knows nothing of dropped parts, the distance by way of the nearest kept
    cell.
    """
    cell = 1.0 / raw.shape[0]
    steps, nearest = np.empty(raw.shape), np.empty((3, *raw.shape), np.int32)
    ndimage.distance_transform_edt(~kept, return_indices=True, distances=steps, indices=nearest)
    beyond = (steps * cell + raw[tuple(nearest)]).astype(np.float32)
    weight = np.clip((steps.astype(np.float32) - 2.0) / 2.0, 0.0, 1.0)
    return np.where(kept, raw, np.minimum(raw, beyond) * (1 - weight) + beyond * weight)


def _half_diagonal(resolution: int) -> float:
    """Returns half the diagonal of a cell, model units."""
    return 0.5 * float(np.sqrt(3.0)) / resolution


def _pixel_size(capture: Capture, space: ModelSpace) -> float:
    """Returns what a pixel measures at the first box's centre, model units, in the worst view."""
    centre = space.to_world(np.full((1, 3), 0.5), 0)
    sizes = [
        float(abs(view.cameras.project(centre, 0)[1][0])) / view.cameras.intrinsics[0, 0, 0]
        for view in capture.views
    ]
    return max(sizes) / space.scale
