"""What a fitted video leaves: the video, its errors, scores frame by frame, bits per pixel."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from .datasets.video import Clip
from .field import SignalField
from .heads import VideoHead
from .metrics import psnr, ssim
from .pictures import write_png
from .records import FrameSlices
from .sheets import laid_out
from .video_files import write_mp4
from .writing import write_whole

ERROR_GAIN = 8
"""Errors are shown so many times as large."""

DEFINITIONS = {
    "psnr": "dB, full frame, 8-bit values",
    "held_out_psnr": "dB, pixels that training never saw; the mean is over all of them at once",
    "ssim": "Wang et al. 2004, Gaussian 11 x 11, sigma 1.5, full frame",
}


def pixel_positions(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns (N, 3) positions x, y, 0 of the centres of pixels (N,), row-major numbers.

    The longer side spans [0, 1].
    """
    rows, columns = np.divmod(pixels, size[1])
    positions = np.zeros((len(pixels), 3), np.float32)
    positions[:, 0] = (columns + 0.5) / max(size)
    positions[:, 1] = (rows + 0.5) / max(size)
    return positions


@torch.no_grad()
def sampled_frame(model: SignalField, size: tuple[int, int], frame: float) -> np.ndarray:
    """Returns (H, W, 3) colours in [0, 1] at any size and any moment, in frames of the clip."""
    assert isinstance(model.head, VideoHead)
    n_pixels, parts = size[0] * size[1], []
    for pixels in torch.arange(n_pixels).split(model.backend.query_rows):
        positions = torch.from_numpy(pixel_positions(pixels.numpy(), size)).to(model.backend.device)
        slices = FrameSlices.single(frame, len(pixels))
        values = model.query(positions, slices, model.trained_fraction, 0)[:, 0]
        parts.append(model.head.rgbs(values).clamp(0.0, 1.0).cpu().numpy())
    return np.concatenate(parts).reshape(*size, 3)


def write_sampled(
    model: SignalField,
    size: tuple[int, int],
    moments: np.ndarray,
    fps: float,
    path: Path,
    report: Callable[[int, int], None],
) -> None:
    """Writes a video of the field at some moments, in frames of the clip.

    Raises:
        OSError: There is no encoder, or the disk is full.
    """

    def frames() -> Iterator[np.ndarray]:
        for done, moment in enumerate(moments):
            yield eight_bits(sampled_frame(model, size, float(moment)))
            report(done + 1, len(moments))

    write_mp4(path, frames(), fps)


def write_results(
    model: SignalField,
    clip: Clip,
    held_out: np.ndarray,  # (n_frames, H * W) bool
    run: Path,
    report: Callable[[int, int], None],
) -> dict[str, Any]:
    """Writes ``renders/fitted.mp4``, ``error.mp4``, ``comparison.png`` and ``evaluation.json``.

    Returns:
        What is in ``evaluation.json``: ``mean``, ``frames``, ``bits_per_pixel``, ``definitions``.

    Raises:
        OSError: A file could not be written.
    """
    rows, squares, fitted = [], 0.0, []
    for frame in range(clip.n_frames):
        found = sampled_frame(model, clip.size, frame)
        truth = clip.frames[frame] / 255.0
        fitted.append(eight_bits(found))
        seen, mask = fitted[-1] / 255.0, held_out[frame].reshape(clip.size)
        row = {"frame": frame, "psnr": psnr(seen, truth), "ssim": ssim(seen, truth)}
        if mask.any():
            row["held_out_psnr"] = psnr(found, truth, mask)
            squares += float(((found - truth)[mask] ** 2).sum())
        rows.append({name: _plain(value) for name, value in row.items()})
        report(frame + 1, clip.n_frames)
    write_mp4(run / "renders" / "fitted.mp4", fitted, clip.fps)
    pairs = zip(fitted, clip.frames, strict=True)
    write_mp4(run / "renders" / "error.mp4", (_error(one, two) for one, two in pairs), clip.fps)
    _write_comparison(clip, fitted, run / "renders" / "comparison.png")
    means = {name: _mean(rows, name) for name in ("psnr", "ssim")}
    n_held_out = int(held_out.sum())
    if n_held_out:
        means["held_out_psnr"] = float(-10.0 * np.log10(max(squares / (3 * n_held_out), 1e-10)))
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    result = {
        "clip": clip.name,
        "mean": means,
        "parameters": n_parameters,
        "bits_per_pixel": 32.0 * n_parameters / (clip.n_frames * clip.size[0] * clip.size[1]),
        "frames": rows,
        "definitions": DEFINITIONS | {"bits_per_pixel": "float32 parameters of the checkpoint"},
    }
    write_whole(run / "evaluation.json", json.dumps(result, indent=1).encode())
    return result


def eight_bits(colours: np.ndarray) -> np.ndarray:
    """Returns colours in [0, 1] as uint8."""
    return np.round(colours * 255.0).astype(np.uint8)


def _error(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Returns the absolute error of 8-bit pictures, `ERROR_GAIN` times as large."""
    return np.minimum(cv2.absdiff(found, truth).astype(np.int64) * ERROR_GAIN, 255).astype(np.uint8)


def _write_comparison(clip: Clip, fitted: list[np.ndarray], path: Path) -> None:
    """Writes clip, fit and error of three frames beside one another, a frame a row."""
    chosen = sorted({0, clip.n_frames // 2, clip.n_frames - 1})
    rows = [(clip.frames[i], fitted[i], _error(fitted[i], clip.frames[i])) for i in chosen]
    names = ("clip", "fitted", f"error x {ERROR_GAIN}")
    write_png(path, laid_out(rows, [str(frame) for frame in chosen], names))


def _mean(rows: list[dict[str, Any]], name: str) -> float | None:
    found = [row[name] for row in rows if row[name] is not None]
    return float(np.mean(found)) if found else None


def _plain(value: float) -> float | None:
    """Returns None for what JSON cannot hold."""
    return None if np.isnan(value) else value
