"""A training step on a device waits for it once: for the number of samples that a march found.

The device is the CPU, which says that it works by itself; whatever would wait on a real one is
counted where the package's code asks for it.
"""

from __future__ import annotations

import importlib.util
import os
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import get_args
from unittest import mock

import pytest
import stand_ins
import torch
from ball_scene import N_FRAMES, ball_capture, ball_occupancy, ball_space, seeded, small_field
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from resfields_ngp.backends import tcnn
from resfields_ngp.backends.cpu import CpuBackend
from resfields_ngp.backends.tcnn import TcnnBackend
from resfields_ngp.device_pixels import DevicePixels
from resfields_ngp.encoders import HashGrid4DConfig
from resfields_ngp.field import Field, NetworkConfig
from resfields_ngp.heads import NeusConfig
from resfields_ngp.losses import LossConfig
from resfields_ngp.motion import MOTIONS, MotionConfig
from resfields_ngp.occupancy import OccupancyConfig, _distances_by_scipy, distances_to
from resfields_ngp.resfield import ResFieldConfig
from resfields_ngp.schedules import TrainingConfig
from resfields_ngp.step import hull_step
from resfields_ngp.surface_losses import Place, silhouette
from resfields_ngp.tasks.capture import CaptureTask
from resfields_ngp.trainer import Trainer
from resfields_ngp.transfers import Follower

