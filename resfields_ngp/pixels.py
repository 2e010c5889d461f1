"""Draws training pixels of a few frames, makes rays on the fly; nothing caches per-pixel floats."""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch

from .datasets.base import Capture, View
from .model_space import ModelSpace
from .records import Batch, FrameSlices, Rays

_BORDER = 8
"""Pixels around the subject's bounding box that still count as near it."""
N_CANDIDATES = 3
"""Pixels of an image looked at for each that is drawn."""
BACKGROUND, SUBJECT, DOUBT = 0, 1, 2
"""What a pixel shows; in doubt is what teaches nothing."""


class PixelSource:
    """Random pixels of some views, with their rays in model space."""

    def __init__(
        self, capture: Capture, space: ModelSpace, views: tuple[View, ...], use_depth: bool = False
    ) -> None:
        self.views, self.space = views, space
        self.has_masks = all(view.masks is not None for view in views)
        self.has_depth = use_depth and all(view.depths is not None for view in views)
        self._model_per_depth = capture.depth_scale / space.scale
        self._untrusted = [view.untrusted for view in views]
        self._has_untrusted = any(each is not None for each in self._untrusted)
        self._boxes = [bounding_boxes(view) for view in views]
        self._matrices, self._centres = zip(
            *(ray_matrices(view, space) for view in views), strict=True
        )

    def draw(
        self,
        frames: tuple[int, ...],
        n_rays: int,
        foreground: float,
        generator: torch.Generator,
    ) -> Batch:
        """Draws about `n_rays` pixels, the same number for each frame and view.

        Args:
            frames: Distinct frames, in the order wanted.
            n_rays: Pixels in all.
            foreground: Part of the pixels drawn on the subject, where masks exist and it is large
                enough.
            generator: Source of randomness.
        """
        per_view = max(1, n_rays // (len(frames) * len(self.views)))
        parts = [
            self._draw_view(i, frame, per_view, foreground, generator)
            for frame in frames
            for i in range(len(self.views))
        ]
        origins, directions, rgbs, masks, depths, weights = (
            np.concatenate(column) for column in zip(*parts, strict=True)
        )
        slices = FrameSlices.even(frames, per_view * len(self.views))
        rays = Rays(torch.from_numpy(origins), torch.from_numpy(directions), slices)
        return Batch(
            rays,
            torch.from_numpy(rgbs),
            torch.from_numpy(masks) if self.has_masks else None,
            torch.from_numpy(depths) if self.has_depth else None,
            torch.from_numpy(weights) if self._has_untrusted else None,
        )

    def _draw_view(
        self, i: int, frame: int, count: int, foreground: float, generator: torch.Generator
    ):
        """Returns origins, directions, rgbs, masks, depths and weights of pixels of one image."""
        view, untrusted = self.views[i], self._untrusted[i]
        left, top, width, height = self._boxes[i][frame]
        is_choosy = self.has_masks or untrusted is not None
        n_candidates = N_CANDIDATES * count if is_choosy else count
        uniform = torch.rand((n_candidates, 2), generator=generator).numpy()
        columns = left + np.minimum((uniform[:, 0] * width).astype(np.int64), width - 1)
        rows = top + np.minimum((uniform[:, 1] * height).astype(np.int64), height - 1)
        masks = weights = np.ones(count, np.float32)
        if is_choosy:
            labels = _labels_at(view, untrusted, frame, rows, columns)
            inside, outside = ((labels == each).nonzero()[0] for each in (SUBJECT, BACKGROUND))
            n_inside = min(len(inside), max(round(foreground * count), count - len(outside)))
            # The others last: among so many candidates they are as good as never needed.
            ranked = inside[:n_inside], outside[: count - n_inside], (labels == DOUBT).nonzero()[0]
            chosen = np.concatenate(ranked)[:count]
            columns, rows, labels = columns[chosen], rows[chosen], labels[chosen]
            masks, weights = (labels == SUBJECT).astype(np.float32), weights * (labels != DOUBT)
        rgbs = view.images[frame, rows, columns].astype(np.float32) * (masks[:, None] / 255.0)
        depths = np.zeros(len(rows), np.float32)
        if self.has_depth and view.depths is not None:
            depths = view.depths[frame, rows, columns] * np.float32(self._model_per_depth) * masks
        pixels = np.stack([columns + 0.5, rows + 0.5, np.ones(len(rows))], axis=1).astype(
            np.float32
        )
        directions = pixels @ self._matrices[i][frame].T
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        origins = np.repeat(self._centres[i][frame][None], len(rows), axis=0)
        return origins, directions, rgbs, masks, depths.astype(np.float32), weights


def pixel_labels(view: View) -> np.ndarray | None:
    """Returns (n_frames, H, W) uint8 `SUBJECT`, `BACKGROUND` or `DOUBT`; None: all are subject.

    Without masks everything that is trusted counts as subject.
    """
    untrusted = view.untrusted
    if untrusted is None:
        return None if view.masks is None else view.masks.view(np.uint8)
    masks = ~untrusted if view.masks is None else view.masks
    return masks * np.uint8(SUBJECT) + (untrusted & ~masks) * np.uint8(DOUBT)


def _labels_at(
    view: View,
    untrusted: np.ndarray | None,  # (n_frames, H, W) bool
    frame: int,
    rows: np.ndarray,  # (N,)
    columns: np.ndarray,  # (N,)
) -> np.ndarray:  # (N,) uint8
    """Returns what `pixel_labels` says of some pixels of a frame, without making all of them."""
    at = frame, rows, columns
    bad = np.zeros(len(rows), bool) if untrusted is None else untrusted[at]
    masks = ~bad if view.masks is None else view.masks[at]
    return masks * np.uint8(SUBJECT) + (bad & ~masks) * np.uint8(DOUBT)


def outline_odds(views: tuple[View, ...], foreground: float) -> float:
    """Returns how much more densely pixels are drawn within the outline than around it.

    The geometric mean over images of the draws' density inside over that outside; 1 without masks.

    Args:
        views: Those that are drawn from.
        foreground: As for `PixelSource.draw`.
    """
    logs = []
    for view in views:
        if view.masks is None:
            return 1.0
        for frame, (left, top, width, height) in enumerate(bounding_boxes(view)):
            window = slice(top, top + height), slice(left, left + width)
            inside, unseen = float(view.masks[frame][window].mean()), view.unseen_at(frame)
            outside = 1.0 - inside - (0.0 if unseen is None else float(unseen[window].mean()))
            if inside > 0.0 and outside > 0.0:
                most, least = N_CANDIDATES * inside, 1.0 - N_CANDIDATES * outside
                share = min(most, max(foreground, least))
                share = min(max(share, 0.01), 0.99)
                logs.append(math.log(share / inside * outside / (1.0 - share)))
    return math.exp(sum(logs) / len(logs)) if logs else 1.0


def ray_matrices(view: View, space: ModelSpace) -> tuple[np.ndarray, np.ndarray]:
    """Returns (n_frames, 3, 3) matrices, pixel to direction, and (n_frames, 3) centres; model."""
    matrices, centres = [], []
    for frame in range(view.cameras.n_frames):
        model_from_camera = view.cameras.model_from_camera(frame, space)
        matrices.append(model_from_camera[:3, :3] @ np.linalg.inv(view.cameras.intrinsics[frame]))
        centres.append(model_from_camera[:3, 3])
    return np.stack(matrices).astype(np.float32), np.stack(centres).astype(np.float32)


def bounding_boxes(view: View) -> list[tuple[int, int, int, int]]:
    """Returns (left, top, width, height) of the subject in each image, with a border.

    Without a mask, or where it is empty, that is the whole image.
    """
    height, width = view.images.shape[1:3]
    boxes = []
    for frame in range(view.images.shape[0]):
        box = (0, 0, width, height)
        if view.masks is not None and view.masks[frame].any():
            x, y, w, h = cv2.boundingRect(view.masks[frame].astype(np.uint8))
            left, top = max(0, x - _BORDER), max(0, y - _BORDER)
            box = (
                left,
                top,
                min(width, x + w + _BORDER) - left,
                min(height, y + h + _BORDER) - top,
            )
        boxes.append(box)
    return boxes
