"""A run in a web browser: its surfaces frame by frame, its cameras, their images; viser shows it.

Everything is shown about the subject's middle, in units of its size: what a browser computes with,
and where its camera is at first, then suit any world.
"""

from __future__ import annotations

import contextlib
import io
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from .exhibit import Exhibit
from .viewed_surfaces import LOOKS, Look

if TYPE_CHECKING:
    from .datasets.base import View

_TRAINING, _HELD_OUT = (90, 90, 90), (230, 120, 20)  # colours of cameras
_PHOTOGRAPH = 320  # pixels along the longer side
_CAMERA_SIZE = 0.14  # of the subject's radius
_LINE = 2.0  # pixels
_DISTANCE = 3.0  # of the browser's camera where there are no others, in radii
_OUTSIDE = 1.2  # its distance where there are, as a multiple of the farthest one's
_FIELD = np.radians(45.0)  # of its view, from top to bottom
_PATIENCE = 0.5  # seconds between looks for a new checkpoint


def require_viser() -> Any:
    """Returns the module viser.

    Raises:
        ImportError: It is not installed; the message has the line that installs it.
    """
    try:
        import viser
    except ImportError:
        raise ImportError(
            "view needs viser, which is not installed; pip install 'resfields-ngp[viewer]'"
        ) from None
    return viser


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


class Viewer:
    """A server that shows an exhibit to every browser that asks, until it is stopped."""

    def __init__(
        self, exhibit: Exhibit, host: str, port: int, look: Look, frames_per_second: float
    ) -> None:
        """Begins to serve.

        Args:
            exhibit: What is shown.
            host: Address to listen at.
            port: And port; the next free one where it is taken.
            look: How surfaces look at first.
            frames_per_second: Speed at first.

        Raises:
            ImportError: viser is not installed.
        """
        self._server, self.stage = _opened(exhibit, host, port)
        self._exhibit, self._changed = exhibit, threading.Event()
        self._add_controls(self._server.gui, look, frames_per_second)
        for node, view in zip(self.stage.cameras, exhibit.views, strict=True):
            node.on_click(lambda event, view=view: self._look_through(event.client, view))
        self._said = ""
        self._posed: tuple[int, bool] | None = None

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._server.get_port()

    def run(self, should_stop: Callable[[], bool]) -> None:
        """Serves and plays until somebody asks to stop, which is looked at twice a second."""
        due = time.monotonic()
        while not should_stop():
            self.update()
            waited = due - time.monotonic() if self.playing.value else _PATIENCE
            self._changed.wait(max(0.0, min(waited, _PATIENCE)))
            self._changed.clear()
            if self.playing.value and time.monotonic() >= due:
                self.frame.value = (self.frame.value + 1) % len(self._exhibit.numbers)
                due = max(due + 1 / self.speed.value, time.monotonic())
        self.stop()

    def update(self) -> None:
        """Shows what the controls say; a surface that cannot be read is told of, not shown."""
        moment = Moment(self.source.value, self.look.value, self.frame.value)
        for node in self.stage.cameras:
            if node.visible != self.cameras.value:
                node.visible = self.cameras.value
        posed = (moment.index, self.photographs.value)
        if self.stage.cameras and posed != self._posed:
            self.stage.pose_cameras(*posed)
            self._posed = posed
        try:
            self.stage.show(moment)
            fault = ""
            if self.playing.value:  # a browser takes a while to unpack what comes next
                following = (moment.index + 1) % len(self._exhibit.numbers)
                self.stage.prepare(replace(moment, index=following))
        except (ValueError, OSError, ImportError) as error:
            self.stage.hide()
            fault = f"\n\n**{error}**"
        version = self._exhibit.surfaces[moment.source].version
        frame = f"frame {self._exhibit.numbers[moment.index]}{version and f', {version}'}"
        said = f"{frame}\n\n{self._exhibit.told(moment.index)}{fault}"
        if said != self._said:
            self.scores.content = self._said = said

    def stop(self) -> None:
        """Ends the server."""
        _close(self._server)

    def _add_controls(self, gui: Any, look: Look, frames_per_second: float) -> None:
        last, sources = len(self._exhibit.numbers) - 1, tuple(self._exhibit.surfaces)
        with gui.add_folder("Time"):
            self.frame = gui.add_slider("frame", 0, max(last, 1), 1, 0, disabled=last == 0)
            self.playing = gui.add_checkbox("play", False, disabled=last == 0)
            self.speed = gui.add_slider(
                "frames a second", 1.0, max(60.0, frames_per_second), 1.0, frames_per_second
            )
        with gui.add_folder("Surface"):
            self.source = gui.add_dropdown("of", sources, visible=len(sources) > 1)
            self.look = gui.add_dropdown("look", LOOKS, initial_value=look)
        has_views = bool(self._exhibit.views)
        with gui.add_folder("Cameras", visible=has_views):
            self.cameras = gui.add_checkbox("show", has_views)
            self.photographs = gui.add_checkbox("photographs", has_views)
            through = gui.add_dropdown(
                "look through", ("", *(view.name for view in self._exhibit.views))
            )
        self.scores = gui.add_markdown("")
        of_time = (self.frame, self.playing, self.speed)
        for control in (*of_time, self.source, self.look, self.cameras, self.photographs):
            control.on_update(lambda _: self._changed.set())

        @through.on_update
        def _(event: Any) -> None:
            for view in self._exhibit.views:
                if view.name == through.value and event.client is not None:
                    self._look_through(event.client, view)
            through.value = ""  # so that the same can be chosen again

    def _look_through(self, client: Any, view: View) -> None:
        """Puts a browser's camera where one of the capture's is."""
        position, wxyz = self.stage.camera_pose(view, self.frame.value)
        with client.atomic():
            client.camera.wxyz, client.camera.position = wxyz, position
            client.camera.fov = field_of_view(view, self.frame.value)


def page(
    exhibit: Exhibit,
    source: str,
    look: Look,
    frames_per_second: float,
    report: Callable[[int, int], None] | None = None,
) -> str:
    """Returns a page of HTML that plays an exhibit by itself, anywhere and without a server.

    Args:
        exhibit: What is shown.
        source: Where surfaces come from; a key of `Exhibit.surfaces`.
        look: How they look.
        frames_per_second: Speed.
        report: Called with the number of surfaces done and of all.

    Raises:
        ImportError: viser is not installed.
        ValueError: A file is damaged.
    """
    server, stage = _opened(exhibit, "127.0.0.1", 0)
    try:
        moments = [Moment(source, look, index) for index in range(len(exhibit.numbers))]
        for done, moment in enumerate(moments, 1):
            stage.prepare(moment)
            if report is not None:
                report(done, len(moments))
        recording = server.get_scene_serializer()
        for moment in moments:
            stage.show(moment)
            stage.pose_cameras(moment.index, has_photographs=False)
            recording.insert_sleep(1 / frames_per_second)
        return recording.as_html()
    finally:
        _close(server)


def _opened(exhibit: Exhibit, host: str, port: int) -> tuple[Any, Stage]:
    """Returns a server and its scene, in which the browser's camera looks at the subject."""
    viser = require_viser()
    with contextlib.redirect_stdout(io.StringIO()):  # it would say where it listens, in a box
        server = viser.ViserServer(host, port, label=exhibit.name, verbose=False)
    stage = Stage(server.scene, exhibit)
    server.initial_camera.position, server.initial_camera.fov = stage.first_place(), _FIELD
    server.initial_camera.look_at = np.zeros(3)
    return server, stage


def _close(server: Any) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        server.stop()


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
