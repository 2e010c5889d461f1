"""A run in a web browser, drawn by viser: served with controls, or a page that plays by itself."""

from __future__ import annotations

import contextlib
import io
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .exhibit import Exhibit
from .extras import required
from .viewed_scene import Moment, Stage, field_of_view
from .viewed_surfaces import LOOKS, Look

if TYPE_CHECKING:
    from .datasets.base import View

_FIELD = np.radians(45.0)  # of its view, from top to bottom
_PATIENCE = 0.5  # seconds between looks for a new checkpoint


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
    viser = required("viser")
    with contextlib.redirect_stdout(io.StringIO()):  # it would say where it listens, in a box
        server = viser.ViserServer(host, port, label=exhibit.name, verbose=False)
    stage = Stage(server.scene, exhibit)
    server.initial_camera.position, server.initial_camera.fov = stage.first_place(), _FIELD
    server.initial_camera.look_at = np.zeros(3)
    return server, stage


def _close(server: Any) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        server.stop()
