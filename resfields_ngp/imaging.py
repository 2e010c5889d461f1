"""Pictures of a reconstruction: a camera's frames as PNG files and video, and a ride around it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np
import torch

from .cameras import Cameras
from .datasets.base import Capture, View
from .extraction import MeshingConfig
from .orbit import orbit
from .pictures import Picture, PictureFolder
from .records import FrameSlices, Rays
from .rendering import render
from .subject_masks import FrameMeshes, covered_shares

if TYPE_CHECKING:
    from .reconstruction import Reconstruction


@dataclass(frozen=True)
class ImagingConfig:
    """Which pictures are made of a reconstruction."""

    cameras: tuple[str, ...] = ()
    """Cameras to render, by name; empty takes the held-out one, or without one the first."""
    edges: Literal["auto", "mesh", "mask", "soft"] = "auto"
    """Where pictures end. mesh, mask: as in images cut out by a binary mask, a pixel that counts as
    covered, by the frame's mesh or by its own opacity, shows the subject alone and any other the
    background. soft: blended. auto: mesh where the capture has masks and the head a signed
    distance, mask for a density, soft without masks; the orbit is always soft."""
    coverage: float = 0.3
    """Part of a pixel that is covered by the mesh, in ninths, or opacity, from which it counts,
    above 0 and below 1. 0.5 fits outlines best; less loses less of the subject and shows more
    beside it."""
    video: bool = True
    """Write an mp4 beside the pictures of each camera."""
    frames_per_second: float = 12.0
    """Speed of the videos, above 0."""
    orbit_pictures: int = 48
    """Pictures of a ride around the subject while time runs; 0 for no ride."""
    orbit_size: int = 256
    """Longer side of the ride's pictures, pixels, 16 or more."""

    def __post_init__(self) -> None:
        if self.frames_per_second <= 0:
            raise ValueError(
                f"imaging.frames_per_second is {self.frames_per_second}; allowed: above 0"
            )
        if self.orbit_pictures < 0:
            raise ValueError(f"imaging.orbit_pictures is {self.orbit_pictures}; allowed: 0 or more")
        if self.orbit_size < 16:
            raise ValueError(f"imaging.orbit_size is {self.orbit_size}; allowed: 16 or more")
        if not 0 < self.coverage < 1:
            raise ValueError(f"imaging.coverage is {self.coverage}; allowed: above 0, below 1")


Cut = Callable[[np.ndarray], np.ndarray]
"""From opacities (H, W) to which pixels show the subject, (H, W) bool."""
_LEAST_OPACITY = 0.2
"""Of a pixel whose colour is known; one that is cut out and has less takes its neighbour's."""


def render_view(
    reconstruction: Reconstruction, cameras: Cameras, frame: int, cut: Cut | None = None
) -> Picture:
    """Renders all pixels of a camera at one frame.

    Args:
        reconstruction: What was fitted.
        cameras: The camera; its frames are those fitted.
        frame: Index of the frame among those fitted.
        cut: Which pixels show the subject alone, the others nothing; None blends them.
    """
    rows, columns = np.mgrid[: cameras.height, : cameras.width] + 0.5
    pixels = np.stack([columns.ravel(), rows.ravel()], axis=1)
    origins, directions = cameras.rays(pixels, frame, reconstruction.space)
    device = reconstruction.occupancy.distances.device
    rays = Rays(
        torch.from_numpy(origins).to(device),
        torch.from_numpy(directions).to(device),
        FrameSlices.single(frame, len(pixels)),
    )
    seen = render(reconstruction.field, reconstruction.occupancy, rays, reconstruction.background)
    height, width = cameras.height, cameras.width
    rgbs, opacities, depths, normals = (
        values.float().cpu().numpy().reshape(height, width, -1)
        for values in (seen.rgbs, seen.opacities, seen.depths, seen.normals)
    )
    covered = opacities > 0.5 if cut is None else cut(opacities[..., 0])[..., None]
    depths = depths / np.maximum(opacities, _LEAST_OPACITY)
    if cut is not None:
        rgbs = rgbs / np.maximum(opacities, _LEAST_OPACITY)
        is_known = opacities[..., 0] >= _LEAST_OPACITY
        rgbs, depths, normals = (
            np.where(covered, _from_nearest(values, is_known), 0)
            for values in (rgbs, depths, normals)
        )
    rotation = reconstruction.space.world_from_model[:3, :3] / reconstruction.space.scale
    normals = normals @ rotation.T
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-9)
    return Picture(
        np.clip(rgbs, 0, 1),
        opacities[..., 0],
        (np.where(covered, depths, 0) * reconstruction.space.scale)[..., 0].astype(np.float32),
        (normals * covered).astype(np.float32),
    )


