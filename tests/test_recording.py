"""Steps of fixed size are steps; what is recorded with some frames holds for others.

A CUDA graph is stood in for by one that runs the recorded work again.
"""

from __future__ import annotations

import gc
import weakref
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import get_args

import pytest
import torch
from ball_scene import (
    N_FRAMES,
    SMALL_GRID,
    ball_capture,
    ball_occupancy,
    ball_space,
    seeded,
    small_field,
)
from interpreted import EXACT
from torch import Tensor

from resfields_ngp import surface_losses
from resfields_ngp.backends import open_backend
from resfields_ngp.device_pixels import DevicePixels
from resfields_ngp.encoders import HashGrid4DConfig, HashGridConfig
from resfields_ngp.encoders.hash_grid import HashGrid4D
from resfields_ngp.field import Field, NetworkConfig
from resfields_ngp.heads import NeusConfig
from resfields_ngp.losses import LossConfig
from resfields_ngp.motion import MotionConfig, NoMotionConfig
from resfields_ngp.occupancy import OccupancyConfig
from resfields_ngp.recording import LEAST_REPLAYS, MANY_REPLAYS, SPAN, Recorder, can_record
from resfields_ngp.records import Batch, FrameSlices, StepResult
from resfields_ngp.resfield import FACTORISATIONS, ResFieldConfig
from resfields_ngp.schedules import TrainingConfig
from resfields_ngp.step import render_step
from resfields_ngp.tasks.base import Task
from resfields_ngp.tasks.capture import ROOM, CaptureTask
from resfields_ngp.trainer import Trainer, differentiate
from resfields_ngp.transfers import MovingFrames, on_device

CPU = torch.device("cpu")
OCCUPANCY = OccupancyConfig(
    band=4.0, min_band=0.25, step=1.0, min_step=0.01, max_step=0.05, stretch=2.0
)
LOSSES = LossConfig(mask=0.1, eikonal=0.0, sparseness=0.1, area=0.0, albedo=0.0)
"""Terms that do not average over samples: padding repeats some."""


@pytest.fixture(autouse=True)
def few_points(monkeypatch: pytest.MonkeyPatch) -> None:
    """What losses draw besides a step's rays takes the interpreter three times as long as these."""
    monkeypatch.setattr(surface_losses, "N_FREE_POINTS", 32)
    monkeypatch.setattr(surface_losses, "_N_HULL_POINTS", 4)


def pixels() -> DevicePixels:
    capture = ball_capture()
    return DevicePixels(capture, ball_space(), capture.views, False, CPU, 1 << 30)


def rendered(capacity: int | None, batch: Batch) -> tuple[StepResult, dict[str, Tensor]]:
    """Returns a step's result and gradients."""
    field = small_field(EXACT)
    for parameter in field.parameters():
        parameter.grad = torch.zeros_like(parameter)
    arguments = (field, ball_occupancy(OCCUPANCY), batch, LOSSES, 0.3, seeded(1))
    result = render_step(*arguments, capacity=capacity)
    differentiate(result)
    return result, {name: p.grad for name, p in field.named_parameters() if p.grad is not None}


def test_a_step_of_fixed_size_is_a_step():
    batch = pixels().draw((2, 0), 24, 0.5, seeded())
    (free, gradients), (fixed, others) = rendered(None, batch), rendered(95, batch)
    assert fixed.n_samples == 190 and free.n_found is None
    assert int(fixed.n_found) == free.n_samples < 190
    assert fixed.losses.keys() == free.losses.keys() >= {"colour", "mask", "hull"}
    for name, loss in free.losses.items():
        assert torch.allclose(fixed.losses[name], loss, rtol=1e-5), name
    for name, gradient in gradients.items():
        assert (others[name] - gradient).norm() <= 1e-4 * gradient.norm() + 1e-9, name


def test_rays_that_find_no_room_do_not_count():
    batch = pixels().draw((2, 0), 24, 0.5, seeded())
    jitter = torch.rand(batch.rays.n_rays, generator=seeded(1))
    field, occupancy = small_field(EXACT), ball_occupancy(OCCUPANCY)
    samples = occupancy.march(batch.rays, EXACT, field.sharpness(0.3), jitter, 45)
    is_whole = samples.packing.is_whole
    assert 4 < int((~is_whole).sum()) < batch.rays.n_rays - 4
    rgbs = torch.where(is_whole[:, None], batch.rgbs, 1.0 - batch.rgbs)
    others = replace(batch, rgbs=rgbs, masks=torch.where(is_whole, batch.masks, 1.0))
    (one, gradients), (other, same) = rendered(45, batch), rendered(45, others)
    assert all(torch.equal(one.losses[name], other.losses[name]) for name in one.losses)
    assert all(torch.equal(gradients[name], same[name]) for name in gradients)
    counted = replace(batch, masks=1.0 - batch.masks)
    assert not torch.equal(rendered(45, counted)[0].losses["mask"], one.losses["mask"])


