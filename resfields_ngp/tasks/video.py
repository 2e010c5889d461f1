"""The task of a video: colours at (x, y, time), some of the pixels held out."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ..backends import Backend
from ..datasets.video import Clip, ClipConfig, held_out_pixels, load_clip
from ..encoders import EncoderConfig, HashGridConfig
from ..field import QUERY_ROWS, NetworkConfig, SignalField
from ..heads import VideoConfig, VideoHead
from ..records import FrameSlices, StepResult, frame_time
from ..resfield import ResFieldConfig
from ..run_folder import RunFolder
from ..schedules import ScheduleConfig
from .base import FitTask, Report

N_SCORED = 65536
"""Held-out pixels that the progress line is scored on."""


@dataclass(frozen=True)
class SamplingConfig:
    """How a fitted video is sampled."""

    fps: float = 0.0
    """Frames per second; 0 takes the clip's. Between fitted frames the field interpolates."""
    scale: float = 1.0
    """Size of the frames, as a multiple of the clip's; above 0 to 16."""

    def __post_init__(self) -> None:
        if self.fps < 0.0:
            raise ValueError(f"sampling.fps is {self.fps}; allowed: 0 (the clip's) or more")
        if not 0.0 < self.scale <= 16.0:
            raise ValueError(f"sampling.scale is {self.scale}; allowed: above 0 to 16")


@dataclass(frozen=True)
class VideoFitConfig:
    """Every setting of ``fit video``."""

    task: Literal["video"] = "video"
    """Which task this is."""
    input: ClipConfig = field(default_factory=ClipConfig)
    """Which clip."""
    encoder: EncoderConfig = field(default_factory=lambda: HashGridConfig(n_residuals=0))
    """From positions to features."""
    network: NetworkConfig = field(default_factory=lambda: NetworkConfig(release_end=0.0))
    """From features to colours."""
    residual: ResFieldConfig = field(default_factory=ResFieldConfig)
    """How the network's weights change over time."""
    training: ScheduleConfig = field(
        default_factory=lambda: ScheduleConfig(seconds=60.0, samples_per_batch=65536)
    )
    """How long, how fast, on what."""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    """How the fitted video is sampled by ``render``."""


