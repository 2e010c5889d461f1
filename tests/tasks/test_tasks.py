"""Laws of the tasks of ``fit``: every head trains on every backend; what is fitted is right."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh

from resfields_ngp.backends import Backend, open_backend
from resfields_ngp.datasets.meshes import MeshesConfig, MeshSequence
from resfields_ngp.datasets.video import Clip, ClipConfig
from resfields_ngp.encoders import HashGridConfig, PictureGridConfig, VideoGridConfig
from resfields_ngp.field import NetworkConfig
from resfields_ngp.mesh import Mesh
from resfields_ngp.resfield import ResFieldConfig
from resfields_ngp.schedules import ScheduleConfig
from resfields_ngp.surface_points import PointConfig
from resfields_ngp.tasks import SdfTask, VideoTask
from resfields_ngp.tasks.base import FitTask
from resfields_ngp.tasks.sdf import SdfFitConfig
from resfields_ngp.tasks.video import VideoFitConfig, sampled_moments
from resfields_ngp.trainer import Trainer
from resfields_ngp.video_results import sampled_frame

N_FRAMES, HEIGHT, WIDTH = 4, 18, 24
SCHEDULE = ScheduleConfig(0.0, 8, 2, 256, 0.03, 0.005)


def waves(n_frames: int = N_FRAMES) -> Clip:
    """Returns a clip of travelling colour waves."""
    t, y, x = np.mgrid[:n_frames, :HEIGHT, :WIDTH].astype(float)
    phases = [0.5 * x + t, 0.7 * y - t, 0.3 * (x + y) + 2.0 * t]
    frames = 127.5 + 100.0 * np.sin(np.stack(phases, -1))
    return Clip("waves", frames.round().astype(np.uint8), 25.0)


def balls(n_frames: int = 3) -> MeshSequence:
    """Returns a ball that moves and grows."""
    ball = trimesh.creation.icosphere(3, 1.0)
    vertices, faces = np.asarray(ball.vertices), np.asarray(ball.faces)
    meshes = [Mesh(vertices * (1.0 + 0.2 * i) + [i, 0.0, 0.0], faces) for i in range(n_frames)]
    return MeshSequence("balls", tuple(meshes), tuple(range(n_frames)))


def video_task(backend: Backend, **changes) -> VideoTask:
    config = VideoFitConfig(
        input=ClipConfig("waves"),
        encoder=VideoGridConfig(n_levels=4, log2_hashmap_size=12, base_resolution=6),
        network=NetworkConfig(32, 1, "relu", 0.0),
        residual=ResFieldConfig(rank=2),
        training=SCHEDULE,
    )
    return VideoTask(replace(config, **changes), waves(), backend)


def sdf_task(backend: Backend, **changes) -> SdfTask:
    config = SdfFitConfig(
        input=MeshesConfig("balls"),
        points=PointConfig(pool=2000),
        encoder=HashGridConfig(n_levels=6, log2_hashmap_size=12, n_residuals=1),
        network=NetworkConfig(32, 1, "squareplus", 0.0),
        residual=ResFieldConfig(rank=2),
        training=SCHEDULE,
    )
    return SdfTask(replace(config, **changes), balls(), backend)


TASKS = {"video": video_task, "sdf": sdf_task}


def trained(task: FitTask, schedule: ScheduleConfig) -> Trainer:
    trainer = Trainer(schedule, task)
    while trainer.fraction < 1.0:
        trainer.advance()
    return trainer


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("name", TASKS)
def test_every_task_trains_on_every_backend(name: str, backend: str):
    task = TASKS[name](open_backend(backend, "cpu"))
    trainer = Trainer(SCHEDULE, task)
    losses = [sum(v.item() for v in trainer.advance().losses.values()) for _ in range(8)]
    assert min(losses[-2:]) < losses[0]
    for parameter_name, value in task.field.named_parameters():
        assert torch.isfinite(value).all(), parameter_name


@pytest.mark.parametrize("name", TASKS)
def test_a_restored_task_goes_on_as_if_it_had_not_stopped(name: str):
    backend = open_backend("cpu", "cpu")
    straight = trained(TASKS[name](backend), SCHEDULE)
    first, second = (Trainer(SCHEDULE, TASKS[name](backend)) for _ in range(2))
    for _ in range(3):
        first.advance()
    tensors, scalars = first.state()
    second.restore({key: value.clone() for key, value in tensors.items()}, {"step": 3} | scalars)
    while second.fraction < 1.0:
        second.advance()
    expected = straight.task.field.state_dict()
    for key, value in second.task.field.state_dict().items():
        assert torch.equal(value, expected[key]), key


@pytest.mark.parametrize(
    "encoder",
    [
        VideoGridConfig(n_levels=4, log2_hashmap_size=14, base_resolution=8),
        PictureGridConfig(n_levels=4, log2_hashmap_size=12, base_resolution=8, n_residuals=3),
    ],
    ids=lambda config: config.kind,
)
def test_a_tiny_clip_is_fitted_past_40_db(encoder):
    schedule = ScheduleConfig(0.0, 300, N_FRAMES, N_FRAMES * HEIGHT * WIDTH, 0.03, 0.01)
    clip_config = ClipConfig("waves", held_out="none")
    task = video_task(
        open_backend("cpu", "cpu"), encoder=encoder, training=schedule, input=clip_config
    )
    trained(task, schedule)
    found = np.stack([sampled_frame(task.field, (HEIGHT, WIDTH), i) for i in range(N_FRAMES)])
    error = ((found - waves().frames / 255.0) ** 2).mean()
    assert -10.0 * np.log10(error) > 40.0
    assert task.held_out_psnr() is None


def test_held_out_pixels_never_reach_a_step():
    task = video_task(open_backend("cpu", "cpu"))
    task.clip.frames[:] = 0
    before = task.clip.frames.reshape(N_FRAMES, -1, 3)
    before[task._held_out] = 255  # a step that saw one would see white
    assert (~task._held_out).sum() == N_FRAMES * (HEIGHT * WIDTH - int(0.1 * HEIGHT * WIDTH))
    targets = []
    compare = task._compare

    def recording(*arguments):
        found = compare(*arguments)
        targets.append(found[1])
        return found

    task._compare = recording
    trained(task, SCHEDULE)
    assert len(targets) == 8 and not torch.cat(targets).any()


def test_unseen_frames_are_never_drawn_and_lie_between_time_slices():
    config = ClipConfig("waves", held_out="unseen_time", held_out_fraction=0.5)
    task = video_task(open_backend("cpu", "cpu"), input=config)
    unseen = np.flatnonzero(task._held_out.all(1))
    assert len(unseen) == 2 and task.field.encoder.spec.time_resolutions == (2,) * 4
    assert task.step(tuple(unseen.tolist()), 0, 0.0, torch.Generator()).losses == {}
    trained(task, SCHEDULE)
    assert task.held_out_psnr() is not None


def test_a_video_is_sampled_at_any_size_and_between_frames():
    task = video_task(
        open_backend("cpu", "cpu"), residual=ResFieldConfig(rank=0), network=NetworkConfig(16, 0)
    )
    trained(task, SCHEDULE)
    assert sampled_frame(task.field, (7, 31), 0).shape == (7, 31, 3)
    # One matrix over features that are linear in time: half way is the mean.
    one, middle, two = (sampled_frame(task.field, (9, 12), at) for at in (1, 1.5, 2))
    inside = (one > 0) & (one < 1) & (two > 0) & (two < 1)
    assert np.allclose(middle[inside], ((one + two) / 2)[inside], atol=1e-5)


def test_twice_the_speed_samples_half_way_between_frames():
    assert sampled_moments(5, 25.0, 25.0).tolist() == [0, 1, 2, 3, 4]
    assert sampled_moments(5, 24.0, 12.0).tolist() == [0, 2, 4]
    assert sampled_moments(1, 25.0, 100.0).tolist() == [0]


def test_surface_points_lie_on_the_surface_and_others_have_their_distance():
    task = sdf_task(open_backend("cpu", "cpu"))
    positions, distances, slices = task.points.draw((0, 2), 4000, torch.Generator().manual_seed(0))
    for i, begin, end in slices:
        frame = slices.frames[i]
        world = task.space.to_world(positions[begin:end].double().numpy(), int(frame))
        radii = np.linalg.norm(world - [frame, 0.0, 0.0], axis=1)
        expected = (radii - (1.0 + 0.2 * frame)) / task.space.scale
        # Facets lie up to 0.6 % of the radius inside the ball.
        assert np.allclose(distances[begin:end].numpy(), expected, atol=0.004)
    on_surface = (distances == 0.0).float().mean()
    assert on_surface == pytest.approx(task.config.points.surface, abs=0.01)


def test_a_fitted_ball_has_its_radius_where_it_is():
    schedule = ScheduleConfig(0.0, 250, 3, 2048, 0.01, 0.005)
    task = sdf_task(open_backend("cpu", "cpu"), training=schedule)
    trained(task, schedule)
    for frame in range(3):
        directions = np.random.default_rng(1).normal(size=(500, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        surface = directions * (1.0 + 0.2 * frame) + [frame, 0.0, 0.0]
        positions = torch.from_numpy(task.space.to_model(surface, frame)).float()
        assert task.field.sdfs(positions, frame).abs().mean() < 0.01


def test_the_box_follows_the_surface():
    task = sdf_task(open_backend("cpu", "cpu"))
    for frame, mesh in enumerate(task.sequence.meshes):
        model = task.space.to_model(mesh.vertices, frame)
        assert model.min() > 0.03 and model.max() < 0.97
        assert np.allclose((model.min(0) + model.max(0)) / 2.0, 0.5, atol=1e-9)
