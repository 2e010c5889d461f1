"""One mesh a frame from a reconstruction: isosurface, floaters dropped, colours, world units."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor

from .isosurface import isosurface
from .manifest import Manifest
from .mesh import Mesh, largest_components, statistics
from .mesh_files import write_mesh
from .records import ModelSpace
from .surfaces import FittedSurfaces

if TYPE_CHECKING:
    from .reconstruction import Reconstruction


@dataclass(frozen=True)
class MeshingConfig:
    """How surfaces are extracted and which of their parts are kept."""

    resolution: int = 256
    """Cells along the model box's side, 16 to 1024; memory grows with its cube: 0.6 GB at 512."""
    formats: tuple[Literal["ply", "obj", "glb"], ...] = ("ply",)
    """File formats to write, any of ply (binary), obj and glb."""
    frames: str = "::"
    """Frames to mesh, as start:stop:stride over the frames that were fitted."""
    level: float = 0.0
    """Signed distance of the surface, model units; positive swells it."""
    keep_fraction: float = 0.02
    """Components whose area is below this fraction of the largest one's are dropped, 0 to 1."""
    keep_largest: int = 0
    """Keep at most so many components, the largest; 0 for no limit."""
    margin: float = 2.0
    """How far outside the occupied region the surface may lie, in cells of the occupancy grid."""
    refine: bool = True
    """Move vertices onto the field's own zero along its normals, by one secant step."""
    colours: bool = True
    """Write vertex colours."""

    def __post_init__(self) -> None:
        if not 16 <= self.resolution <= 1024:
            raise ValueError(f"meshing.resolution is {self.resolution}; allowed: 16 to 1024")
        if not 0 <= self.keep_fraction <= 1:
            raise ValueError(f"meshing.keep_fraction is {self.keep_fraction}; allowed: 0 to 1")
        if self.keep_largest < 0:
            raise ValueError(f"meshing.keep_largest is {self.keep_largest}; allowed: 0 or more")
        if not self.formats:
            raise ValueError("meshing.formats is empty; give at least one of ply, obj, glb")


class MeshingError(ValueError):
    """Some frames have no surface; the message names them."""


