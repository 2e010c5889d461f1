"""A look at a capture before any training: sizes, memory, whether masks and cameras agree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .carving import Silhouette, intersect
from .datasets.base import Capture, View
from .hull import Hull, HullConfig, build_hull, frame_silhouettes
from .spans import spans
from .threads import in_threads

_GOOD_COVERAGE = 0.9
_FAR_OFF = 2.0  # times nearer or farther than the box, from which depths cannot be the subject's
_N_STEPS = 256
_BYTES_PER_PARAMETER = 16  # float32 value, gradient and Adam's two moments


@dataclass(frozen=True)
class ViewReport:
    """What was found of one camera."""

    name: str
    """Folder or camera name."""
    width: int
    """Pixels across."""
    height: int
    """Pixels down."""
    n_images: int
    """Images used."""
    n_bytes: int
    """Images, masks and depths in memory."""
    foreground: float | None
    """Mean part of the image on the subject; None without masks."""
    coverage: float | None
    """Mean part of masks that lies in the other views' hull; None where there are none."""
    worst_coverage: float | None
    """The least of that over the frames."""
    worst_frame: int | None
    """The frame number where it is least."""
    empty_masks: tuple[int, ...]
    """Numbers of the frames whose mask is empty."""


@dataclass(frozen=True)
class Inspection:
    """What was found of a capture."""

    name: str
    """The capture's folder."""
    frame_numbers: tuple[int, ...]
    """The frames used."""
    views: tuple[ViewReport, ...]
    """Training cameras, then the held-out one."""
    test_camera: str | None
    """The held-out camera's name."""
    image_bytes: int
    """Images, masks and depths of all cameras in memory."""
    hull_bytes: int
    """The per-frame grids."""
    model_bytes: int
    """Parameters with gradients and optimiser state; 0 where not asked for."""
    box_side: float
    """Side of the subject's box (model space), world units."""
    travel: float
    """How far model space follows the subject from end to end, world units; 0 at rest."""
    hull: Hull
    """The hull."""
    warnings: tuple[str, ...]
    """What deserves a look, one sentence each; those of loading first."""

    def lines(self) -> list[str]:
        """Returns the report as plain lines, for a terminal without tables."""
        first, last = self.frame_numbers[0], self.frame_numbers[-1]
        megabytes = (self.image_bytes / 1e6, self.hull_bytes / 1e6, self.model_bytes / 1e6)
        return [
            f"{self.name}: {_count(len(self.frame_numbers), 'frame')} ({first} to {last}), "
            f"{_count(len(self.views), 'camera')}, held out: {self.test_camera or 'none'}",
            "memory: images {:.1f} MB, hull {:.1f} MB, model {:.1f} MB".format(*megabytes),
            f"box: {self.box_side:.4g} world units a side, "
            + (f"follows the subject over {self.travel:.4g}" if self.travel else "at rest"),
            *(_view_line(view) for view in self.views),
            *(f"warning: {warning}" for warning in self.warnings),
        ]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _view_line(view: ViewReport) -> str:
    line = f"{view.name}: {_count(view.n_images, 'image')}, {view.width} x {view.height}"
    if view.foreground is not None:
        line += f", {view.foreground:.1%} foreground"
    if view.coverage is not None and view.worst_coverage is not None:
        line += (
            f", {view.coverage:.1%} of the mask in the others' hull "
            f"(worst {view.worst_coverage:.1%}, frame {view.worst_frame})"
        )
    if view.empty_masks:
        line += f", no subject in frames {spans(view.empty_masks)}"
    return line


