"""The CPU kernels of meshing, compiled while a GPU trains.

The processes that mesh all start at once, and where numba's cache is empty, as in a new container,
each would compile the same kernels for itself first: 17 s of a core.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from typing import TYPE_CHECKING

import numpy as np
import torch

from .backends import Backend, open_backend
from .carving import mask_distances
from .field import Field
from .mesh import Mesh
from .outline_fitting import fit_outlines
from .outlines import Outline
from .workers import deaf_to_interrupts

if TYPE_CHECKING:
    from .config import Config

_SIDE, _FOCAL, _DISTANCE = 48, 48.0, 3.0  # of the picture: pixels, pixels, and the ball's radii
_COUNT = 64  # points


def compile_beside(backend: Backend, config: Config, n_frames: int) -> None:
    """Starts a process that compiles what meshing needs, where a GPU leaves the CPU idle.

    It ends by itself, or with this one.

    Args:
        backend: What trains.
        config: All settings.
        n_frames: Frames that are fitted.
    """
    if backend.device.type == "cuda" and backend.name != "reference":
        context = multiprocessing.get_context("spawn")
        # Whoever presses Ctrl-C stops the training; this has nothing to say about it.
        with deaf_to_interrupts():
            arguments = (config, n_frames)
            context.Process(target=_compile_politely, args=arguments, daemon=True).start()


def _compile_politely(config: Config, n_frames: int) -> None:
    os.nice(10)
    # What cannot be compiled here cannot be later, and whoever needs it then says so.
    with contextlib.suppress(Exception):
        compile_meshing(config, n_frames)


def compile_meshing(config: Config, n_frames: int) -> None:
    """Lets numba compile all that meshing a run calls, or read it from its cache."""
    _ask_field(config, n_frames)
    _meet_outline()


def _ask_field(config: Config, n_frames: int) -> None:
    """Asks a fresh field for everything that a mesh is made of."""
    parts = (config.encoder, config.network, config.head, config.residual)
    field = Field(*parts, n_frames, torch.Generator(), open_backend("cpu", "cpu"), config.motion)
    positions = torch.linspace(0.1, 0.9, 3 * _COUNT).view(_COUNT, 3)
    field.sdfs(positions, 0)
    field.normals(positions, 0)
    field.rgbs(positions, 0, None)


def _meet_outline() -> None:
    """Fits a ball to the mask of a slightly larger one."""
    import trimesh

    centre = _SIDE / 2
    camera = np.array([[_FOCAL, 0, centre], [0, _FOCAL, centre], [0, 0, 1]])
    pose = np.column_stack([np.eye(3), [0, 0, _DISTANCE]])
    rows, columns = np.indices((_SIDE, _SIDE)) + 0.5
    mask = np.hypot(rows - centre, columns - centre) < 1.1 * _FOCAL / _DISTANCE
    ball = trimesh.creation.icosphere(2)
    mesh = Mesh(np.asarray(ball.vertices, np.float32), np.asarray(ball.faces))
    fit_outlines(mesh, [Outline(mask_distances(mask), camera @ pose)], 4.0)
