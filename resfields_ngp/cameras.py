"""Cameras through time, OpenCV axes: pixels to rays, points to pixels, projections to cameras."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from .model_space import ModelSpace
from .records import check_shape


@dataclass(frozen=True)
class Cameras:
    """One pinhole camera at each frame of a sequence; it may move and zoom."""

    intrinsics: np.ndarray
    """(n_frames, 3, 3) float64, pixels."""
    world_from_camera: np.ndarray
    """(n_frames, 4, 4) float64 rigid transforms, OpenCV axes."""
    width: int
    """Pixels across."""
    height: int
    """Pixels down."""

    def __post_init__(self) -> None:
        check_shape("intrinsics", self.intrinsics, "n 3 3")
        check_shape("world_from_camera", self.world_from_camera, "n 4 4")
        if not (np.isfinite(self.intrinsics).all() and np.isfinite(self.world_from_camera).all()):
            raise ValueError("a camera has NaN or infinite entries")

    @property
    def n_frames(self) -> int:
        """The number of frames."""
        return self.intrinsics.shape[0]

    def projection(self, frame: int) -> np.ndarray:
        """Returns the (3, 4) matrix that takes homogeneous world points to pixels."""
        camera_from_world = np.linalg.inv(self.world_from_camera[frame])
        return self.intrinsics[frame] @ camera_from_world[:3]

    def project(self, points: np.ndarray, frame: int) -> tuple[np.ndarray, np.ndarray]:
        """Projects (N, 3) world points.

        Returns:
            (N, 2) pixels (x, y) with pixel centres at +0.5, and (N,) depths along the optical axis,
            world units.
        """
        return projected(points, self.projection(frame))

    def rays(
        self, pixels: np.ndarray, frame: int, space: ModelSpace
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the rays through pixels, in the frame's model space.

        Args:
            pixels: (R, 2) image positions (x, y); a pixel's centre is its index + 0.5.
            frame: The frame, for the camera's pose and the space's offset.
            space: Where model space lies.

        Returns:
            (R, 3) origins and (R, 3) unit directions, float32.
        """
        model_from_camera = self.model_from_camera(frame, space)
        inverse = np.linalg.inv(self.intrinsics[frame])
        in_camera = pixels @ inverse[:, :2].T + inverse[:, 2]
        directions = in_camera @ model_from_camera[:3, :3].T
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        origins = np.broadcast_to(model_from_camera[:3, 3], directions.shape)
        return origins.astype(np.float32), directions.astype(np.float32)

    def model_from_camera(self, frame: int, space: ModelSpace) -> np.ndarray:
        """Returns the (4, 4) matrix from camera axes (world length) to the frame's model space."""
        return np.linalg.inv(space.world_from_frame(frame)) @ self.world_from_camera[frame]

    def resized(self, scale: float) -> Cameras:
        """Returns the same cameras for images scaled by `scale` (0.5 halves them)."""
        width, height = max(1, round(self.width * scale)), max(1, round(self.height * scale))
        stretch = np.diag([width / self.width, height / self.height, 1.0])
        return Cameras(stretch @ self.intrinsics, self.world_from_camera, width, height)

    def frame_subset(self, frames: list[int]) -> Cameras:
        """Returns the cameras of some frames only."""
        return Cameras(
            self.intrinsics[frames], self.world_from_camera[frames], self.width, self.height
        )


def decompose_projection(
    projection: np.ndarray,  # (3, 4) or (4, 4), world to pixels, any scale
) -> tuple[np.ndarray, np.ndarray]:
    """Splits a projection matrix into intrinsics and pose.

    It is done with OpenCV, as in the ResFields and NeuS loaders, whatever the world's unit.

    Returns:
        (3, 3) intrinsics with ``K[2, 2] == 1`` and the (4, 4) rigid ``world_from_camera``.

    Raises:
        ValueError: The matrix has NaN entries, is singular, or looks backwards (negative focal
            length).
    """
    matrix = np.asarray(projection, dtype=np.float64)[:3]
    if not np.isfinite(matrix).all():
        raise ValueError("the projection matrix has NaN or infinite entries")
    # A projection is known up to a factor, and shrinks as the world's unit does.
    matrix = matrix / max(np.abs(matrix[:, :3]).max(), np.finfo(np.float64).tiny)
    determinant = np.linalg.det(matrix[:, :3])
    if abs(determinant) < 1e-12:
        raise ValueError("the projection matrix is singular")
    # With a mirror in it no rotation reproduces the matrix, and OpenCV would silently return
    # another camera.
    if determinant < 0:
        matrix = -matrix
    intrinsics, rotation = cv2.decomposeProjectionMatrix(matrix)[:2]
    intrinsics = intrinsics / intrinsics[2, 2]
    if intrinsics[0, 0] <= 0 or intrinsics[1, 1] <= 0:
        raise ValueError(
            "the projection matrix has a negative focal length: "
            "check the axes (OpenCV: right, down, forward)"
        )
    world_from_camera = np.eye(4)
    world_from_camera[:3, :3] = rotation.T
    # OpenCV's own centre, a null vector, is coarse far from the origin.
    world_from_camera[:3, 3] = np.linalg.solve(matrix[:, :3], -matrix[:, 3])
    return intrinsics, world_from_camera


def projected(
    points: np.ndarray,  # (N, 3)
    matrix: np.ndarray,  # (3, 4)
) -> tuple[np.ndarray, np.ndarray]:
    """Returns (N, 2) pixels and (N,) depths; pixels of points behind the camera mean nothing."""
    homogeneous = points @ matrix[:, :3].T + matrix[:, 3]
    depths = homogeneous[:, 2]
    safe = np.where(np.abs(depths) < 1e-12, 1e-12, depths)
    return homogeneous[:, :2] / safe[:, None], depths


def look_at(
    eye: np.ndarray,  # (3,) world
    target: np.ndarray,  # (3,) world
    up: np.ndarray,  # (3,) world direction
) -> np.ndarray:
    """Returns the (4, 4) `world_from_camera`, OpenCV axes, at `eye` and looking at `target`."""
    forward = np.asarray(target, float) - np.asarray(eye, float)
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, np.asarray(up, float))
    right /= np.linalg.norm(right)
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
    matrix[:3, 3] = eye
    return matrix