def inspect_capture(capture: Capture, config: HullConfig, n_parameters: int = 0) -> Inspection:
    """Carves the capture's hull and reports what training would meet.

    Args:
        capture: The capture.
        config: How to carve.
        n_parameters: Of the model that is to be trained, for the memory estimate.

    Raises:
        CaptureError: The hull of a frame is empty; the message names the frame and the reason.
    """
    hull = build_hull(capture, config)
    coverage = mask_coverage(capture, hull)
    reports = tuple(_report(capture, view, coverage.get(view.name)) for view in capture.all_views)
    return Inspection(
        name=capture.name,
        frame_numbers=capture.frame_numbers,
        views=reports,
        test_camera=None if capture.test_view is None else capture.test_view.name,
        image_bytes=sum(report.n_bytes for report in reports),
        hull_bytes=hull.distances.nbytes,
        model_bytes=n_parameters * _BYTES_PER_PARAMETER,
        box_side=hull.space.scale,
        travel=hull.space.scale * float(np.linalg.norm(np.ptp(hull.space.offsets, axis=0))),
        hull=hull,
        warnings=(*capture.warnings, *_hull_warnings(capture, hull, reports)),
    )


def _report(capture: Capture, view: View, coverage: np.ndarray | None) -> ViewReport:
    arrays = (view.images, view.masks, view.depths)
    numbers = capture.frame_numbers
    if coverage is not None and np.isnan(coverage).all():
        coverage = None
    return ViewReport(
        name=view.name,
        width=view.cameras.width,
        height=view.cameras.height,
        n_images=len(view.images),
        n_bytes=sum(array.nbytes for array in arrays if array is not None),
        foreground=None if view.masks is None else float(view.masks.mean()),
        coverage=None if coverage is None else float(np.nanmean(coverage)),
        worst_coverage=None if coverage is None else float(np.nanmin(coverage)),
        worst_frame=None if coverage is None else numbers[int(np.nanargmin(coverage))],
        empty_masks=without_subject(view, numbers),
    )


def without_subject(view: View, numbers: Sequence[int]) -> tuple[int, ...]:
    """Returns the numbers of frames of which a view's mask is empty."""
    if view.masks is None:
        return ()
    return tuple(number for number, mask in zip(numbers, view.masks, strict=True) if not mask.any())


def _hull_warnings(capture: Capture, hull: Hull, reports: Sequence[ViewReport]) -> list[str]:
    """Returns a sentence for each thing that would make a poor reconstruction."""
    found = []
    if not capture.has_masks:
        found.append(
            "no masks: the whole box is fitted, which takes longer and more views; "
            "--head nerf suits that best"
        )
    for view in reports:
        if view.coverage is not None and view.coverage < _GOOD_COVERAGE:
            found.append(
                f"{view.name}: only {view.coverage:.0%} of its mask lies in the others' hull: "
                "check its masks and poses, or raise hull.closing, hull.slack or hull.tolerance"
            )
    border = np.ones(hull.distances.shape[1:], bool)
    border[1:-1, 1:-1, 1:-1] = False
    if capture.has_masks and (hull.distances[:, border] < 0).any():
        found.append("the hull reaches the faces of its box: scale_mat or aabb may be too tight")
    return found + _depth_warnings(capture, hull)


def _depth_warnings(capture: Capture, hull: Hull) -> list[str]:
    """Returns a sentence where depth images put the subject far before or behind its box."""
    odd = []
    for view in capture.views:
        if view.masks is None or view.depths is None:
            continue
        known = view.depths[view.masks & (view.depths > 0)]
        frames = range(capture.n_frames)
        near, far = np.array([_box_reach(view, hull, frame) for frame in frames]).T
        reach = float(near.min()), float(far.max())
        distance = capture.depth_scale * float(np.median(known)) if len(known) else reach[1]
        if not reach[0] / _FAR_OFF <= distance <= reach[1] * _FAR_OFF:
            odd.append((view.name, distance, *reach))
    if not odd:
        return []
    name, distance, nearest, farthest = odd[0]
    others = f", as those of {len(odd) - 1} other cameras" if len(odd) > 1 else ""
    power = round(math.log10((nearest + farthest) / 2 / distance))
    fitting = f"; {capture.depth_scale * 10.0**power:g} would fit" if power else ""
    return [
        f"{name}: its depth images put the subject {distance:.3g} world units away{others}; its "
        f"box is {nearest:.3g} to {farthest:.3g} away: check capture.depth_scale "
        f"(it is {capture.depth_scale:g}{fitting}) and the cameras"
    ]


