"""Draws training pixels where a GPU computes: images lie there as uint8, nobody waits for it.

Vocabulary
    slab   all views' pixels of one frame, one view after the other, row by row.
    V, P   views, pixels of a slab.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .datasets.base import Capture, View
from .model_space import ModelSpace
from .pixels import (
    DOUBT,
    N_CANDIDATES,
    SUBJECT,
    bounding_boxes,
    pixel_labels,
    ray_matrices,
)
from .records import Batch, FrameSlices, Rays
from .transfers import on_device


class DevicePixels:
    """Random pixels of some views, with their rays in model space; as `PixelSource`, on a device.

    Captures too large for the device stay in pinned memory, and a step fetches its frames' slabs.
    """

    def __init__(
        self,
        capture: Capture,
        space: ModelSpace,
        views: tuple[View, ...],
        use_depth: bool,
        device: torch.device,
        budget: int,
    ) -> None:
        """Copies the images.

        Args:
            capture: What the views belong to.
            space: Where model space lies.
            views: Cameras to draw from.
            use_depth: Whether depth images are wanted.
            device: Where pixels are drawn.
            budget: Bytes that images may take there; more is streamed.
        """
        self.device = device
        self.n_views = len(views)
        self.has_masks = all(view.masks is not None for view in views)
        self.has_depth = use_depth and all(view.depths is not None for view in views)
        self._model_per_depth = capture.depth_scale / space.scale
        widths = [view.images.shape[2] for view in views]
        sizes = [view.images.shape[1] * view.images.shape[2] for view in views]
        self._widths = torch.tensor(widths, device=device)
        self._starts = torch.tensor([0, *np.cumsum(sizes)[:-1]], device=device)
        boxes = np.stack([bounding_boxes(view) for view in views], axis=1)  # (frames, V, 4)
        self._boxes = torch.from_numpy(boxes).to(device)
        matrices, centres = zip(*(ray_matrices(view, space) for view in views), strict=True)
        self._matrices = torch.from_numpy(np.stack(matrices, axis=1)).to(device)
        self._centres = torch.from_numpy(np.stack(centres, axis=1)).to(device)
        images = _slabs([view.images for view in views], np.uint8)
        self._has_untrusted = any(view.untrusted is not None for view in views)
        is_choosy = self.has_masks or self._has_untrusted
        labels = _slabs([_labels(view) for view in views], np.uint8) if is_choosy else None
        depths = _slabs([view.depths for view in views], np.int32) if self.has_depth else None
        slabs = [slab for slab in (images, labels, depths) if slab is not None]
        self.is_resident = sum(slab.nbytes for slab in slabs) <= budget
        self._images = self._placed(images)
        self._labels = None if labels is None else self._placed(labels)
        self._depths = None if depths is None else self._placed(depths)

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
            generator: Source of randomness, on the device.
        """
        count = max(1, n_rays // (len(frames) * self.n_views))
        at = on_device(frames, self.device)
        n_candidates = count if self._labels is None else N_CANDIDATES * count
        shape = (len(frames), self.n_views, n_candidates, 2)
        uniform = torch.rand(shape, generator=generator, device=self.device)
        boxes = self._boxes[at][:, :, None]  # (T, V, 1, 4): left, top, width, height
        offsets = torch.minimum((uniform * boxes[..., 2:]).long(), boxes[..., 2:] - 1)
        pixels = boxes[..., :2] + offsets  # (T, V, candidates, 2): column, row
        places = self._places(pixels)
        on_subject = torch.ones_like(places, dtype=torch.float32)
        weights = None
        if self._labels is not None:
            labels = self._looked_up(self._labels, frames, places)[..., 0]
            chosen = _chosen(labels == SUBJECT, labels == DOUBT, count, foreground)
            places, labels = places.gather(2, chosen), labels.gather(2, chosen)
            on_subject = (labels == SUBJECT).float()
            weights = (labels != DOUBT).float().flatten() if self._has_untrusted else None
            pixels = pixels.gather(2, chosen[..., None].expand(-1, -1, -1, 2))
        colours = self._looked_up(self._images, frames, places)
        rgbs = colours.float() * (on_subject[..., None] / 255.0)
        measured = None
        if self._depths is not None:
            depths = self._looked_up(self._depths, frames, places)[..., 0]
            measured = depths * self._model_per_depth * on_subject
        rays = self._rays(pixels, at, frames)
        return Batch(
            rays,
            rgbs.reshape(-1, 3),
            on_subject.flatten() if self.has_masks else None,
            None if measured is None else measured.flatten(),
            weights,
        )

    def _rays(self, pixels: Tensor, at: Tensor, frames: tuple[int, ...]) -> Rays:
        """Returns the rays through the middles of pixels (T, V, count, 2)."""
        ones = torch.ones_like(pixels[..., :1], dtype=torch.float32)
        points = torch.cat([pixels + 0.5, ones], dim=3)
        directions = torch.nn.functional.normalize(points @ self._matrices[at].mT, dim=3)
        origins = self._centres[at][:, :, None].expand_as(directions)
        each = pixels.shape[1] * pixels.shape[2]
        slices = FrameSlices.even(frames, each)
        return Rays(origins.reshape(-1, 3), directions.reshape(-1, 3), slices)

    def _places(self, pixels: Tensor) -> Tensor:
        """Returns (T, V, count) where pixels lie in their frame's slab."""
        starts, widths = self._starts[None, :, None], self._widths[None, :, None]
        return starts + pixels[..., 1] * widths + pixels[..., 0]

    def _placed(self, slab: Tensor) -> Tensor:
        if self.is_resident:
            return slab.to(self.device)
        return slab.pin_memory() if self.device.type == "cuda" else slab

    def _looked_up(
        self,
        slabs: Tensor,  # (n_frames, P, C)
        frames: tuple[int, ...],
        places: Tensor,  # (T, V, count)
    ) -> Tensor:  # (T, V, count, C)
        """Looks pixels up in the frames' slabs."""
        if self.is_resident:
            begins = on_device(frames, self.device) * slabs.shape[1]
            return slabs.flatten(0, 1)[begins[:, None, None] + places]
        fetched = self._fetched(slabs, frames)
        rows = places.flatten(1)[..., None].expand(-1, -1, slabs.shape[2])
        return fetched.gather(1, rows).view(*places.shape, slabs.shape[2])

    def _fetched(self, slab: Tensor, frames: tuple[int, ...]) -> Tensor:
        """Returns (T, P, C) the frames' slabs, copied to the device."""
        fetched = torch.empty((len(frames), *slab.shape[1:]), dtype=slab.dtype, device=self.device)
        for i, frame in enumerate(frames):
            fetched[i].copy_(slab[frame], non_blocking=True)
        return fetched


def _labels(view: View) -> np.ndarray:
    """Returns what `pixel_labels` does, (n_frames, H, W), where all are subject as well."""
    labels = pixel_labels(view)
    return np.full(view.images.shape[:3], SUBJECT, np.uint8) if labels is None else labels


def _slabs(footage: list[np.ndarray | None], kind: type) -> Tensor:
    """Returns (n_frames, P, C) of footage (n_frames, H, W[, C]) of each view."""
    parts = []
    for images in footage:
        assert images is not None
        n_frames, height, width = images.shape[:3]
        parts.append(np.asarray(images, kind).reshape(n_frames, height * width, -1))
    return torch.from_numpy(np.concatenate(parts, axis=1))


def _chosen(
    on_subject: Tensor,  # (T, V, candidates) bool
    in_doubt: Tensor,  # (T, V, candidates) bool, elsewhere
    count: int,
    foreground: float,
) -> Tensor:  # (T, V, count) int64
    """Returns which candidates to take: of the subject the share wanted, as far as there are any.

    All sizes are known beforehand, so nobody waits for the device: those taken sort to the front.
    Those in doubt are taken only where nothing else is left.
    """
    on_background = ~(on_subject | in_doubt)
    inside_ranks = on_subject.cumsum(2)
    outside_ranks = on_background.cumsum(2)
    n_inside, n_outside = inside_ranks[..., -1:], outside_ranks[..., -1:]
    wanted = (count - n_outside).clamp(min=round(foreground * count))
    n_taken = torch.minimum(n_inside, wanted)
    is_taken = on_subject & (inside_ranks <= n_taken)
    is_taken |= on_background & (outside_ranks <= count - n_taken)
    order = torch.sort((~is_taken).to(torch.uint8) + in_doubt, dim=2, stable=True).indices
    return order[..., :count]