os.environ["TRITON_INTERPRET"] = "1"  # before anything imports triton
PACKAGE = Path(__file__).parents[1] / "resfields_ngp"
READS = {"_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "_unique2"}
"""Operators whose result, or whose size, the host needs."""
INDEXED = {"index", "index_put", "index_put_", "_index_put_impl_"}
"""Operators that need it where an index is a mask."""


class Device(CpuBackend):
    """The CPU's kernels, which nobody is to wait for."""

    is_asynchronous = True
    step_samples = 600


class TcnnOnCpu(TcnnBackend):
    """The tcnn adapter over stand-ins, whose own waiting says nothing about the packages."""

    step_samples = 600

    def __init__(self) -> None:
        modules = {
            "tinycudann": stand_ins.tinycudann(),
            "nerfacc": stand_ins.nerfacc(),
            "nerfacc.cuda._backend": SimpleNamespace(_C=object()),
        }
        with mock.patch.object(tcnn.importlib, "import_module", modules.__getitem__):
            super().__init__("cpu")


class Waits(TorchDispatchMode):
    """Counts, by the line of the package that asked, what waits for the device."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: Counter[str] = Counter()

    def note(self) -> None:
        """Counts the innermost line of the package, but for what backends do on the CPU."""
        stack = traceback.extract_stack()
        frames = [frame for frame in stack if Path(frame.filename).is_relative_to(PACKAGE)]
        is_simulated = any(
            "backends/cpu" in frame.filename or frame.filename == stand_ins.__file__
            for frame in stack
        )
        if not is_simulated:
            place = frames[-1] if frames else stack[-3]
            self.lines[f"{Path(place.filename).name}: {place.line}"] += 1

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.__name__.split(".")[0]
        indices = (
            args[1] if name in ("index", "index_put", "index_put_", "_index_put_impl_") else ()
        )
        by_mask = any(isinstance(i, Tensor) and i.dtype == torch.bool for i in indices)
        unsized = name == "repeat_interleave" and (kwargs or {}).get("output_size") is None
        if name in READS or by_mask or unsized:
            self.note()
        return function(*args, **(kwargs or {}))


@contextmanager
def counted() -> Iterator[Waits]:
    """Counts also what no operator shows: lists, constants made there, copies that block."""
    waits = Waits()

    def noting(function, condition=lambda args, kwargs: True):
        def noted(*args, **kwargs):
            if condition(args, kwargs):
                waits.note()
            return function(*args, **kwargs)

        return noted

    def blocks(args, kwargs) -> bool:
        moves = any(isinstance(value, torch.device) for value in (*args[1:], *kwargs.values()))
        return moves and not kwargs.get("non_blocking")

    with (
        mock.patch.object(Tensor, "tolist", noting(Tensor.tolist)),
        mock.patch.object(Tensor, "cpu", noting(Tensor.cpu)),
        mock.patch.object(Tensor, "new_tensor", noting(Tensor.new_tensor)),
        mock.patch.object(Tensor, "to", noting(Tensor.to, blocks)),
        mock.patch.object(
            torch, "tensor", noting(torch.tensor, lambda _, named: "device" in named)
        ),
        waits,
    ):
        yield waits


def trainer_of(field: Field, losses: LossConfig, steps: int = 1000) -> Trainer:
    """Returns a trainer of a ball whose every step has all frames."""
    occupancy = ball_occupancy(OccupancyConfig(step=1.0, max_step=0.05))
    capture = ball_capture()
    source = DevicePixels(
        capture, ball_space(), capture.views, True, torch.device("cpu"), budget=1 << 30
    )
    config = TrainingConfig(steps=steps, frames_per_batch=N_FRAMES, warmup_steps=0, max_rays=300)
    return Trainer(config, CaptureTask(config, losses, field, occupancy, source, N_FRAMES))


def field_of(motion: str = "none", head: str = "neus") -> Field:
    """Returns a small field; over four dimensions where it has a motion."""
    if motion == "none":
        return small_field(Device(), head)
    encoder, network = HashGrid4DConfig(n_levels=3, log2_hashmap_size=9), NetworkConfig(16, 1)
    shape = NeusConfig(n_geometry_features=4, n_neurons=16)
    warp = next(config() for config in get_args(MotionConfig) if config().kind == motion)
    residual = ResFieldConfig(rank=2)
    return Field(encoder, network, shape, residual, N_FRAMES, seeded(), Device(), warp)


ALL_LOSSES = LossConfig(area=0.1, curvature=0.1, smoothness=0.1, depth=0.1)


CASES = [("none", "nerf"), *((motion, "neus") for motion in MOTIONS)]


@pytest.mark.parametrize(("motion", "head"), CASES)
def test_a_step_waits_for_nothing_but_the_march(motion: str, head: str):
    trainer = trainer_of(field_of(motion, head), ALL_LOSSES)
    for _ in range(2):  # what is made once, and the step that looks at the losses
        trainer.advance()
    with counted() as waits:
        found = [set(trainer.advance().losses) for _ in range(2)]
    assert not waits.lines
    assert found[0] >= ({"silhouette", "curvature"} if head == "neus" else {"curvature"})


@pytest.mark.parametrize("head", ["neus", "nerf"])
def test_a_step_on_tcnn_waits_for_the_march_only(head: str):
    trainer = trainer_of(small_field(TcnnOnCpu(), head), ALL_LOSSES)
    for _ in range(2):
        trainer.advance()
    with counted() as waits:
        trainer.advance()
    assert set(waits.lines) == {"tcnn_layout.py: offsets = tuple(n_kept[bounds].tolist())"}
    assert sum(waits.lines.values()) == 1


@pytest.mark.parametrize("head", ["neus", "nerf"])
def test_what_is_looked_at_now_and_then_is_fetched_at_once(head: str):
    trainer = trainer_of(field_of(head=head), ALL_LOSSES)
    trainer.advance()
    with counted() as waits:
        for _ in range(20):  # a refresh of the occupancy and a look at the losses
            trainer.advance()
    assert sum(waits.lines.values()) == 1 and "tolist" in next(iter(waits.lines))


def test_the_warm_up_waits_for_nothing():
    field, occupancy = field_of(), ball_occupancy(OccupancyConfig())
    with counted() as waits:
        hull_step(field, occupancy, (0, 2), ALL_LOSSES, 60, seeded())
    assert not waits.lines


def test_the_counter_sees_what_waits():
    field = small_field(CpuBackend("cpu"))
    with counted() as waits:
        trainer_of(field, ALL_LOSSES).advance()
        float(torch.ones(3).sum())
    text = " ".join(waits.lines)
    assert "nonzero" in text and "tolist" in text and "float(" in text


def test_a_march_in_triton_waits_once():
    if importlib.util.find_spec("triton") is None:
        pytest.skip("triton is not installed")
    from resfields_ngp.backends.triton import TritonBackend

    trainer = trainer_of(field_of(), ALL_LOSSES)
    batch = trainer.task.source.draw((0, 2), 12, 0.5, seeded())
    backend = TritonBackend("cpu")
    with counted() as waits:
        samples = trainer.task.occupancy.march(batch.rays, backend, 50.0, None)
    asked = {line: n for line, n in waits.lines.items() if not line.startswith("launching")}
    assert samples.n_samples > 0 and list(asked.values()) == [1], asked


def test_lost_rays_that_are_drawn_pull_like_all_of_them():
    losses = []
    for backend in (Device(), CpuBackend("cpu")):
        field = small_field(backend)
        trainer = trainer_of(field, ALL_LOSSES)
        batch = trainer.task.source.draw((0, 1, 2), 240, 0.7, seeded())
        occupancy = trainer.task.occupancy
        place = Place(field, occupancy, 1.0, seeded())
        losses.append(silhouette(place, batch.rays, batch.masks > 0.5))
        assert silhouette(place, batch.rays, batch.masks > 1.5) == 0.0
    assert losses[1] > 0.0 and torch.allclose(losses[0], losses[1], rtol=0.05)


@pytest.mark.parametrize("n_occupied", [0, 1, 40])
def test_distances_measured_at_once_are_scipys(n_occupied: int):
    occupied = torch.zeros(12**3, dtype=torch.bool)
    occupied[torch.randperm(12**3, generator=seeded())[:n_occupied]] = True
    occupied = occupied.view(12, 12, 12)
    assert torch.allclose(distances_to(occupied), _distances_by_scipy(occupied), atol=1e-6)


@pytest.mark.parametrize("head", ["neus", "nerf"])
def test_a_refresh_of_all_cells_is_that_of_the_chosen_ones(head: str):
    found = []
    for backend in (Device(), CpuBackend("cpu")):
        occupancy = ball_occupancy(OccupancyConfig())
        occupancy.refresh(small_field(backend, head), (0, 2), 0.5, seeded())
        found.append(occupancy.distances)
    assert torch.allclose(found[0], found[1], atol=1e-6)
    assert not torch.equal(found[0], ball_occupancy(OccupancyConfig()).distances)


def test_a_follower_is_one_question_behind():
    follower = Follower()
    assert [follower.known(torch.tensor(x)) for x in (2.0, 3.0, 5.0)] == [2.0, 2.0, 3.0]


def test_a_marked_fraction_is_the_parameters_own():
    field = field_of()
    field.mark_trained(0.25)
    assert field.trained_fraction == 0.25 == float(field.trained)
    field.trained.fill_(0.5)
    assert field.trained_fraction == 0.5
    field.load_state_dict(field_of().state_dict())
    assert field.trained_fraction == 0.0
