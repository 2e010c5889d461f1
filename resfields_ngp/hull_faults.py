"""Why a visual hull is empty: the usual mistakes are undone, one after another, until one helps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from .cameras import Cameras
from .carving import Silhouette, carve, make_silhouette
from .datasets.base import Capture, CaptureError, View

_RESOLUTION = 64
_FLIP_Y_AND_Z = np.diag([1.0, -1.0, -1.0, 1.0])


def normalised_bounds(capture: Capture) -> tuple[np.ndarray, np.ndarray]:
    """Returns the two corners (3,) of the capture's box, normalised space."""
    bounds = np.array([[-1.0] * 3, [1.0] * 3]) if capture.bounds is None else capture.bounds
    return np.asarray(bounds[0], np.float64), np.asarray(bounds[1], np.float64)


@dataclass(frozen=True)
class _Mistake:
    """Something that people get wrong, and how to undo it."""

    message: str
    mask: Callable[[np.ndarray], np.ndarray] = lambda mask: mask
    pose: Callable[[np.ndarray], np.ndarray] = lambda world_from_camera: world_from_camera
    needs_full_border: bool = False
    """Only considered where the masks' foreground fills the images' borders."""
    moves_box: bool = False
    """The box is placed where the masks' centres meet, and is as large as the masks say."""


_INVERTED_MASKS = _Mistake(
    "the masks look inverted (foreground 0): a mask is above 0 on the subject, 0 elsewhere",
    mask=np.logical_not,
    needs_full_border=True,
)
_INVERTED_POSES = _Mistake(
    "the camera poses look inverted (camera_from_world and world_from_camera mixed up): "
    "invert the matrices",
    pose=np.linalg.inv,
)
_MISTAKES = (
    _INVERTED_MASKS,
    _INVERTED_POSES,
    _Mistake(
        "the cameras look backwards (wrong handedness: OpenGL axes where OpenCV's right, down, "
        "forward are meant): negate the second and third column of the rotations",
        pose=lambda world_from_camera: world_from_camera @ _FLIP_Y_AND_Z,
    ),
    _Mistake(
        "the images look mirrored against the cameras (wrong handedness): flip them left to right",
        mask=np.fliplr,
    ),
    _Mistake(
        "the subject lies outside the normalised box: mend scale_mat or aabb (aabb.txt)",
        moves_box=True,
    ),
    # Where the box was placed by the cameras, as for a transforms.json, it is misplaced as they
    # are; and OpenGL's axes were turned after the wrong inversion.
    replace(_INVERTED_POSES, moves_box=True),
    replace(
        _INVERTED_POSES,
        pose=lambda world_from_camera: (
            _FLIP_Y_AND_Z @ np.linalg.inv(world_from_camera) @ _FLIP_Y_AND_Z
        ),
        moves_box=True,
    ),
)


def check_not_inverted(capture: Capture) -> None:
    """Raises `CaptureError` where the first frame's masks are holes in a full foreground."""
    seen = [_fills_border(view, 0) for view in capture.views if view.masks is not None]
    if seen and all(seen):
        number = capture.frame_numbers[0]
        raise CaptureError(f"{capture.name}: frame {number}: {_INVERTED_MASKS.message}")


def _fills_border(view: View, frame: int) -> bool:
    """Returns whether a mask fills the border of its image; what is unseen there goes with it."""
    assert view.masks is not None
    mask, unseen = view.masks[frame], view.unseen_at(frame)
    mask = mask if unseen is None else mask | unseen
    border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    return bool(border.mean() > 0.9 and 0.4 < mask.mean() < 1.0)


def explain_empty(capture: Capture, frame: int, closing: float = 0.0) -> str:
    """Returns one line that says why a frame's hull is empty: what, when undone, gives a hull.

    Args:
        capture: The capture, with masks.
        frame: Index of the frame among those used.
        closing: As in `HullConfig`.
    """
    head = f"{capture.name}: the visual hull of frame {capture.frame_numbers[frame]} is empty: "
    masks = {view.name: view.masks[frame] for view in capture.views if view.masks is not None}
    blank = ", ".join(name for name, mask in masks.items() if not mask.any())
    if blank:
        return f"{head}the mask of {blank} has no foreground: mend it or leave it out"
    masked = [view for view in capture.views if view.masks is not None]
    is_full = float(np.mean([_fills_border(view, frame) for view in masked])) > 0.5
    for mistake in _MISTAKES:
        if is_full or not mistake.needs_full_border:
            silhouettes = _undo(mistake, capture, frame, closing)
            if _gives_hull(capture, silhouettes, mistake.moves_box):
                return head + mistake.message
    silhouettes = _undo(_Mistake(""), capture, frame, closing)
    for index, name in enumerate(masks):
        others = silhouettes[:index] + silhouettes[index + 1 :]
        if len(others) > 1 and _gives_hull(capture, others, False):
            return f"{head}{name} disagrees with the other cameras: mend its mask or pose"
    return head + "the masks have no point in common: check that masks and cameras belong together"