def export_meshes(
    reconstruction: Reconstruction | FittedSurfaces,
    run: Path,
    config: MeshingConfig,
    source: str = "",
    report: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Writes ``meshes/%06d.<format>`` for each frame and ``manifest.json``; done frames are
    skipped.

    Args:
        reconstruction: What was fitted.
        run: The run folder.
        config: How.
        source: Names the weights, such as the checkpoint's step. Meshes of another source or of
            other settings are made again.
        report: Called with the number of frames done and of all frames.

    Returns:
        The files of the frames asked for, in order of frames; the first format of each.

    Raises:
        MeshingError: Frames without a surface, after all others were written.
        OSError: A file could not be written; those before it are whole.
    """
    frames = selected_frames(config.frames, reconstruction.n_frames)
    settings = {"source": source, **asdict(config)}
    for irrelevant in ("frames", "formats"):
        del settings[irrelevant]
    manifest = Manifest.open(run, reconstruction, settings)
    files, empty = [], []
    for done, frame in enumerate(frames):
        number = reconstruction.frame_numbers[frame]
        paths = [run / "meshes" / f"{number:06d}.{suffix}" for suffix in config.formats]
        if not manifest.has(number, paths):
            mesh = extract_mesh(reconstruction, frame, config)
            manifest.drop_outdated(number)
            if mesh.n_faces == 0:
                empty.append(number)
            else:
                for path in paths:
                    write_mesh(mesh, path)
                manifest.add(number, paths, statistics(mesh), reconstruction.space.offsets[frame])
        if number not in empty:
            files.append(paths[0])
        if report is not None:
            report(done + 1, len(frames))
    if empty:
        numbers = ", ".join(map(str, empty))
        raise MeshingError(
            f"{run}: no surface in frames {numbers} ({len(empty)} of {len(frames)}), the others "
            "were meshed; train for longer, or look at these frames' masks with `inspect`"
        )
    return files


def extract_mesh(
    reconstruction: Reconstruction | FittedSurfaces, frame: int, config: MeshingConfig
) -> Mesh:
    """Extracts one frame's surface in world units; empty if the field has none.

    Args:
        reconstruction: What was fitted.
        frame: Index of the frame among those fitted.
        config: How.
    """
    field = reconstruction.field
    occupancy = reconstruction.occupancy
    device = "cpu" if occupancy is None else occupancy.distances.device

    def on_device(positions: np.ndarray) -> Tensor:
        return torch.as_tensor(positions, dtype=torch.float32, device=device)

    def sdfs(positions: np.ndarray) -> np.ndarray:
        return (field.sdfs(on_device(positions), frame) - config.level).float().cpu().numpy()

    def outside(positions: np.ndarray) -> np.ndarray:
        assert occupancy is not None
        grid = occupancy.distances[frame].float()
        found = trilinear(grid, on_device(positions)) - config.margin / grid.shape[0]
        return found.cpu().numpy()

    known = None if occupancy is None else outside
    vertices, faces = isosurface(sdfs, config.resolution, known)
    mesh = largest_components(Mesh(vertices, faces), config.keep_fraction, config.keep_largest)
    if mesh.n_faces == 0:
        return mesh
    positions = on_device(mesh.vertices)
    normals = field.normals(positions, frame)
    if config.refine:
        positions = secant_step(
            lambda points: field.sdfs(points, frame) - config.level,
            positions,
            normals,
            1 / config.resolution,
        )
        normals = field.normals(positions, frame)
    colours = None
    if config.colours and not isinstance(reconstruction, FittedSurfaces):
        colours = reconstruction.field.rgbs(positions, frame, None)
    return _in_world(reconstruction.space, frame, mesh.faces, positions, normals, colours)


def _in_world(
    space: ModelSpace,
    frame: int,
    faces: np.ndarray,
    positions: Tensor,
    normals: Tensor,
    colours: Tensor | None,
) -> Mesh:
    """Returns a mesh in world units from a frame's vertices in model space."""
    rotation = space.world_from_model[:3, :3] / space.scale
    vertices = space.to_world(positions.double().cpu().numpy(), frame)
    turned = normals.double().cpu().numpy() @ rotation.T
    rgbs = None
    if colours is not None:
        rgbs = (colours.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    return Mesh(vertices, faces, turned, rgbs)


def secant_step(
    sdfs: Callable[[Tensor], Tensor],
    positions: Tensor,  # (N, 3) model space
    normals: Tensor,  # (N, 3) unit
    cell: float,
) -> Tensor:
    """Moves points along their normals to where a line through two values of the field is zero.

    Two values rather than the gradient's length, which heads without a metric do not have. A step
    is never longer than a quarter of a cell, so that triangles do not fold over.

    Returns:
        (N, 3) positions.
    """
    probe = 0.25 * cell
    here = sdfs(positions)
    slopes = (sdfs(positions + probe * normals) - here) / probe
    steps = torch.where(slopes > 1e-6, -here / slopes.clamp(min=1e-6), torch.zeros_like(here))
    return positions + steps.clamp(-probe, probe)[:, None] * normals


def trilinear(
    grid: Tensor,  # (G, G, G) values at cell centres, indexed [x, y, z]
    positions: Tensor,  # (N, 3) in [0, 1]^3
) -> Tensor:
    """Returns (N,) interpolated values; beyond the outermost centres the nearest one's."""
    # grid_sample calls the last axis of its volume x.
    points = (positions.flip(-1) * 2 - 1).view(1, 1, 1, -1, 3)
    found = functional.grid_sample(
        grid[None, None], points, mode="bilinear", padding_mode="border", align_corners=False
    )
    return found.view(-1)


def selected_frames(text: str, n_frames: int) -> range:
    """Returns the frames that ``start:stop:stride`` means among `n_frames`, as Python slices do.

    Raises:
        ValueError: The text is not of that form, or selects nothing.

    >>> list(selected_frames("1::2", 6))
    [1, 3, 5]
    """
    parts = text.split(":")
    try:
        numbers = [int(part) if part else None for part in parts]
        if len(numbers) == 1 and numbers[0] is not None:
            numbers = [numbers[0], numbers[0] + 1 or None]
        chosen = range(n_frames)[slice(*numbers)]
    except (TypeError, ValueError):
        raise ValueError(
            f"meshing.frames is '{text}'; allowed: start:stop:stride, such as 0:10:2"
        ) from None
    if not len(chosen):
        raise ValueError(f"meshing.frames '{text}' selects none of the {n_frames} frames fitted")
    return chosen
