"""A reconstruction: the trained field with all that renders and meshes it in the world."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numba
import numpy as np
import torch
from numba.core import config as numba_config

from .backends import Backend, open_backend
from .device_pixels import DevicePixels
from .field import Field
from .floaters import distances_without_floaters
from .hull import Hull, build_hull, with_doubts
from .kernels_ahead import compile_beside
from .model_space import ModelSpace
from .occupancy import Occupancy
from .outline_fitting import OutlinesAt
from .outlines import Outline, mask_outlines, stored_outlines
from .pixels import PixelSource, outline_odds
from .tasks.capture import CaptureTask, restore_model
from .trainer import Trainer
from .training import Progress, train_task

if TYPE_CHECKING:
    from .config import Config
    from .datasets.base import Capture
    from .run_folder import RunFolder


@dataclass(frozen=True)
class Reconstruction:
    """A field over model space and time, and where model space lies."""

    field: Field
    """The field."""
    occupancy: Occupancy
    """Where it is worth sampling, frame by frame."""
    space: ModelSpace
    """Model space in the world."""
    frame_numbers: tuple[int, ...]
    """The capture's own index of each frame."""
    world_from_normalised: np.ndarray
    """(4, 4) similarity from the capture's unit sphere to the world."""
    background: float = 0.0
    """Grey level that renderings lie on."""
    outline_odds: float = 1.0
    """How much more densely training drew pixels within the outlines than around them."""
    outlines: OutlinesAt | None = None
    """What the training cameras' masks show of each frame; None where there is nothing to ask."""

    @property
    def surface_level(self) -> float:
        """Signed distance of the surface in the field, model units.

        Seen past an outline at distance d, a surface is opaque by ``sigmoid(-sharpness * d)``.
        Where pixels are drawn odds times as densely inside, the mean colour and mask losses are
        lowest with that curve moved outwards by ``log(odds) / sharpness``: the fitted 0 lies so far
        outside the outline, and the outline itself at minus this.
        """
        if not self.field.head.n_tangents:
            return 0.0
        sharpness = self.field.sharpness(self.field.trained_fraction)
        return -math.log(self.outline_odds) / sharpness

    @property
    def n_frames(self) -> int:
        """The number of frames."""
        return len(self.frame_numbers)


def train(
    config: Config,
    capture: Capture,
    run: RunFolder,
    report: Callable[[Progress], None] | None = None,
    resume: bool = False,
    should_stop: Callable[[], bool] | None = None,
    hull: Hull | None = None,
) -> Reconstruction:
    """Fits a field to a capture; the run folder receives metrics and checkpoints.

    Args:
        config: All settings.
        capture: The images.
        run: Where to write.
        report: Called with each progress report.
        resume: Go on from the run's latest checkpoint, if there is one.
        should_stop: Polled between steps; True ends training with a checkpoint.
        hull: The capture's, where it has been carved already.

    Raises:
        CaptureError: The visual hull is empty.
        BackendUnavailable: The device cannot run here.
        TrainingError: A loss became NaN or infinite.
    """
    use_threads(config.training.threads)
    backend = open_backend(config.training.backend, config.training.device)
    compile_beside(backend, config, capture.n_frames)
    trainer, task, space = prepare(config, capture, backend, hull)
    background = config.training.rendered_background(capture.has_masks)
    odds = outline_odds(capture.views, config.training.foreground)
    _describe(run, capture, space, background, odds)
    train_task(trainer, run, report, resume, should_stop)
    return Reconstruction(
        task.field,
        task.occupancy,
        space,
        capture.frame_numbers,
        capture.world_from_normalised,
        background,
        odds,
        partial(mask_outlines, with_doubts(capture, config.hull).views, slack=config.hull.slack),
    )


def prepare(
    config: Config, capture: Capture, backend: Backend, hull: Hull | None = None
) -> tuple[Trainer, CaptureTask, ModelSpace]:
    """Returns a trainer of a fresh field on a capture, its task, and where model space lies.

    Args:
        config: All settings.
        capture: The images.
        backend: What computes.
        hull: The capture's, where it has been carved already.

    Raises:
        CaptureError: The visual hull is empty.
    """
    hull = build_hull(capture, config.hull) if hull is None else hull
    generator = torch.Generator().manual_seed(config.training.seed)
    field, occupancy = _build(config, hull, capture.n_frames, backend, generator, capture.has_masks)
    doubted = with_doubts(capture, config.hull)
    source = _pixels(config, doubted, hull.space, backend)
    test_source = (
        PixelSource(capture, hull.space, (capture.test_view,)) if capture.test_view else None
    )
    parts = (config.training, config.losses, field, occupancy, source, capture.n_frames)

    def clean(distances: np.ndarray, frame: int) -> np.ndarray:
        to_world = partial(hull.space.to_world, frame=frame)
        outlines = partial(mask_outlines, doubted.views, frame, config.hull.slack)
        return distances_without_floaters(distances, to_world, outlines)

    task = CaptureTask(*parts, test_source, clean if capture.has_masks else None)
    return Trainer(config.training, task), task, hull.space


