"""What passes between stages: rays, packed samples, renderings, batches; all units, stated once.

Spaces
    world       the capture's own units (metres if known); whatever leaves the program is in it.
    normalised  the capture's unit sphere, [-1, 1]^3 (``scale_mat`` of the ResFields layout).
    model       [0, 1]^3, what encoders eat: a box around the subject that follows it from frame to
                frame.

Vocabulary
    frames      integer index of a moment in the fitted sequence, 0 .. n_frames - 1: the truth.
    times       the same in [0, 1], derived by `frame_time`.
    t_          distance along a ray, in model units. Never the clock.
    R, N, T     rays, packed samples, distinct frames in a batch.

Cameras are OpenCV: x right, y down, z forward; pixel centres at +0.5; column vectors;
``world_from_camera``. Colours are sRGB floats in [0, 1], ``uint8 / 255``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from .transfers import MovingFrames, on_device, sent


def frame_time(frame: int, n_frames: int) -> float:
    """Returns the time in [0, 1] of a frame: ``frame / (n_frames - 1)``, and 0 for a single frame.

    >>> frame_time(3, 4), frame_time(0, 1)
    (1.0, 0.0)
    """
    return frame / (n_frames - 1) if n_frames > 1 else 0.0


def between_frames(rows: Callable[[tuple[int, ...]], Tensor], frames: tuple[float, ...]) -> Tensor:
    """Returns (T, ...) rows of some frames: those of whole frames, and linear between them.

    Args:
        rows: From whole frames to a row each.
        frames: Frames up to the last one.
    """
    if isinstance(frames, MovingFrames):
        return rows(frames)
    low = tuple(math.floor(frame) for frame in frames)
    if all(frame == whole for frame, whole in zip(frames, low, strict=True)):
        return rows(low)
    fractions = torch.tensor([frame - whole for frame, whole in zip(frames, low, strict=True)])
    start, end = rows(low), rows(tuple(math.ceil(frame) for frame in frames))
    fractions = sent(fractions.to(start.dtype), start.device)
    return torch.lerp(start, end, fractions.view(-1, *[1] * (start.ndim - 1)))


def check_shape(name: str, tensor: Tensor | np.ndarray, shape: str) -> dict[str, int]:
    """Checks a tensor against a shape such as ``"N 3"`` and returns the sizes bound to the letters.

    Args:
        name: What the error calls the tensor.
        tensor: Anything with a ``shape``.
        shape: Axes separated by blanks; a number must match, a letter is bound on first sight.

    Raises:
        ValueError: The rank or a size differs.

    >>> check_shape("positions", torch.zeros(5, 3), "N 3")
    {'N': 5}
    """
    axes, found = shape.split(), tuple(tensor.shape)
    sizes: dict[str, int] = {}
    matches = len(axes) == len(found)
    for axis, size in zip(axes, found, strict=False):
        matches &= size == (int(axis) if axis.isdigit() else sizes.setdefault(axis, size))
    if not matches:
        raise ValueError(f"{name} has shape {found}; expected ({', '.join(axes)})")
    return sizes


@dataclass(frozen=True)
class FrameSlices:
    """Which rows of a batch belong to which frame: ``offsets[i]:offsets[i+1]`` to ``frames[i]``."""

    frames: tuple[float, ...]
    """The T distinct frames, in the order of their rows; whole, but where a video is sampled
    between its frames."""
    offsets: tuple[int, ...]
    """T + 1 ascending row numbers, from 0 to the number of rows."""

    def __post_init__(self) -> None:
        assert len(self.offsets) == len(self.frames) + 1, (self.frames, self.offsets)
        assert self.offsets[0] == 0, self.offsets

    @property
    def n_rows(self) -> int:
        """The number of rows of the batch."""
        return self.offsets[-1]

    @property
    def most_rows(self) -> int:
        """The most rows that a frame has."""
        return max((end - begin for begin, end in pairwise(self.offsets)), default=0)

    def __iter__(self):
        """Yields ``(i, begin, end)`` of each frame that has rows, i counting distinct frames."""
        for i in range(len(self.frames)):
            if self.offsets[i + 1] > self.offsets[i]:
                yield i, self.offsets[i], self.offsets[i + 1]

    @staticmethod
    def single(frame: float, n_rows: int) -> FrameSlices:
        """Returns the slices of a batch whose rows all belong to one frame."""
        return FrameSlices((frame,), (0, n_rows))

    @staticmethod
    def even(frames: tuple[float, ...], each: int) -> FrameSlices:
        """Returns the slices of equally many rows a frame."""
        return FrameSlices(frames, tuple(each * i for i in range(len(frames) + 1)))

    def spread(self, values: Tensor) -> Tensor:
        """Returns (N, ...) for each row what (T, ...) values hold for its frame; nobody waits."""
        counts = on_device(self.offsets, values.device).diff()
        return torch.repeat_interleave(values, counts, dim=0, output_size=self.n_rows)


@dataclass(frozen=True)
class Rays:
    """R rays in model space, sorted by frame."""

    origins: Tensor
    """(R, 3) camera centres."""
    directions: Tensor
    """(R, 3) unit vectors."""
    slices: FrameSlices
    """Which rays belong to which frame."""

    @property
    def n_rays(self) -> int:
        """The number of rays."""
        return self.origins.shape[0]


@dataclass(frozen=True)
class Packing:
    """Where each ray's samples lie; rows that belong to no ray are padding."""

    firsts: Tensor
    """(R,) int64: the first sample of each ray."""
    counts: Tensor
    """(R,) int64: how many it has."""
    is_whole: Tensor | None = None
    """(R,) bool: False where a ray's samples found no room, so that it has none; None: nowhere."""
    n_found: Tensor | None = None
    """() int64: samples that are no padding; None where there is none."""


