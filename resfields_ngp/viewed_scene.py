"""What a viewer shows: surfaces of moments, and cameras with their images, as nodes of viser.

Everything lies about the subject's middle, in units of its size: what a browser computes with, and
where its camera is at first, then suit any world.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from .exhibit import Exhibit
from .viewed_surfaces import Look

if TYPE_CHECKING:
    from .datasets.base import View

_TRAINING, _HELD_OUT = (90, 90, 90), (230, 120, 20)  # colours of cameras
_PHOTOGRAPH = 320  # pixels along the longer side
_CAMERA_SIZE = 0.14  # of the subject's radius
_LINE = 2.0  # pixels
_DISTANCE = 3.0  # of the browser's camera where there are no others, in radii
_OUTSIDE = 1.2  # its distance where there are, as a multiple of the farthest one's


@dataclass(frozen=True)
class Moment:
    """What is shown at a time."""

    source: str
    """Where the surface comes from; a key of `Exhibit.surfaces`."""
    look: Look
    """How it looks."""
    index: int
    """Frame, counted among the exhibit's."""


class Stage:
    """The nodes of a scene: a surface for each moment that was shown, and the cameras."""

    def __init__(self, scene: Any, exhibit: Exhibit) -> None:
        self._scene, self._exhibit = scene, exhibit
        self._scale = 1 / exhibit.radius
        self._surfaces: dict[Moment, tuple[str, Any]] = {}
        self._shown: Moment | None = None
        scene.set_up_direction(exhibit.up)
        self.cameras = [
            self._add_camera(view, f"/cameras/{number}")
            for number, view in enumerate(exhibit.views)
        ]

    def prepare(self, moment: Moment) -> None:
        """Adds a moment's surface, hidden, unless it is there already.

        Raises:
            ValueError: A file is damaged.
            OSError: It is gone.
        """
        surfaces = self._exhibit.surfaces[moment.source]
        version = surfaces.version
        if moment in self._surfaces and self._surfaces[moment][0] == version:
            return
        glb = surfaces.glb(self._exhibit.numbers[moment.index], moment.look)
        former = self._surfaces.get(moment, ("", None))[1]
        if former is not None:
            former.remove()
        node = None
        if glb is not None:
            name = f"/{moment.source}/{moment.look}/{self._exhibit.numbers[moment.index]}"
            place = {"scale": self._scale, "position": self._moved(np.zeros(3))}
            node = self._scene.add_glb(name, glb, visible=False, **place)
        self._surfaces[moment] = (version, node)

    def show(self, moment: Moment) -> None:
        """Shows a moment's surface in place of the one before; see `prepare`."""
        self.prepare(moment)
        node = self._surfaces[moment][1]
        if node is not None and not node.visible:
            node.visible = True
        if self._shown != moment:
            self.hide()
        self._shown = moment

    def hide(self) -> None:
        """Shows no surface."""
        node = self._surfaces[self._shown][1] if self._shown is not None else None
        if node is not None:
            node.visible = False
        self._shown = None

    def pose_cameras(self, index: int, has_photographs: bool) -> None:
        """Moves and zooms the cameras as they are at a frame, with its images or without."""
        for node, view in zip(self.cameras, self._exhibit.views, strict=True):
            node.position, node.wxyz = self.camera_pose(view, index)
            node.fov = field_of_view(view, index)
            image = photograph(view, index) if has_photographs else None
            if image is not None or node.image is not None:
                node.image = image

    def camera_pose(self, view: View, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns a camera's place and quaternion (w, x, y, z) at a frame, in the scene."""
        pose = view.cameras.world_from_camera[index]
        return self._moved(pose[:3, 3]), _quaternion(pose[:3, :3])

    def first_place(self) -> np.ndarray:
        """Returns where the browser's camera begins: outside, where no camera is in its way."""
        up = self._exhibit.up
        if not self._exhibit.views:
            ahead = np.cross(up, np.eye(3)[np.argmin(np.abs(up))])
            return _DISTANCE * (ahead / np.linalg.norm(ahead) + 0.3 * up)
        eyes = np.array([self.camera_pose(view, 0)[0] for view in self._exhibit.views])
        distances = np.maximum(np.linalg.norm(eyes, axis=1), 1e-9)
        turns = Rotation.from_rotvec(np.arange(0.0, 2 * np.pi, np.radians(5))[:, None] * up)
        rays = turns.apply(eyes[0] / distances[0])
        nearest = (rays @ (eyes / distances[:, None]).T).max(axis=1)
        return _OUTSIDE * distances.max() * rays[np.argmin(nearest)]

    def _moved(self, position: np.ndarray) -> np.ndarray:
        return self._scale * (position - self._exhibit.centre)

    def _add_camera(self, view: View, name: str) -> Any:
        position, wxyz = self.camera_pose(view, 0)
        return self._scene.add_camera_frustum(
            name,
            field_of_view(view, 0),
            view.cameras.width / view.cameras.height,
            scale=_CAMERA_SIZE,
            thickness=_LINE,
            thickness_units="screen",
            color=_HELD_OUT if self._exhibit.is_held_out(view) else _TRAINING,
            position=position,
            wxyz=wxyz,
        )


def photograph(view: View, index: int) -> np.ndarray:
    """Returns a frame's image, (H, W, 3) uint8, small enough to be sent often."""
    image = view.images[index]
    share = _PHOTOGRAPH / max(image.shape[:2])
    if share >= 1:
        return image
    return cv2.resize(image, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)


def field_of_view(view: View, index: int) -> float:
    """Returns a camera's vertical field of view at a frame, radians."""
    return float(2 * np.arctan(view.cameras.height / 2 / view.cameras.intrinsics[index, 1, 1]))


def _quaternion(rotation: np.ndarray) -> np.ndarray:
    """Returns (w, x, y, z) of a rotation matrix."""
    return Rotation.from_matrix(rotation).as_quat()[[3, 0, 1, 2]]
