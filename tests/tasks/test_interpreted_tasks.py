"""Every task of ``fit`` trains on the Triton backend, in Triton's interpreter."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh
from interpreted import EXACT

from resfields_ngp.backends import Backend, open_backend
from resfields_ngp.datasets.meshes import MeshesConfig, MeshSequence
from resfields_ngp.datasets.video import Clip, ClipConfig
from resfields_ngp.encoders import HashGridConfig, VideoGridConfig
from resfields_ngp.field import NetworkConfig
from resfields_ngp.mesh import Mesh
from resfields_ngp.motion import MotionNetworkConfig, OffsetConfig
from resfields_ngp.resfield import ResFieldConfig
from resfields_ngp.schedules import ScheduleConfig
from resfields_ngp.surface_points import PointConfig
from resfields_ngp.tasks import TASKS
from resfields_ngp.tasks.base import FitTask
from resfields_ngp.tasks.flow import FlowFitConfig
from resfields_ngp.tasks.sdf import SdfFitConfig
from resfields_ngp.tasks.video import VideoFitConfig
from resfields_ngp.trainer import Trainer

SCHEDULE = ScheduleConfig(0.0, 8, 2, 64, 0.03, 0.005)
NETWORK = NetworkConfig(16, 1, "squareplus", 0.0)
RESIDUAL = ResFieldConfig(rank=2)


def balls() -> MeshSequence:
    """Returns a ball that moves and grows, of the same triangles."""
    ball = trimesh.creation.icosphere(1, 1.0)
    vertices, faces = np.asarray(ball.vertices), np.asarray(ball.faces)
    meshes = [Mesh(vertices * (1.0 + 0.2 * i) + [i, 0.0, 0.0], faces) for i in range(3)]
    return MeshSequence("balls", tuple(meshes), (0, 1, 2))


def opened(name: str, backend: Backend) -> FitTask:
    """Returns a tiny task."""
    shared = {"residual": RESIDUAL, "training": SCHEDULE}
    if name == "video":
        frames = np.random.default_rng(0).integers(0, 255, (3, 8, 8, 3), np.uint8)
        encoder = VideoGridConfig(n_levels=2, log2_hashmap_size=8, base_resolution=4)
        config = VideoFitConfig(ClipConfig("c"), encoder=encoder, network=NETWORK, **shared)
        return TASKS[name](config, Clip("noise", frames, 25.0), backend)
    if name == "sdf":
        encoder = HashGridConfig(n_levels=2, log2_hashmap_size=8, n_residuals=1)
        parts = {"points": PointConfig(pool=200), "encoder": encoder, "network": NETWORK}
        return TASKS[name](SdfFitConfig(MeshesConfig("b"), **parts, **shared), balls(), backend)
    motion = {"motion": OffsetConfig(), "network": MotionNetworkConfig(n_levels=2)}
    return TASKS[name](FlowFitConfig(MeshesConfig("b"), **motion, **shared), balls(), backend)


@pytest.mark.parametrize("name", TASKS)
def test_a_task_takes_the_same_steps_as_on_the_reference(name: str):
    backends = (EXACT, open_backend("reference", "cpu"))
    trainers = [Trainer(SCHEDULE, opened(name, backend)) for backend in backends]
    for _ in range(2):
        losses = [sum(trainer.advance().losses.values()) for trainer in trainers]
        assert torch.allclose(*losses, rtol=1e-4)
    fresh = dict(opened(name, backends[1]).field.named_parameters())
    learnt = dict(trainers[0].task.field.named_parameters())
    assert all(torch.isfinite(value).all() for value in learnt.values())
    assert any(not torch.equal(value, fresh[each]) for each, value in learnt.items())