def _from_nearest(
    values: np.ndarray,  # (H, W, C)
    is_known: np.ndarray,  # (H, W) bool
) -> np.ndarray:  # (H, W, C)
    """Returns values where they are known, and the nearest known ones elsewhere."""
    if is_known.all() or not is_known.any():
        return values
    unknown = (~is_known).astype(np.uint8)
    found = cv2.distanceTransformWithLabels(unknown, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    labels = np.asarray(found[1], np.int64)
    nearest = np.zeros((labels.max() + 1, values.shape[2]), values.dtype)
    nearest[labels[is_known]] = values[is_known]
    return nearest[labels]


@dataclass(frozen=True)
class Shot:
    """One picture to be made."""

    folder: str
    """The camera's name, or orbit."""
    stem: str
    """The file's name without suffix."""
    cameras: Cameras
    """Where from."""
    frame: int
    """Which frame of those fitted."""


def write_renders(
    reconstruction: Reconstruction,
    capture: Capture,
    run: Path,
    config: ImagingConfig,
    source: str = "",
    report: Callable[[int, int], None] | None = None,
    meshing: MeshingConfig | None = None,
) -> list[Path]:
    """Writes ``renders/<camera>/{rgb,depth,normal,mask}/%06d.png``, ``rgb.mp4`` and ``orbit`` so.

    What the pixels mean is said by `PictureFolder`. Pictures of the same source and settings that
    are there already are not made again.

    Args:
        reconstruction: What was fitted.
        capture: Where the cameras are.
        run: The run folder.
        config: Which pictures.
        source: Names the weights, such as the checkpoint's step.
        report: Called with the number of pictures done and of all pictures.
        meshing: How meshes are made that cut pictures out and that the run does not hold.

    Returns:
        The folders of the cameras, then that of the orbit.

    Raises:
        ValueError: A camera asked for is not in the capture.
        OSError: A file could not be written; those before it are whole.
    """
    shots = planned_shots(reconstruction, capture, config)
    edges = _edges(reconstruction, capture, config)
    of_camera = {"source": source, "edges": edges}
    if edges != "soft":
        of_camera["coverage"] = str(config.coverage)
    meshes = FrameMeshes(reconstruction, run, source, meshing or MeshingConfig())
    of_orbit = {"source": source, "edges": "soft", "pictures": config.orbit_pictures}
    folders = {
        shot.folder: PictureFolder.open(
            run / "renders" / shot.folder,
            shot.cameras,
            reconstruction.space,
            of_orbit if shot.folder == "orbit" else of_camera,
        )
        for shot in shots
    }
    for done, shot in enumerate(shots):
        folder = folders[shot.folder]
        if not folder.has(shot.stem):
            cut = None if shot.folder == "orbit" else _cut(shot, edges, config.coverage, meshes)
            picture = render_view(reconstruction, shot.cameras, shot.frame, cut)
            folder.write(shot.stem, picture)
        if report is not None:
            report(done + 1, len(shots))
    if config.video:
        for folder in folders.values():
            stems = [shot.stem for shot in shots if folder.path.name == shot.folder]
            folder.write_video(stems, config.frames_per_second)
    return [folder.path for folder in folders.values()]


def _edges(reconstruction: Reconstruction, capture: Capture, config: ImagingConfig) -> str:
    """Returns what cuts pictures out: mesh, mask or, nothing, soft."""
    if config.edges != "auto":
        return config.edges
    if not capture.has_masks:
        return "soft"
    return "mesh" if reconstruction.field.head.n_tangents else "mask"


def _cut(shot: Shot, edges: str, coverage: float, meshes: FrameMeshes) -> Cut | None:
    """Returns what cuts a picture out; a frame without a mesh is cut by its opacities."""
    if edges == "soft":
        return None
    mesh = meshes.at(shot.frame) if edges == "mesh" else None
    if mesh is None or not mesh.n_faces:
        return lambda opacities: opacities > coverage
    shares = covered_shares(mesh, shot.cameras, shot.frame)
    return lambda _: shares > coverage


def planned_shots(
    reconstruction: Reconstruction, capture: Capture, config: ImagingConfig
) -> list[Shot]:
    """Returns the pictures to make: each camera's frames in turn, then the ride around.

    Raises:
        ValueError: A camera asked for is not in the capture.
    """
    views = chosen_views(capture, config.cameras)
    shots = [
        Shot(view.name, f"{number:06d}", view.cameras, frame)
        for view in views
        for frame, number in enumerate(reconstruction.frame_numbers)
    ]
    if config.orbit_pictures:
        cameras = [view.cameras for view in capture.views]
        ride = orbit(cameras, reconstruction.space, config.orbit_pictures, config.orbit_size)
        shots += [Shot("orbit", f"{i:06d}", *stop) for i, stop in enumerate(ride)]
    return shots


def chosen_views(capture: Capture, names: tuple[str, ...]) -> list[View]:
    """Returns the views of some cameras; without names the held-out one, else the first.

    Raises:
        ValueError: A name is not in the capture.
    """
    if not names:
        return [capture.test_view or capture.views[0]]
    known = {view.name: view for view in capture.all_views}
    for name in names:
        if name not in known:
            allowed = ", ".join(known)
            raise ValueError(f"imaging.cameras: no camera '{name}' here; allowed: {allowed}")
    return [known[name] for name in names]