@dataclass(frozen=True)
class Samples:
    """N intervals along rays, packed: sorted by ray, hence by frame, and by distance in a ray.

    Padding, which only a march into a fixed number of rows leaves, repeats samples of its frame at
    length 0: whatever is averaged over samples is averaged over samples there too.
    """

    ray_indices: Tensor
    """(N,) int64: the ray of each interval."""
    t_starts: Tensor
    """(N,) where each interval begins."""
    t_ends: Tensor
    """(N,) where it ends."""
    slices: FrameSlices
    """Which intervals belong to which frame."""
    packing: Packing | None = None
    """Where they lie by ray, if the march has said so."""

    @property
    def n_samples(self) -> int:
        """The number of intervals, with padding."""
        return self.ray_indices.shape[0]

    @property
    def middles(self) -> Tensor:
        """(N,) distances along the rays of the intervals' middles."""
        return 0.5 * (self.t_starts + self.t_ends)

    @property
    def lengths(self) -> Tensor:
        """(N,) lengths of the intervals."""
        return self.t_ends - self.t_starts


@dataclass(frozen=True)
class Rendering:
    """What R rays see."""

    rgbs: Tensor
    """(R, 3) colour, composited on the background."""
    opacities: Tensor
    """(R,) in [0, 1]."""
    depths: Tensor
    """(R,) expected distance along the ray, weighted sum (not divided by opacity), model units."""
    normals: Tensor
    """(R, 3) weighted sum of unit normals, model axes (those of the world up to the capture's
    rotation)."""


@dataclass(frozen=True)
class Batch:
    """R pixels of a few distinct frames and what they show."""

    rays: Rays
    """The pixels' rays."""
    rgbs: Tensor
    """(R, 3) the images' colours, zero outside the mask where masks exist."""
    masks: Tensor | None
    """(R,) 1 on the subject, 0 off it; None where the capture has no masks."""
    depths: Tensor | None
    """(R,) measured distance along the ray in model units, 0 where unknown; None without depth
    images."""
    weights: Tensor | None = None
    """(R,) 0 where a pixel does not count; None: all count."""

    def where(
        self,
        counts: Tensor,  # (R,) bool
    ) -> Batch:
        """Returns the batch with only some pixels that count; the others show nothing."""
        weights = counts.to(self.rgbs.dtype)
        weights = weights if self.weights is None else weights * self.weights
        masks = None if self.masks is None else self.masks * weights
        depths = None if self.depths is None else self.depths * weights
        return Batch(self.rays, self.rgbs, masks, depths, weights)

    def to(self, device: torch.device) -> Batch:
        """Returns the batch on a device."""
        rays = Rays(self.rays.origins.to(device), self.rays.directions.to(device), self.rays.slices)
        masks = None if self.masks is None else self.masks.to(device)
        depths = None if self.depths is None else self.depths.to(device)
        weights = None if self.weights is None else self.weights.to(device)
        return Batch(rays, self.rgbs.to(device), masks, depths, weights)


@dataclass(frozen=True)
class StepResult:
    """What one training step computed."""

    losses: dict[str, Tensor]
    """Weighted terms, by name."""
    n_samples: int
    """Samples on the rays, or the points, pixels or vertices of the batch."""
    n_rays: int = 0
    """Rays of the batch; 0 for tasks without rays."""
    n_found: Tensor | None = None
    """() int64, on the device: samples that are no padding, where there may be some."""

    @property
    def total(self) -> Tensor:
        """() the sum of the terms, which is minimised; there is at least one."""
        return torch.stack(list(self.losses.values())).sum()
