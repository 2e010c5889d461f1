"""Laws of the viewer: one surface at a time, in its place; pages play by themselves."""

from __future__ import annotations

import base64
import re
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from textured_ball import CENTRE
from viewed_balls import NUMBERS, RADIUS, Balls, exhibit

from resfields_ngp.datasets.base import View
from resfields_ngp.viewed_scene import field_of_view, photograph
from resfields_ngp.viewer import Viewer, page

msgspec = pytest.importorskip("msgspec.msgpack")
zstandard = pytest.importorskip("zstandard")


@pytest.fixture
def balls() -> Balls:
    """Returns the surfaces of a viewer."""
    return Balls()


@pytest.fixture
def viewer(balls: Balls) -> Iterator[Viewer]:
    """Returns a viewer of spheres that is being served."""
    found = Viewer(exhibit(balls), "127.0.0.1", 18080, "colours", 12.0)
    yield found
    found.stop()


def shown(viewer: Viewer) -> list[str]:
    """Returns the last part of the names of all surfaces that are visible."""
    nodes = [node for _, node in viewer.stage._surfaces.values() if node is not None]
    return [node.name.split("/")[-1] for node in nodes if node.visible]


def recorded(html: str) -> dict[str, Any]:
    """Returns what a page plays: its duration, and messages with their times."""
    found = re.search(r'__VISER_EMBED_DATA__="([^"]+)"', html)
    assert found
    content = base64.b64decode(found[1])
    inner = zstandard.ZstdDecompressor().decompress(content[8:])
    size = int.from_bytes(inner[:8], "little")
    return msgspec.decode(inner[8 : 8 + size])


def test_the_controls_choose_the_one_surface_that_is_seen(viewer: Viewer) -> None:
    viewer.update()
    assert shown(viewer) == ["10"]
    for index, number in ((2, "14"), (1, "12"), (0, "10")):
        viewer.frame.value = index
        viewer.update()
        assert shown(viewer) == [number]
        assert viewer.scores.content.startswith(f"frame {number}\n")


def test_a_surface_is_read_once_in_each_look(viewer: Viewer, balls: Balls) -> None:
    for look in ("colours", "normals", "colours"):
        viewer.look.value = look
        viewer.update()
        viewer.update()
        assert shown(viewer) == ["10"]
    assert balls.asked == 2


def test_surfaces_of_other_weights_are_asked_for_again(viewer: Viewer, balls: Balls) -> None:
    viewer.update()
    balls.version = "step 20"
    viewer.update()
    assert balls.asked == 2 and shown(viewer) == ["10"]
    assert viewer.scores.content.startswith("frame 10, step 20\n")


def test_a_frame_without_surface_shows_none(viewer: Viewer, balls: Balls) -> None:
    balls.missing = (12,)
    viewer.update()
    viewer.frame.value = 1
    viewer.update()
    assert shown(viewer) == []


def test_a_broken_file_is_told_of_and_nothing_is_shown(viewer: Viewer, balls: Balls) -> None:
    balls.broken = (12,)
    viewer.update()
    viewer.frame.value = 1
    viewer.update()
    assert shown(viewer) == [] and "12 is broken" in viewer.scores.content
    viewer.frame.value = 2
    viewer.update()
    assert shown(viewer) == ["14"] and "broken" not in viewer.scores.content


def test_surfaces_and_cameras_lie_about_the_middle_in_units_of_the_box(viewer: Viewer) -> None:
    viewer.update()
    node = viewer.stage._surfaces[next(iter(viewer.stage._surfaces))][1]
    np.testing.assert_allclose(node.scale * CENTRE + node.position, 0, atol=1e-6)
    assert node.scale == pytest.approx(1 / RADIUS)
    for camera, azimuth in zip(viewer.stage.cameras, (0.0, 1.0, 2.5), strict=True):
        eye = np.array([np.sin(azimuth), 0.3, np.cos(azimuth)]) * 4 / RADIUS
        np.testing.assert_allclose(camera.position, eye, atol=1e-6)
        w, x, y, z = camera.wxyz
        ahead = Rotation.from_quat([x, y, z, w]).apply([0, 0, 1])
        np.testing.assert_allclose(ahead, -eye / np.linalg.norm(eye), atol=1e-6)
        assert camera.fov == pytest.approx(2 * np.arctan(0.5 / 1.6))