@pytest.mark.parametrize("capacity", [None, 45, 95])
def test_what_pixels_that_do_not_count_show_teaches_nothing(capacity: int | None):
    batch = pixels().draw((2, 0), 24, 0.5, seeded())
    weights = (torch.arange(batch.rays.n_rays) % 3 > 0).float()
    bare = replace(batch, weights=weights, masks=batch.masks * weights)
    rgbs = torch.where(weights[:, None] > 0, batch.rgbs, 1.0 - batch.rgbs)
    (one, gradients), (other, same) = (
        rendered(capacity, each) for each in (bare, replace(bare, rgbs=rgbs))
    )
    assert all(torch.equal(one.losses[name], other.losses[name]) for name in one.losses)
    assert all(torch.equal(gradients[name], same[name]) for name in gradients)
    counted = rendered(capacity, replace(bare, weights=None))[0]
    assert counted.losses["mask"] > one.losses["mask"]  # they would be background


MOVING: dict[str, tuple[MotionConfig, dict[str, str]]] = {
    **{kind.__name__: (kind(), {}) for kind in get_args(MotionConfig)},
    **{name: (NoMotionConfig(), {"factorisation": name}) for name in FACTORISATIONS},
    "knots": (NoMotionConfig(), {"coefficients": "interpolation"}),
}


@pytest.mark.parametrize("case", MOVING)
def test_a_field_finds_its_frames_on_the_device(case: str):
    motion, chosen = MOVING[case]
    parts = (HashGridConfig(n_residuals=1, **SMALL_GRID | {"n_levels": 2}), NetworkConfig(16, 1))
    residual = ResFieldConfig(rank=2, deviation=0.5, **chosen)
    head = NeusConfig(n_geometry_features=4, n_neurons=16)
    backend = open_backend("reference", "cpu")
    field = Field(*parts, head, residual, 6, seeded(), backend, motion)
    with torch.no_grad():
        for parameter in field.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=seeded(2))
    positions = torch.rand(12, 3, generator=seeded(1))
    moving = MovingFrames((0, 1, 2), CPU)

    def values(frames: tuple[int, ...]) -> Tensor:
        slices = FrameSlices.even(frames, 4)
        return field.query(positions, slices, 0.7, 0).detach()

    assert torch.equal(values(moving), values((0, 1, 2)))
    moving.move((5, 1, 3))
    assert torch.equal(values(moving), values((5, 1, 3)))
    assert not torch.allclose(values(moving), values((0, 1, 2)))


def test_pixels_and_distances_are_those_of_the_frames_moved_to():
    source, occupancy = pixels(), ball_occupancy(OCCUPANCY)
    occupancy.distances[1] += 0.05
    moving = MovingFrames((0, 2), CPU)
    moving.move((1, 0))
    one, other = (source.draw(frames, 48, 0.5, seeded()) for frames in (moving, (1, 0)))
    assert torch.equal(one.rgbs, other.rgbs)
    assert torch.equal(one.rays.origins, other.rays.origins)
    found, expected = (occupancy.march(b.rays, EXACT, 100.0, None, 64) for b in (one, other))
    assert torch.equal(found.t_starts, expected.t_starts)
    points = torch.rand(8, 3, generator=seeded())
    slices = [FrameSlices.even(frames, 4) for frames in (moving, (1, 0))]
    distances = [occupancy.cached_distances(points, each, EXACT) for each in slices]
    assert torch.equal(*distances)


class Graph:
    """Stands in for a CUDA graph: what was recorded runs again."""

    fault: RuntimeError | None = None

    def __init__(self) -> None:
        self.log: list[str] = []

    def register_generator_state(self, generator: torch.Generator) -> None:
        self.log.append("generator")

    def capture_begin(self, pool: object) -> None:
        self.log.append("begin")

    def capture_end(self) -> None:
        self.log.append("end")
        if self.fault:
            raise self.fault

    def replay(self) -> None:
        self.log.append("replay")


class CountedTask(Task):
    """Notes the steps that are done by themselves or recorded."""

    is_recordable = True

    def __init__(self) -> None:
        self.field = SimpleNamespace(backend=SimpleNamespace(device=CPU, is_recordable=True))
        self.done: list[tuple] = []
        self.is_outgrown = False

    def step(self, frames, step, fraction, generator):
        raise AssertionError("a step of its own")

    def fixed_step(self, frames, step, fraction, generator):
        self.done.append((step, *frames.numbers.tolist()))
        return StepResult({"loss": torch.ones(())}, 10, 4, torch.tensor(7))

    def kind_of_step(self, step, fraction):
        return "early" if step < 5 else "late"

    def outgrows(self, result):
        assert result.n_samples == 7
        return self.is_outgrown


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> CountedTask:
    class Stream:
        def __init__(self, device=None) -> None:
            pass

        def wait_stream(self, stream) -> None:
            pass

    stands_in = {
        "CUDAGraph": Graph,
        "Stream": Stream,
        "graph_pool_handle": lambda: (0, 1),
        "current_stream": lambda device: Stream(),
        "stream": lambda stream: nullcontext(),
    }
    for name, value in stands_in.items():
        monkeypatch.setattr(f"resfields_ngp.recording.torch.cuda.{name}", value)
    return CountedTask()