def _undo(mistake: _Mistake, capture: Capture, frame: int, closing: float) -> list[Silhouette]:
    """Returns the frame's silhouettes as they would be without the mistake."""
    silhouettes = []
    for view in capture.views:
        if view.masks is not None:
            cameras = Cameras(
                view.cameras.intrinsics[frame : frame + 1],
                mistake.pose(view.cameras.world_from_camera[frame])[None],
                view.cameras.width,
                view.cameras.height,
            )
            mask, unseen = mistake.mask(view.masks[frame]), view.unseen_at(frame)
            # Of a mirrored image as well: lenses are much the same left and right.
            mask = np.ascontiguousarray(mask if unseen is None else mask & ~unseen)
            silhouettes.append(make_silhouette(mask, cameras, 0, closing, unseen=unseen))
    return silhouettes


def _gives_hull(capture: Capture, silhouettes: list[Silhouette], moves_box: bool) -> bool:
    """Returns whether the silhouettes' hull is there and covers the better part of every mask."""
    world_from_box = _seen_box(silhouettes) if moves_box else _given_box(capture)
    raw = carve(silhouettes, world_from_box, _RESOLUTION)
    cells = np.argwhere(raw < 0.5 * np.sqrt(3.0) / _RESOLUTION)
    if len(cells) == 0:
        return False
    points = (cells + 0.5) / _RESOLUTION @ world_from_box[:3, :3].T + world_from_box[:3, 3]
    size = np.cbrt(np.linalg.det(world_from_box[:3, :3])) / _RESOLUTION
    return all(_covers(silhouette, points, size) for silhouette in silhouettes)


def _given_box(capture: Capture) -> np.ndarray:
    """Returns the (4, 4) matrix from [0, 1]^3 to the cube around the capture's box, world."""
    low, high = normalised_bounds(capture)
    world_from_box = np.eye(4)
    world_from_box[:3, :3] *= (high - low).max()
    world_from_box[:3, 3] = (low + high - (high - low).max()) / 2
    return capture.world_from_normalised @ world_from_box


def _seen_box(silhouettes: list[Silhouette]) -> np.ndarray:
    """Returns the (4, 4) matrix from [0, 1]^3 to a cube where the rays through the masks' centres
    meet, twice as wide as the widest mask there."""
    centre = _meeting_point(silhouettes)
    widths = [
        abs(silhouette.projection[2] @ np.append(centre, 1.0))
        * np.ptp(np.argwhere(silhouette.shown), axis=0).max()
        / _focal_length(silhouette)
        for silhouette in silhouettes
    ]
    world_from_box = np.diag([*[2.0 * max(widths)] * 3, 1.0])
    world_from_box[:3, 3] = centre - max(widths)
    return world_from_box


def _focal_length(silhouette: Silhouette) -> float:
    """Returns the focal length, pixels."""
    return float(
        np.linalg.norm(np.cross(silhouette.projection[2, :3], silhouette.projection[0, :3]))
    )


def _covers(silhouette: Silhouette, points: np.ndarray, size: float) -> bool:
    """Returns whether cells of a size at world points (N, 3) hide the better part of a mask."""
    x, y, depths = silhouette.projection[:, :3] @ points.T + silhouette.projection[:, 3:]
    height, width = silhouette.slopes.shape
    empty = np.ones((height, width), np.uint8)
    ahead = depths > 0
    columns, rows = (np.round(axis[ahead] / depths[ahead]) for axis in (x, y))
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    if not inside.any():
        return silhouette.is_cut
    empty[rows[inside].astype(int), columns[inside].astype(int)] = 0
    reach = 1.0 + _focal_length(silhouette) * size / np.median(depths[ahead])
    near = cv2.distanceTransform(empty, cv2.DIST_L2, cv2.DIST_MASK_5) < reach
    return bool(near[silhouette.shown].mean() > 0.5)


def _meeting_point(silhouettes: list[Silhouette]) -> np.ndarray:
    """Returns the world point (3,) where the rays through the masks' centres (nearly) meet."""
    rows = []
    for silhouette in silhouettes:
        y, x = np.argwhere(silhouette.shown).mean(axis=0) + 0.5
        rows += [
            silhouette.projection[0] - x * silhouette.projection[2],
            silhouette.projection[1] - y * silhouette.projection[2],
        ]
    system = np.stack(rows)
    return np.linalg.lstsq(system[:, :3], -system[:, 3], rcond=None)[0]
