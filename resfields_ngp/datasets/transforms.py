"""transforms.json with time, as D-NeRF, nerfstudio and instant-ngp write it.

The file, or its frames one by one, give ``fl_x, fl_y, cx, cy, w, h`` or ``camera_angle_x``, and
``k1..p2`` (see `lenses`). A frame has ``file_path`` (D-NeRF leaves out ``.png``), ``time`` (also
``frame_time``, ``timestamp``, ``timestep``, ``frame_index``; any unit), ``transform_matrix``
(camera to world, OpenGL axes), and perhaps ``mask_path``, ``camera`` and ``depth_file_path``, or
``depth_path`` (along the optical axis, in steps of ``capture.depth_scale``, else of the file's
``integer_depth_scale``).

Distinct times, sorted, are the capture's frames; without any time all images show one moment.
The images of one camera make a view: by their ``camera`` (also ``camera_name``, ``camera_label``,
``camera_id``), else by folder, else by the order of their names within a time. A view needs an
image at every time. Where each time has one image, as D-NeRF's, they are one view whose camera
moves. In a folder with ``transforms_train.json``, the cameras of ``transforms_test.json`` are held
out if their times are the training frames'. Where the subject is: see `placement`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .base import MILLI, Capture, CaptureConfig, CaptureError, check_masks
from .images import IMAGE_SUFFIXES
from .lenses import read_number
from .placement import place_unit_sphere
from .selection import DEFAULT_TEST_CAMERA, select_cameras, select_frames
from .shots import Shot, load_shots

_TIME_KEYS = ("time", "frame_time", "timestamp", "timestep", "frame_index")
_CAMERA_KEYS = ("camera", "camera_name", "camera_label", "camera_id")
_PATH_KEYS = ("file_path", "mask_path", "depth_file_path", "depth_path")
_PLAIN_FOLDERS = ("", ".", "images", "rgb", "rgba", "train", "test", "val")


def load_transforms(config: CaptureConfig) -> Capture:
    """Loads a capture from a transforms.json or a folder with one.

    Raises:
        CaptureError: Something is missing, damaged or does not fit; one line that names the file.
    """
    path, test_path = _find_files(Path(config.path))
    fields, shots = _read_shots(path)
    times = sorted({shot.time for shot in shots})
    groups = _group(shots, times, path)
    notes: list[str] = []
    if test_path is not None and config.test_camera == DEFAULT_TEST_CAMERA:
        notes += _add_test_group(groups, test_path, times)
    training, test = select_cameras(list(groups), config, str(path))
    frames = select_frames(config.frames, len(times), str(path))
    views = {
        name: load_shots(name, [groups[name][frame] for frame in frames], config)
        for name in (*training, *([test] if test else []))
    }
    trained = tuple(views[name] for name in training)
    held_out = views[test] if test else None
    world, bounds = place_unit_sphere(fields, [view.cameras for view in trained], str(path))
    return Capture(
        name=path.resolve().parent.name,
        views=trained,
        test_view=held_out,
        frame_numbers=tuple(frames),
        world_from_normalised=world,
        bounds=bounds,
        depth_scale=_depth_scale(fields, config, str(path)),
        warnings=(*check_masks(trained, held_out, frames, str(path)), *notes),
    )


def _depth_scale(fields: dict[str, Any], config: CaptureConfig, where: str) -> float:
    """Returns the world units per step of the depth images: as asked for, else the file's."""
    if config.depth_scale or not config.use_depth:
        return config.depth_scale or MILLI
    return read_number(fields, "integer_depth_scale", MILLI, where, above=0)


def _find_files(path: Path) -> tuple[Path, Path | None]:
    """Returns the file with the training cameras, and the one with held-out ones or None."""
    if path.is_file():
        return path, None
    if not path.is_dir():
        raise CaptureError(f"{path}: no such capture; pass a transforms.json or its folder")
    if (path / "transforms_train.json").is_file():
        test = path / "transforms_test.json"
        return path / "transforms_train.json", test if test.is_file() else None
    if (path / "transforms.json").is_file():
        return path / "transforms.json", None
    raise CaptureError(f"{path}: no transforms.json or transforms_train.json in it")