def load_reconstruction(
    path: Path | str, device: str = "auto", backend: str | None = None
) -> Reconstruction:
    """Returns the reconstruction in a run folder, from its newest readable checkpoint.

    Args:
        path: The run folder.
        device: See `open_backend`.
        backend: As well; by default what the run's settings say.

    Raises:
        FileNotFoundError: There is no run, or it has no checkpoint yet.
        CheckpointError: Every checkpoint is damaged.
    """
    from .config import Config
    from .config_tree import apply_table
    from .run_folder import RunFolder

    run = RunFolder.open(path)
    config = apply_table(Config(), run.settings(), str(run.config_path))
    tensors = run.trained()[0]
    placement = np.load(run.path / "placement.npz")
    space = ModelSpace(placement["world_from_model"], placement["offsets"])
    numbers = tuple(int(number) for number in placement["frame_numbers"])
    distances = tensors["occupancy.distances"].numpy()
    hull = Hull(space, distances.copy(), 0.0)
    kernels = open_backend(backend or config.training.backend, device)
    generator = torch.Generator().manual_seed(config.training.seed)
    arguments = (config, hull, len(numbers), kernels, generator, True)
    field, occupancy = _build(*arguments, start=distances.copy())
    restore_model(field, occupancy, tensors)

    def outlines(frame: int) -> list[Outline]:
        return stored_outlines(config.capture, config.hull, numbers[frame])

    return Reconstruction(
        field,
        occupancy,
        space,
        numbers,
        placement["world_from_normalised"],
        float(placement["background"]),
        float(placement.get("outline_odds", 1.0)),
        outlines if placement.get("has_masks", True) else None,
    )


def use_threads(count: int) -> None:
    """Sets the CPU threads of torch and numba; 0 takes all."""
    available = os.cpu_count() or 1
    wanted = min(count or available, available)
    torch.set_num_threads(wanted)
    most: int = numba_config.NUMBA_NUM_THREADS  # pyright: ignore[reportAttributeAccessIssue]
    numba.set_num_threads(min(wanted, most))


def _build(
    config: Config,
    hull: Hull,
    n_frames: int,
    backend: Backend,
    generator: torch.Generator,
    has_masks: bool,
    start: np.ndarray | None = None,
) -> tuple[Field, Occupancy]:
    """Returns a fresh field and occupancy; see `Occupancy` for `start`."""
    parts = (config.encoder, config.network, config.head, config.residual)
    field = Field(*parts, n_frames, generator, backend, config.motion)
    occupancy = Occupancy(hull, config.occupancy, has_masks, start)
    return field.to(backend.device), occupancy.to(backend.device)


def _pixels(
    config: Config, capture: Capture, space: ModelSpace, backend: Backend
) -> PixelSource | DevicePixels:
    """Returns the source of training pixels, on the device where that computes by itself."""
    arguments = (capture, space, capture.views, config.capture.use_depth)
    if not backend.is_asynchronous:
        return PixelSource(*arguments)
    budget = 1 << 30
    if backend.device.type == "cuda":
        budget = torch.cuda.mem_get_info(backend.device)[0] // 3
    return DevicePixels(*arguments, backend.device, budget)


def _describe(
    run: RunFolder, capture: Capture, space: ModelSpace, background: float, odds: float
) -> None:
    """Writes where model space lies, which every export needs."""
    from .writing import whole_file

    values: dict[str, Any] = {
        "world_from_model": space.world_from_model,
        "offsets": space.offsets,
        "frame_numbers": np.asarray(capture.frame_numbers),
        "world_from_normalised": capture.world_from_normalised,
        "background": background,
        "outline_odds": odds,
        "has_masks": capture.has_masks,
    }
    with whole_file(run.path / "placement.npz") as partial, open(partial, "wb") as file:
        np.savez(file, **values)
