"""A capture known in closed form: spheres before a ring of cameras, in a turned world."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from resfields_ngp.cameras import Cameras, look_at
from resfields_ngp.datasets.base import Capture, View
from resfields_ngp.datasets.lenses import Lens
from resfields_ngp.model_space import ModelSpace

SIZE = 96
FOCAL = 120.0


def turned_world(scale: float = 2.5) -> np.ndarray:
    """Returns a (4, 4) similarity: a rotation, a scale and a translation."""
    rotation = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    matrix = np.eye(4)
    matrix[:3, :3] = scale * rotation * np.sign(np.linalg.det(rotation))
    matrix[:3, 3] = (3.0, -1.0, 2.0)
    return matrix


def sphere_capture(
    centres: np.ndarray,  # (n_frames, n_spheres, 3) normalised
    radii: tuple[float, ...] = (0.4,),  # one a sphere
    n_views: int = 4,
    distance: float = 4.0,
    k1: float = 0.0,
) -> Capture:
    """Returns what cameras on a ring see of grey spheres; masks are exact at pixel centres.

    With a distortion k1 they are so before the lens is straightened.
    """
    world = turned_world()
    space = ModelSpace(world, np.zeros((len(centres), 3)))
    pixels = np.stack(np.meshgrid(*[np.arange(SIZE) + 0.5] * 2), axis=-1).reshape(-1, 2)
    views = []
    for index in range(n_views):
        angle = 2 * np.pi * (index + 0.2) / n_views
        eye = distance * np.array([np.cos(angle), 0.5 * (-1) ** index, np.sin(angle)])
        pose = world @ look_at(eye, np.zeros(3), np.array([0, 1.0, 0]))
        pose[:3, :3] /= np.cbrt(np.linalg.det(pose[:3, :3]))
        intrinsics = np.array([[FOCAL, 0, SIZE / 2], [0, FOCAL, SIZE / 2], [0, 0, 1]])
        n_frames, lens = len(centres), Lens(intrinsics, (k1, 0.0, 0.0, 0.0) if k1 else (), False)
        cameras = Cameras(
            np.stack([intrinsics] * n_frames), np.stack([pose] * n_frames), SIZE, SIZE
        )
        masks = np.zeros((n_frames, SIZE * SIZE), bool)
        for frame in range(n_frames):
            origins, directions = cameras.rays(looked_through(pixels, k1), frame, space)
            for centre, radius in zip(centres[frame], radii, strict=True):
                offset = centre - origins
                across = offset - (offset * directions).sum(1, keepdims=True) * directions
                masks[frame] |= np.linalg.norm(across, axis=1) < radius
        masks = masks.reshape(n_frames, SIZE, SIZE)
        masks = np.stack([lens.undistort(mask.astype(np.uint8), smooth=False) for mask in masks])
        images = np.repeat(masks[..., None] * np.uint8(128), 3, axis=-1)
        unseen = lens.unseen(SIZE, SIZE)
        unseen = None if unseen is None else np.broadcast_to(unseen, masks.shape)
        views.append(View(f"cam_{index}", cameras, images, masks > 0, unseen=unseen))
    return Capture("spheres", tuple(views), None, tuple(range(5, 5 + len(centres))), world)


def looked_through(pixels: np.ndarray, k1: float) -> np.ndarray:
    """Returns where a pinhole sees what a lens shows at pixels (N, 2), by Newton's iteration."""
    points = (pixels - SIZE / 2) / FOCAL
    bent = np.linalg.norm(points, axis=1)
    radii = bent.copy()
    for _ in range(20):
        radii -= (radii + k1 * radii**3 - bent) / (1 + 3 * k1 * radii**2)
    return points * (radii / bent)[:, None] * FOCAL + SIZE / 2


def with_masks(capture: Capture, change, views: tuple[int, ...] | None = None) -> Capture:
    """Returns the capture with ``change(masks)`` in place of the masks of some (or all) views."""
    chosen = range(len(capture.views)) if views is None else views
    return replace(
        capture,
        views=tuple(
            replace(view, masks=change(view.masks.copy())) if index in chosen else view
            for index, view in enumerate(capture.views)
        ),
    )


def with_poses(capture: Capture, change, views: tuple[int, ...] | None = None) -> Capture:
    """Returns the capture with ``change(pose)`` for each (4, 4) pose of some (or all) views."""
    chosen = range(len(capture.views)) if views is None else views

    def changed(view: View) -> View:
        poses = np.stack([change(pose) for pose in view.cameras.world_from_camera])
        return replace(view, cameras=replace(view.cameras, world_from_camera=poses))

    return replace(
        capture,
        views=tuple(
            changed(view) if index in chosen else view for index, view in enumerate(capture.views)
        ),
    )