def _read_shots(path: Path) -> tuple[dict[str, Any], list[Shot]]:
    """Returns the file's own keys and its images."""
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CaptureError(f"{path}: not a readable JSON file ({error})") from error
    entries = fields.pop("frames", None) if isinstance(fields, dict) else None
    if not isinstance(entries, list) or not entries:
        raise CaptureError(f'{path}: no frames; expected "frames": [{{"file_path": ...}}, ...]')
    shots = []
    time_key = _time_key(entries)
    for index, entry in enumerate(entries):
        where = f"{path}: frame {index}"
        if not isinstance(entry, dict) or not isinstance(entry.get("file_path"), str):
            raise CaptureError(f"{where}: no file_path; expected the path of an image")
        time = entry.get(time_key) if time_key else 0.0
        if isinstance(time, bool) or not isinstance(time, int | float) or not np.isfinite(time):
            raise CaptureError(f"{where}: {time_key} is {time!r}; expected a number in all frames")
        paths = {key: str(entry[key]).replace("\\", "/") for key in _PATH_KEYS if key in entry}
        image = _find_image(path.parent / paths["file_path"], where)
        # Writers round times differently from camera to camera and from file to file.
        merged = {**fields, **entry, **paths}
        shots.append(Shot(where, image, round(float(time), 6), merged, path.parent))
    if not time_key:
        _check_one_moment(path, shots)
    return fields, shots


def _time_key(entries: Sequence[Any]) -> str:
    """Returns how the file spells a frame's time; empty where it has none."""
    present = {key for entry in entries if isinstance(entry, dict) for key in entry}
    return next((key for key in _TIME_KEYS if key in present), "")


def _check_one_moment(path: Path, shots: Sequence[Shot]) -> None:
    """Checks that no two images without a time are of the same camera.

    Raises:
        CaptureError: Two have one pose, so the file shows several moments and does not say which.
    """
    first: dict[bytes, Shot] = {}
    for shot in shots:
        other = first.setdefault(shot.pose.round(9).tobytes(), shot)
        if other is not shot:
            raise CaptureError(
                f"{path}: {other.image.name} and {shot.image.name} are seen from the same place and"
                f' have no time; add "time" to each frame (also read: {", ".join(_TIME_KEYS[1:])})'
            )


def _find_image(path: Path, where: str) -> Path:
    """Returns an image's path, with the suffix that D-NeRF leaves out."""
    candidates = [path] + [path.with_name(path.name + suffix) for suffix in IMAGE_SUFFIXES]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise CaptureError(f"{where}: no image {path}; expected a PNG or JPEG file")


def _group(shots: Sequence[Shot], times: Sequence[float], path: Path) -> dict[str, list[Shot]]:
    """Returns each view's images in the order of the times."""
    named: dict[str, list[Shot]] = {}
    for shot in shots:
        named.setdefault(_camera_name(shot), []).append(shot)
    groups: dict[str, list[Shot]] = {}
    for name, members in sorted(named.items()):
        by_time = [
            sorted((s for s in members if s.time == time), key=lambda shot: shot.image)
            for time in times
        ]
        counts = [len(each) for each in by_time]
        if min(counts) != max(counts):
            fewest = times[int(np.argmin(counts))]
            raise CaptureError(
                f'{path}: camera "{name}" has {min(counts)} images at time {fewest:g} and '
                f"{max(counts)} at others; expected one of each camera at each of the "
                f"{len(times)} times"
            )
        for order in range(counts[0]):
            label = name if counts[0] == 1 else f"{name}_{order}"
            groups[label] = [each[order] for each in by_time]
    return groups


def _camera_name(shot: Shot) -> str:
    """Returns what the images of one camera share; results are filed under it, so it is no path."""
    parts: tuple[str, ...] = ()
    for key in _CAMERA_KEYS:
        if key in shot.fields:
            parts = tuple(re.split(r"[/\\]", str(shot.fields[key])))
            break
    else:
        place = Path(shot.fields["file_path"]).parent
        folder = shot.folder.resolve()
        if place.is_absolute() and place.resolve().is_relative_to(folder):
            place = place.resolve().relative_to(folder)
        parts = tuple(part for part in place.parts if part not in (place.anchor, *_PLAIN_FOLDERS))
    name = "_".join(part for part in parts if part.strip(". ")).lstrip(".")
    return f"{name}_" if name == "orbit" else name or "view"


def _add_test_group(groups: dict[str, list[Shot]], path: Path, times: Sequence[float]) -> list[str]:
    """Adds the held-out view of another file; returns a warning where it does not fit."""
    _, shots = _read_shots(path)
    by_time = {shot.time: shot for shot in reversed(shots)}
    if DEFAULT_TEST_CAMERA not in groups and set(times) <= set(by_time):
        groups[DEFAULT_TEST_CAMERA] = [by_time[time] for time in times]
        return []
    return [f"{path.name}: its times are not those of the training frames; not used"]
