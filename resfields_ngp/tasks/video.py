"""The task of a video: colours at (x, y, time), some of the pixels held out."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ..backends import Backend
from ..datasets.video import Clip, ClipConfig, held_out_pixels, load_clip
from ..encoders import VideoEncoderConfig, VideoGridConfig
from ..field import NetworkConfig, SignalField
from ..heads import VideoConfig, VideoHead
from ..records import FrameSlices, StepResult
from ..resfield import ResFieldConfig
from ..run_folder import RunFolder
from ..schedules import ScheduleConfig
from ..transfers import sent
from ..video_results import ERROR_GAIN, pixel_positions, write_results, write_sampled
from .base import FitTask, Report, restore_field

N_SCORED = 65536
"""Held-out pixels that the progress line is scored on."""


@dataclass(frozen=True)
class SamplingConfig:
    """How a fitted video is sampled."""

    fps: float = 0.0
    """Frames per second; 0 takes the clip's. Between frames the field interpolates."""
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
    encoder: VideoEncoderConfig = field(default_factory=VideoGridConfig)
    """From positions to features."""
    network: NetworkConfig = field(
        default_factory=lambda: NetworkConfig(activation="relu", release_end=0.0)
    )
    """From features to colours."""
    residual: ResFieldConfig = field(default_factory=ResFieldConfig)
    """How the network's weights change over time."""
    training: ScheduleConfig = field(
        default_factory=lambda: ScheduleConfig(
            seconds=60.0,
            frames_per_batch=64,
            samples_per_batch=16384,
            grid_rate=0.03,
            network_rate=0.005,
        )
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
        self.field: SignalField = video_field(config, clip.size, clip.n_frames, backend)
        height, width = clip.size
        self._pixels = clip.frames.reshape(clip.n_frames, height * width, 3)
        self._held_out = held_out_pixels(clip.n_frames, height * width, config.input)
        self._training = [np.flatnonzero(~mask) for mask in self._held_out]

    @classmethod
    def open(cls, config: VideoFitConfig, backend: Backend) -> VideoTask:
        """See `FitTask.open`."""
        return cls(config, load_clip(config.input), backend)

    def step(self, frames, step, fraction, generator):
        """See `Task.step`: squared error of random training pixels."""
        seen = tuple(frame for frame in frames if len(self._training[frame]))
        if not seen:
            return StepResult({}, 0)
        n_samples = self.config.training.samples_per_batch or self.field.backend.step_samples
        each = max(1, n_samples // len(seen))
        chosen = [_strata(self._training[frame], each, generator) for frame in seen]
        rgbs, targets = self._compare(seen, chosen, fraction)
        loss = ((rgbs - targets) ** 2).mean()
        return StepResult({"colour": loss}, targets.shape[0])

    @torch.no_grad()
    def held_out_psnr(self) -> float | None:
        """See `Task.held_out_psnr`: on seeded pixels of all frames."""
        generator = torch.Generator().manual_seed(0)
        each = max(1, N_SCORED // self.n_frames)
        frames = tuple(np.flatnonzero(self._held_out.any(1)).tolist())
        if not frames:
            return None
        pools = [np.flatnonzero(self._held_out[frame]) for frame in frames]
        chosen = [_strata(pool, each, generator) for pool in pools]
        rgbs, targets = self._compare(frames, chosen, self.field.trained_fraction)
        error = float(((rgbs.clamp(0.0, 1.0) - targets) ** 2).mean())
        return -10.0 * math.log10(max(error, 1e-10))

    def deliver(self, run: RunFolder, report: Report) -> list[str]:
        """See `FitTask.deliver`: videos and scores."""
        result = write_results(self.field, self.clip, self._held_out, run.path, report)
        figures = [f"{name} {value:.4g}" for name, value in result["mean"].items() if value]
        bits = f"bits per pixel {result['bits_per_pixel']:.3g}"
        return [
            f"videos: {run.path / 'renders'} (fitted, error x {ERROR_GAIN})",
            f"mean of {self.n_frames} frames: {', '.join([*figures, bits])}",
            f"scores: {run.path / 'evaluation.json'}",
        ]

    def state(self):
        """See `Task.state`; with what `render_run` needs to know of the clip."""
        tensors, scalars = super().state()
        clip = {"size": self.clip.size, "n_frames": self.n_frames, "fps": self.clip.fps}
        return tensors, scalars | clip

    def _compare(
        self, frames: tuple[int, ...], chosen: list[np.ndarray], fraction: float
    ) -> tuple[Tensor, Tensor]:
        """Returns the field's and the clip's colours (N, 3) at some pixels of each frame."""
        sizes = np.cumsum([0, *(len(pixels) for pixels in chosen)])
        positions = pixel_positions(np.concatenate(chosen), self.clip.size)
        colours = [self._pixels[f][pixels] for f, pixels in zip(frames, chosen, strict=True)]
        device = self.field.backend.device
        targets = sent(torch.from_numpy(np.concatenate(colours)), device).float() / 255.0
        slices = FrameSlices(frames, tuple(sizes.tolist()))
        places = sent(torch.from_numpy(positions), device)
        values = self.field.query(places, slices, fraction, 0)[:, 0]
        assert isinstance(self.field.head, VideoHead)
        return self.field.head.rgbs(values), targets


def video_field(
    config: VideoFitConfig, size: tuple[int, int], n_frames: int, backend: Backend
) -> SignalField:
    """Returns a fresh field of a video of some height and width."""
    generator = torch.Generator().manual_seed(config.training.seed)
    encoder = replace(config.encoder, aspect=size[0] / max(size))
    interpolates = config.input.held_out == "unseen_time"
    if isinstance(encoder, VideoGridConfig) and interpolates and not encoder.time_resolution:
        # A slice of a frame that is never seen would learn nothing.
        encoder = replace(encoder, time_resolution=max(1, n_frames // 2))
    parts = (encoder, config.network, VideoConfig(), config.residual)
    return SignalField(*parts, n_frames, generator, backend).to(backend.device)


def render_run(
    run: RunFolder, config: VideoFitConfig, backend: Backend, report: Report
) -> list[str]:
    """Samples a finished run's video at any size and speed, as ``render RUN --fps --scale``."""
    tensors, state = run.trained()
    size, n_frames, clip_fps = tuple(state["size"]), state["n_frames"], state["fps"]
    model = video_field(config, size, n_frames, backend)
    restore_field(model, tensors)
    fps = config.sampling.fps or clip_fps
    moments = sampled_moments(n_frames, clip_fps, fps)
    wanted = tuple(max(1, round(side * config.sampling.scale)) for side in size)
    path = run.path / "renders" / f"sampled_{wanted[1]}x{wanted[0]}_{fps:g}fps.mp4"
    write_sampled(model, (wanted[0], wanted[1]), moments, fps, path, report)
    return [f"video: {path}"]


def sampled_moments(n_frames: int, clip_fps: float, fps: float) -> np.ndarray:
    """Returns the moments, in frames of the clip, of a video of the same length in time.

    >>> sampled_moments(3, 25.0, 50.0).tolist()
    [0.0, 0.5, 1.0, 1.5, 2.0]
    """
    count = int((n_frames - 1) * fps / clip_fps + 1e-9) + 1
    return np.arange(count) * (clip_fps / fps)


VideoTask.revisits = {"render": render_run}


def _strata(pool: np.ndarray, count: int, generator: torch.Generator) -> np.ndarray:
    """Returns about `count` of (P,) ascending numbers, one at random of each run of equal length.

    Ascending, so that neighbours are looked up together, and spread evenly.
    """
    count = min(count, len(pool))
    bounds = np.linspace(0, len(pool), count + 1).astype(np.int64)
    jitter = torch.rand(count, generator=generator, dtype=torch.float64).numpy()
    return pool[bounds[:-1] + (jitter * np.diff(bounds)).astype(np.int64)]