def test_the_held_out_camera_has_a_colour_of_its_own(viewer: Viewer) -> None:
    colours = [camera.color for camera in viewer.stage.cameras]
    assert colours[0] == colours[1] != colours[2]


def test_photographs_follow_the_frame_and_can_be_left_out(viewer: Viewer) -> None:
    viewer.update()
    assert [camera.image.mean() for camera in viewer.stage.cameras] == [1, 2, 3]
    viewer.photographs.value = False
    viewer.update()
    assert all(camera.image is None for camera in viewer.stage.cameras)
    viewer.cameras.value = False
    viewer.update()
    assert not any(camera.visible for camera in viewer.stage.cameras)


def test_playing_runs_through_all_frames_and_begins_again(viewer: Viewer) -> None:
    seen: list[int] = []
    viewer.playing.value, viewer.speed.value = True, 60.0

    def should_stop() -> bool:
        seen.append(viewer.frame.value)
        return len(set(seen)) == len(NUMBERS) and seen[-1] == 0 or time.monotonic() > until

    until = time.monotonic() + 20
    viewer.run(should_stop)
    changes = [now for before, now in zip(seen, seen[1:], strict=False) if now != before]
    assert changes == [1, 2, 0]


def test_browsers_get_the_page_and_a_taken_port_gives_way(viewer: Viewer) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{viewer.port}") as answer:
        assert answer.status == 200 and b"<html" in answer.read()
    other = Viewer(exhibit(Balls()), "127.0.0.1", viewer.port, "shape", 12.0)
    assert other.port != viewer.port and other.look.value == "shape"
    other.stop()


def test_the_browser_begins_where_no_camera_is_in_its_way() -> None:
    azimuths = (0.0, np.pi / 2, np.pi, -np.pi / 2)
    viewer = Viewer(exhibit(Balls(), azimuths), "127.0.0.1", 18080, "colours", 12.0)
    viewer.stop()
    place = viewer.stage.first_place()
    ray = place / np.linalg.norm(place)
    eyes = np.array([camera.position for camera in viewer.stage.cameras])
    angles = np.arccos(eyes @ ray / np.linalg.norm(eyes, axis=1))
    # Halfway between two of them, but for the height that all share.
    assert np.degrees(angles.min()) > 40
    assert np.linalg.norm(place) > np.linalg.norm(eyes, axis=1).max()


def test_there_is_a_place_to_look_from_without_cameras() -> None:
    viewer = Viewer(exhibit(Balls(), ()), "127.0.0.1", 18080, "colours", 12.0)
    viewer.update()
    viewer.stop()
    assert np.linalg.norm(viewer.stage.first_place()) > 2


def test_a_page_shows_each_frame_for_its_time_and_no_other(capsys) -> None:
    report: list[tuple[int, int]] = []
    html = page(exhibit(Balls()), "balls", "colours", 4.0, lambda *now: report.append(now))
    found = recorded(html)
    assert found["durationSeconds"] == pytest.approx(len(NUMBERS) / 4)
    visible: dict[str, bool] = {}
    at: dict[float, list[str]] = {}
    for moment, message in found["messages"]:
        if message["type"] == "SetSceneNodeVisibilityMessage":
            visible[message["name"].split("/")[-1]] = message["visible"]
        at[moment] = [name for name in map(str, NUMBERS) if visible.get(name, False)]
    assert at == {index / 4: [str(number)] for index, number in enumerate(NUMBERS)}
    assert report == [(1, 3), (2, 3), (3, 3)]
    assert capsys.readouterr().out == ""


def test_a_page_asks_for_nothing_from_elsewhere() -> None:
    html = page(exhibit(Balls()), "balls", "colours", 4.0)
    head = html[: html.index("__VISER_EMBED_DATA__")]
    assert not re.search(r'(src|href)="https?://', head)


def test_photographs_are_small_and_keep_their_shape() -> None:
    cameras = exhibit(Balls()).views[0].cameras
    images = np.zeros((1, 480, 960, 3), np.uint8)
    images[:, :, 480:] = 200
    small = photograph(View("wide", cameras, images, None), 0)
    assert small.shape == (160, 320, 3)
    assert small[:, :159].max() == 0 and small[:, 161:].min() == 200


def test_fields_of_view_are_vertical() -> None:
    view = exhibit(Balls()).views[0]
    assert field_of_view(view, 0) == pytest.approx(2 * np.arctan(32 / (1.6 * 64)))