class VideoTask(FitTask):
    """Pixels of a clip.

    Args:
        config: All settings.
        clip: The frames.
        backend: Kernels.
    """

    Config = VideoFitConfig

    def __init__(self, config: VideoFitConfig, clip: Clip, backend: Backend) -> None:
        self.config, self.clip = config, clip
        self.n_frames = clip.n_frames
        self.field: SignalField = video_field(config, clip.n_frames, backend)
        height, width = clip.size
        self._pixels = clip.frames.reshape(clip.n_frames, height * width, 3)
        held_out = held_out_pixels(clip.n_frames, height * width, config.input)
        self._training = [np.flatnonzero(~mask) for mask in held_out]
        self._held_out = [np.flatnonzero(mask) for mask in held_out]

    @classmethod
    def open(cls, config: VideoFitConfig, backend: Backend) -> VideoTask:
        """See `FitTask.open`."""
        return cls(config, load_clip(config.input), backend)

    def step(self, frames, step, fraction, generator):
        """See `Task.step`: squared error of random training pixels."""
        each = (self.config.training.samples_per_batch or self.field.backend.step_samples) // len(
            frames
        )
        chosen = [_strata(self._training[frame], each, generator) for frame in frames]
        rgbs, targets = self._compare(frames, chosen, fraction)
        loss = ((rgbs - targets) ** 2).mean()
        return StepResult({"colour": loss}, targets.shape[0])

    @torch.no_grad()
    def held_out_psnr(self) -> float | None:
        """See `Task.held_out_psnr`: on seeded pixels of all frames."""
        generator = torch.Generator().manual_seed(0)
        each = max(1, N_SCORED // self.n_frames)
        frames = tuple(f for f in range(self.n_frames) if len(self._held_out[f]))
        if not frames:
            return None
        chosen = [_strata(self._held_out[frame], each, generator) for frame in frames]
        rgbs, targets = self._compare(frames, chosen, self.field.trained_fraction)
        error = float(((rgbs.clamp(0.0, 1.0) - targets) ** 2).mean())
        return -10.0 * math.log10(max(error, 1e-10))

    def deliver(self, run: RunFolder, report: Report) -> list[str]:
        """See `FitTask.deliver`."""
        return []

    def _compare(
        self, frames: tuple[int, ...], chosen: list[np.ndarray], fraction: float
    ) -> tuple[Tensor, Tensor]:
        """Returns the field's and the clip's colours (N, 3) at some pixels of each frame."""
        sizes = np.cumsum([0, *(len(pixels) for pixels in chosen)])
        positions = np.concatenate(
            [
                pixel_positions(pixels, self.clip.size, frame_time(frame, self.n_frames))
                for frame, pixels in zip(frames, chosen, strict=True)
            ]
        )
        colours = [self._pixels[f][pixels] for f, pixels in zip(frames, chosen, strict=True)]
        device = self.field.backend.device
        targets = torch.from_numpy(np.concatenate(colours)).to(device).float() / 255.0
        slices = FrameSlices(frames, tuple(sizes.tolist()))
        places = torch.from_numpy(positions).to(device)
        values = self.field.query(places, slices, fraction, 0)[:, 0]
        assert isinstance(self.field.head, VideoHead)
        return self.field.head.rgbs(values), targets


def video_field(config: VideoFitConfig, n_frames: int, backend: Backend) -> SignalField:
    """Returns a fresh field of a video."""
    generator = torch.Generator().manual_seed(config.training.seed)
    parts = (config.encoder, config.network, VideoConfig(), config.residual)
    return SignalField(*parts, n_frames, generator, backend).to(backend.device)


def pixel_positions(pixels: np.ndarray, size: tuple[int, int], time: float) -> np.ndarray:
    """Returns (N, 3) positions x, y, time of the centres of pixels (N,), row-major numbers.

    The longer side spans [0, 1].
    """
    height, width = size
    longer = max(size)
    rows, columns = np.divmod(pixels, width)
    positions = np.empty((len(pixels), 3), np.float32)
    positions[:, 0] = (columns + 0.5) / longer
    positions[:, 1] = (rows + 0.5) / longer
    positions[:, 2] = time
    return positions


@torch.no_grad()
def frame_colours(
    model: SignalField, size: tuple[int, int], frame: int, n_frames: int
) -> np.ndarray:
    """Returns (H, W, 3) colours in [0, 1] of a whole frame at any size."""
    height, width = size
    assert isinstance(model.head, VideoHead)
    parts = []
    for begin in range(0, height * width, QUERY_ROWS):
        pixels = np.arange(begin, min(begin + QUERY_ROWS, height * width))
        positions = torch.from_numpy(pixel_positions(pixels, size, frame_time(frame, n_frames)))
        slices = FrameSlices.single(frame, len(pixels))
        values = model.query(positions, slices, model.trained_fraction, 0)[:, 0]
        parts.append(model.head.rgbs(values).clamp(0.0, 1.0).numpy())
    return np.concatenate(parts).reshape(height, width, 3)


def _strata(pool: np.ndarray, count: int, generator: torch.Generator) -> np.ndarray:
    """Returns about `count` of (P,) ascending numbers, one at random of each run of equal length.

    Ascending, so that neighbours are looked up together, and spread evenly.
    """
    count = min(count, len(pool))
    bounds = np.linspace(0, len(pool), count + 1).astype(np.int64)
    jitter = torch.rand(count, generator=generator, dtype=torch.float64).numpy()
    return pool[bounds[:-1] + (jitter * np.diff(bounds)).astype(np.int64)]