def _box_reach(view: View, hull: Hull, frame: int) -> tuple[float, float]:
    """Returns how far the nearest and the farthest point of the subject's box are, world units."""
    eye = hull.space.to_model(view.cameras.world_from_camera[frame][None, :3, 3], frame)[0]
    nearest = np.linalg.norm(eye - np.clip(eye, 0, 1))
    farthest = np.linalg.norm(np.maximum(np.abs(eye), np.abs(1 - eye)))
    return float(nearest) * hull.space.scale, float(farthest) * hull.space.scale


def mask_coverage(
    capture: Capture,
    hull: Hull,
    n_pixels: int = 500,
) -> dict[str, np.ndarray]:
    """Measures how well each mask agrees with the others: the part of it in the others' hull.

    Independent of the hull's grid: a pixel counts where its ray, inside the box, meets a point that
    lies on the masks (as they are, not closed) of all other views that see it, up to half a step of
    1/256 of the ray. Points of a mask that meet the others only outside the box do not count.

    Args:
        capture: The capture.
        hull: Its hull; only its model space is used.
        n_pixels: Pixels of each mask that are looked at, evenly spread.

    Returns:
        For each training view's name, (n_frames,) fractions, NaN for an empty mask. Empty without
        masks or with one view only.
    """
    if not capture.has_masks or len(capture.views) < 2:
        return {}
    plain = HullConfig(closing=0.0, slack=0.0)

    def fractions(frame: int) -> list[float]:
        silhouettes = frame_silhouettes(capture, frame, plain)
        found = []
        for index, view in enumerate(capture.views):
            assert view.masks is not None, view.name
            pixels = _spread_pixels(view.masks[frame], n_pixels)
            origins, directions = view.cameras.rays(pixels, frame, hull.space)
            others = silhouettes[:index] + silhouettes[index + 1 :]
            box = hull.space.world_from_frame(frame)
            is_met = _met(others, box, origins, directions) if len(pixels) else [np.nan]
            found.append(float(np.mean(is_met)))
        return found

    columns = zip(*in_threads(fractions, range(capture.n_frames)), strict=True)
    return {view.name: np.array(each) for view, each in zip(capture.views, columns, strict=True)}


def _spread_pixels(mask: np.ndarray, n_pixels: int) -> np.ndarray:
    """Returns the centres (x, y), up to n_pixels (N, 2), of a mask's pixels."""
    rows, columns = np.nonzero(mask)
    chosen = np.linspace(0, len(rows) - 1, min(n_pixels, len(rows))).round().astype(int)
    return np.stack([columns[chosen], rows[chosen]], axis=1) + 0.5


def _met(
    silhouettes: Sequence[Silhouette],
    world_from_box: np.ndarray,  # (4, 4)
    origins: np.ndarray,  # (N, 3) model space
    directions: np.ndarray,  # (N, 3) unit
) -> np.ndarray:
    """Returns which rays (N,) meet the silhouettes' hull inside the box."""
    with np.errstate(divide="ignore", invalid="ignore"):
        walls = np.stack([-origins / directions, (1 - origins) / directions])
    enter = np.clip(np.nanmax(walls.min(axis=0), axis=1), 0.0, None)
    leave = np.maximum(np.nanmin(walls.max(axis=0), axis=1), enter)
    along = enter[:, None] + (leave - enter)[:, None] * np.linspace(0, 1, _N_STEPS)
    views = []
    for silhouette in silhouettes:
        matrix = silhouette.projection @ world_from_box
        starts, ways = origins @ matrix[:, :3].T + matrix[:, 3], directions @ matrix[:, :3].T
        points = starts.T[:, :, None] + ways.T[:, :, None] * along
        views.append(silhouette.distances(points.astype(np.float32)))
    half_steps = (
        0.5 * (leave - enter) / (_N_STEPS - 1) * np.cbrt(np.linalg.det(world_from_box[:3, :3]))
    )
    return (intersect(views).min(axis=1) < half_steps) & (leave > enter)
