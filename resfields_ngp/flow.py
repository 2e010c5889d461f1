"""Scene flow: where the points of the first frame go, and where those of a frame come from.

Vocabulary
    forward    from the first frame to another: where a point of the first frame lies then.
    backward   from a frame to the first: where a point of that frame lay then.
    motion     the distance of a point from where it lies at the first frame.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .backends.base import Backend
from .config_tree import ConfigError
from .field import TimeField
from .mesh import Mesh
from .model_space import ModelSpace
from .motion import MOTIONS, Motion, MotionConfig, MotionNetworkConfig, jets
from .records import FrameSlices
from .resfield import ResFieldConfig

FLOW_MOTIONS = ("offset", "se3", "invertible", "dct")
"""Motion models that make a flow: those whose warp is the whole model."""
RELEASE_END = 0.3
"""Fraction of training by which the motion network sees all its octaves."""
MARGIN = 0.05
"""Empty border around the sequence in model space, as a part of the box."""


class FlowField(TimeField):
    """Flow both ways between the first frame and every other.

    Models that can be led back use one set of parameters, the others two networks.
    """

    def __init__(
        self,
        motion: MotionConfig,
        residual: ResFieldConfig,
        n_frames: int,
        generator: torch.Generator,
        backend: Backend,
    ) -> None:
        super().__init__()
        check_flow_motion(motion)
        self.backend, self.residual = backend, residual
        make: Any = MOTIONS[motion.kind]
        self.to_first: Motion = make(motion, n_frames, residual, generator)
        if not self.to_first.is_two_way:
            self.from_first: Motion = make(motion, n_frames, residual, generator)

    def backward_flow(
        self,
        positions: Tensor,  # (N, 3) model space, points of the frames of `slices`
        slices: FrameSlices,
        fraction: float,
    ) -> Tensor:  # (N, 3)
        """Returns where points lay at the first frame; differentiable."""
        here = jets.of_positions(positions, 0)
        return self.to_first(here, slices, self.backend, _released(fraction)).positions[:, 0]

    def forward_flow(
        self,
        positions: Tensor,  # (N, 3) model space, points of the first frame
        slices: FrameSlices,
        fraction: float,
    ) -> Tensor:  # (N, 3)
        """Returns where points of the first frame lie at the frames of `slices`; differentiable."""
        here, released = jets.of_positions(positions, 0), _released(fraction)
        if self.to_first.is_two_way:
            return self.to_first.from_reference(here, slices, self.backend, released)[:, 0]
        return self.from_first(here, slices, self.backend, released).positions[:, 0]


def _released(fraction: float) -> float:
    return min(1.0, fraction / RELEASE_END)


def check_flow_motion(motion: MotionConfig) -> None:
    """Checks that a motion model makes a flow.

    Raises:
        ConfigError: It does not; the message names those that do.
    """
    if motion.kind not in FLOW_MOTIONS:
        raise ConfigError(
            f"motion.kind is {motion.kind}; scene flow needs a model whose warp is all: "
            f"allowed: {', '.join(FLOW_MOTIONS)}"
        )


def with_network(motion: MotionConfig, network: MotionNetworkConfig) -> MotionConfig:
    """Returns a flow's motion model with another network.

    Raises:
        ConfigError: The model makes no flow.
    """
    check_flow_motion(motion)
    return dataclasses.replace(motion, **{"network": network})


def flow_space(
    vertices: np.ndarray,  # (n_frames, V, 3) world
) -> ModelSpace:
    """Returns model space around all frames of a sequence, the same for each, with a border."""
    points = vertices.reshape(-1, 3).astype(np.float64)
    low, high = points.min(0), points.max(0)
    scale = max(float((high - low).max()) / (1.0 - 2.0 * MARGIN), 1e-12)
    world_from_model = np.diag([scale, scale, scale, 1.0])
    world_from_model[:3, 3] = 0.5 * (low + high - scale)
    return ModelSpace(world_from_model, np.zeros((len(vertices), 3)))


@torch.no_grad()
def advected(
    field: FlowField, space: ModelSpace, positions: np.ndarray, frame: int
) -> np.ndarray:  # (N, 3)
    """Returns (N, 3) world points of the first frame as they lie at another. No gradients."""
    return _in_parts(field.forward_flow, field, space, positions, frame)


@torch.no_grad()
def retraced(
    field: FlowField, space: ModelSpace, positions: np.ndarray, frame: int
) -> np.ndarray:  # (N, 3)
    """Returns (N, 3) world points of a frame as they lay at the first. No gradients."""
    return _in_parts(field.backward_flow, field, space, positions, frame)


def _in_parts(
    flow: Any, field: FlowField, space: ModelSpace, positions: np.ndarray, frame: int
) -> np.ndarray:
    """Returns moved world points, in bounded memory; the space is the same at every frame."""
    model = torch.from_numpy(space.to_model(positions, frame).astype(np.float32))
    model = model.to(field.backend.device)
    parts = model.split(field.backend.query_rows)
    slices = [FrameSlices.single(frame, len(part)) for part in parts]
    pairs = zip(parts, slices, strict=True)
    moved = torch.cat([flow(*pair, field.trained_fraction) for pair in pairs])
    return space.to_world(moved.double().cpu().numpy(), frame)


@dataclass(frozen=True)
class RidingPoints:
    """Points that ride on triangles, so that their place is known at every frame."""

    triangles: np.ndarray
    """(N, 3) vertex numbers."""
    weights: np.ndarray
    """(N, 3) barycentric."""

    def at(
        self,
        vertices: np.ndarray,  # (V, 3)
    ) -> np.ndarray:  # (N, 3)
        """Returns where the points lie when the vertices lie so."""
        return np.einsum("nk,nkc->nc", self.weights, vertices[self.triangles])


def draw_points(
    faces: np.ndarray,  # (F, 3)
    areas: np.ndarray,  # (F,) chances, in any unit
    uniform: np.ndarray,  # (N, 3) in [0, 1)
) -> RidingPoints:
    """Draws N points uniformly by area from three uniform numbers each."""
    bounds = np.cumsum(areas) / areas.sum()
    chosen = np.minimum(np.searchsorted(bounds, uniform[:, 0], side="right"), len(faces) - 1)
    root, part = np.sqrt(uniform[:, 1]), uniform[:, 2]
    weights = np.stack([1.0 - root, root * (1.0 - part), root * part], axis=1)
    return RidingPoints(faces[chosen], weights)


def advected_mesh(field: FlowField, space: ModelSpace, mesh: Mesh, frame: int) -> Mesh:
    """Returns a mesh of the first frame, world units, as it is at another; same connectivity."""
    vertices = advected(field, space, np.asarray(mesh.vertices, np.float64), frame)
    return Mesh(vertices, mesh.faces, None, mesh.colours)
