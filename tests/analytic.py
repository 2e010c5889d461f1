"""A reconstruction whose field is known in closed form: a sphere that moves, in a turned world."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from resfields_ngp.cameras import Cameras, look_at
from resfields_ngp.model_space import ModelSpace


class SphereField:
    """A sphere in the middle of model space, coloured by its normal; `empty` frames are void."""

    def __init__(self, radius: float = 0.3, empty: tuple[int, ...] = (), floater: bool = False):
        self.radius = radius
        self.empty = empty
        self.floater = floater
        self.n_evaluations = 0
        self.backend = SimpleNamespace(device=torch.device("cpu"))

    def sdfs(self, positions: Tensor, frame: int) -> Tensor:
        self.n_evaluations += len(positions)
        if frame in self.empty:
            return torch.ones(len(positions))
        found = (positions - 0.5).norm(dim=1) - self.radius
        if self.floater:
            found = torch.minimum(found, (positions - 0.88).norm(dim=1) - 0.04)
        return found

    def normals(self, positions: Tensor, frame: int) -> Tensor:
        return torch.nn.functional.normalize(positions - 0.5, dim=1)

    head = SimpleNamespace(n_tangents=0)
    """Pictures of it are cut out by their opacities."""

    def rgbs(self, positions: Tensor, frame: int, directions: Tensor | None = None) -> Tensor:
        return self.normals(positions, frame) * 0.5 + 0.5


def similarity(scale: float = 2.5, seed: int = 0) -> np.ndarray:
    """Returns a (4, 4) transform with a random rotation, a scale and a translation."""
    rotation = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    matrix = np.eye(4)
    matrix[:3, :3] = scale * rotation * np.sign(np.linalg.det(rotation))
    matrix[:3, 3] = (3.0, -1.0, 2.0)
    return matrix


def sphere_reconstruction(n_frames: int = 2, scale: float = 2.5, **field: Any) -> Any:
    """Returns a stand-in for `Reconstruction` whose sphere moves by 0.1 model units a frame."""
    space = ModelSpace(similarity(scale), np.linspace(0, 0.1, n_frames)[:, None] * [1.0, 0, 0])
    return SimpleNamespace(
        field=SphereField(**field),
        occupancy=SimpleNamespace(distances=torch.full((n_frames, 8, 8, 8), -1.0)),
        space=space,
        frame_numbers=tuple(range(3, 3 + n_frames)),
        world_from_normalised=similarity(1.5),
        background=0.0,
        outlines=None,
        surface_level=0.0,
        n_frames=n_frames,
    )


def ring_of_cameras(
    centre: np.ndarray, distance: float, n_frames: int, azimuth: float = 0.0, size: int = 64
) -> Cameras:
    """Returns a camera that looks at `centre` from a place on a ring, +y up."""
    eye = centre + distance * np.array([np.sin(azimuth), 0.3, np.cos(azimuth)])
    pose = look_at(eye, centre, np.array([0.0, 1.0, 0.0]))
    matrix = np.array([[1.6 * size, 0, size / 2], [0, 1.6 * size, size / 2], [0, 0, 1.0]])
    shape = (n_frames, 1, 1)
    return Cameras(np.tile(matrix, shape), np.tile(pose, shape), size, size)