def test_steps_are_recorded_again_when_they_are_outgrown_or_late(task: CountedTask):
    recorder = Recorder(task, differentiate=lambda result: None)

    def steps(begin: int, end: int, fraction: float) -> list[int]:
        """Returns those that were not replays; each is followed by its recording."""
        task.done.clear()
        for step in range(begin, end):
            result = recorder.step((0, step), step, fraction, seed=step)
            assert result.n_samples == 7 and result.losses["loss"] == 1.0
        assert task.done[::2] == task.done[1::2]
        assert all(frames == [0, step] for step, *frames in task.done)
        return [step for step, *_ in task.done[::2]]

    assert steps(0, 5, 0.1) == [0]
    assert steps(5, 100, 0.1) == [5]  # another kind
    assert steps(100, 150, 0.1 + 0.9 * SPAN) == []
    assert steps(150, 160, 0.1 + SPAN) == [150]
    assert steps(160, 300, 0.1 + 2.5 * SPAN) == [151 + MANY_REPLAYS]
    task.is_outgrown = True
    assert steps(300, 303 + LEAST_REPLAYS, 0.1 + 2.5 * SPAN) == [301, 302 + LEAST_REPLAYS]
    assert not recorder.is_given_up


def test_what_a_recording_reads_stays_as_long_as_it(task: CountedTask):
    constant = (1.5, 2.5, 3.5)
    task.differentiate = lambda result: on_device(constant, CPU, torch.float32)
    recorder = Recorder(task, task.differentiate)
    recorder.step((0, 1), 9, 0.1, seed=0)
    read = weakref.ref(on_device(constant, CPU, torch.float32))
    for number in range(1000):  # what was asked for lately is kept, no more
        on_device((float(number),), CPU)
    gc.collect()
    assert read() is not None
    recorder._recording = None
    gc.collect()
    assert read() is None


def test_where_nothing_can_be_recorded_the_step_is_done_all_the_same(
    task: CountedTask, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    fault = RuntimeError("operation not permitted when stream is capturing")
    monkeypatch.setattr(Graph, "fault", fault)
    recorder = Recorder(task, differentiate=lambda result: None)
    result = recorder.step((0, 1), 9, 0.1, seed=0)
    assert result.n_samples == 7 and recorder.is_given_up
    assert "cannot be recorded here: operation not permitted" in caplog.text


def test_a_recording_without_memory_is_tried_once_more(
    task: CountedTask, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Graph, "fault", torch.OutOfMemoryError("CUDA out of memory"))
    recorder = Recorder(task, differentiate=lambda result: None)
    assert recorder.step((0, 1), 9, 0.1, seed=0).n_samples == 7 and not recorder.is_given_up
    monkeypatch.setattr(Graph, "fault", None)
    recorder.step((0, 1), 10, 0.1, seed=0)
    task.done.clear()
    recorder.step((0, 1), 11, 0.1, seed=0)
    assert task.done == []  # replayed
    monkeypatch.setattr(Graph, "fault", torch.OutOfMemoryError("CUDA out of memory"))
    recorder._recording = None
    assert recorder.step((0, 1), 12, 0.1, seed=0).n_samples == 7 and recorder.is_given_up


@pytest.mark.parametrize("records", [False, True])
def test_what_is_recorded_is_rehearsed_at_its_size(records: bool, monkeypatch):
    """Kernels are measured at their first large launch, which is not to cost time of training."""
    capacities: list[int | None] = []
    monkeypatch.setattr("resfields_ngp.tasks.capture.can_record", lambda task: records)
    monkeypatch.setattr(
        "resfields_ngp.tasks.capture.render_step", lambda *parts: capacities.append(parts[-1])
    )
    config = TrainingConfig(samples_per_batch=2000)
    field = small_field(open_backend("reference", "cpu"))
    task = CaptureTask(config, LOSSES, field, ball_occupancy(OCCUPANCY), pixels(), N_FRAMES)
    task.rehearse((0, 1), seeded())
    task.fixed_step((0, 1), config.warmup_steps, 0.5, seeded())
    size = round(1000 * ROOM)
    assert capacities == [size if records else None, size]


def test_only_what_the_host_never_looks_into_is_recorded():
    field, occupancy = small_field(EXACT), ball_occupancy(OCCUPANCY)
    parts = (TrainingConfig(), LOSSES, field, occupancy, pixels(), N_FRAMES)
    task = CaptureTask(*parts)
    assert task.is_recordable and not can_record(task)  # on a CPU there is nothing to record with
    assert Trainer(TrainingConfig(), task).recorder is None
    streamed = DevicePixels(ball_capture(), ball_space(), ball_capture().views, False, CPU, 0)
    assert not CaptureTask(*parts[:4], streamed, N_FRAMES).is_recordable
    unmasked = ball_occupancy(OCCUPANCY, has_masks=False)
    densities = small_field(EXACT, "nerf")
    assert CaptureTask(*parts[:2], densities, *parts[3:]).is_recordable
    assert not CaptureTask(*parts[:2], densities, unmasked, *parts[4:]).is_recordable
    field.encoder = HashGrid4D(HashGrid4DConfig(n_levels=2), N_FRAMES, seeded())
    assert not CaptureTask(*parts).is_recordable
