"""The round trip: a textured export rendered from the capture's cameras, against its images.

What is compared went from the capture through training, meshing, decimation and baking, into files
and back: the honest measure of the whole.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from .datasets.base import Capture, View
from .metrics import psnr, silhouette_iou
from .pictures import read_png, write_png
from .sheets import laid_out
from .textured_files import read_textured
from .textured_rendering import TexturedScene
from .texturing import not_exported, readable_frames
from .writing import write_whole

SCORES = ("psnr", "masked_psnr", "silhouette_iou", "field_psnr")
"""``psnr`` over the picture, black off the masks; ``field_psnr`` the field's own pictures', where
``render`` made them."""


N_SHOWN = 4
"""Frames in the picture."""


def evaluate_round_trip(
    run: Path, capture: Capture, report: Callable[[int, int], None] | None = None
) -> dict[str, Any]:
    """Scores ``RUN/textured`` against all images of its capture and writes ``roundtrip.json``.

    ``roundtrip.png`` shows a few frames of the held-out camera, or of the last one: the images
    above, the export below. Frames that were not exported are left out, and listed.

    Args:
        run: The run folder.
        capture: The images; its frames are those of the run.
        report: Called with the number of frames done and of all frames.

    Returns:
        What is written: ``cameras`` (one row each, means over frames), ``held_out`` and
        ``training`` means, ``frames`` (one row a frame and camera), numbers that are ``missing``.

    Raises:
        FileNotFoundError: No frame was exported as obj or glb.
        ValueError: A file is damaged.
    """
    views = capture.all_views
    rows, pairs, names, exported = [], [], [], readable_frames(run)
    numbers = capture.frame_numbers
    frames = [frame for frame, number in enumerate(numbers) if number in exported]
    shown = set(np.linspace(0, len(frames) - 1, N_SHOWN).round().astype(int).tolist())
    if not frames:
        raise not_exported(run, numbers[0])
    for place, frame in enumerate(frames):
        number = numbers[frame]
        scene = TexturedScene(read_textured(exported[number]))
        for view in views:
            picture, mask = scene.render(view.cameras, frame)
            scores = compared(picture, mask, view, frame)
            field_picture = run / "renders" / view.name / "rgb" / f"{number:06d}.png"
            if field_picture.is_file():
                scores["field_psnr"] = _psnr(read_png(field_picture) / 255, view, frame)
            known = {name: value for name, value in scores.items() if not np.isnan(value)}
            rows.append({"camera": view.name, "frame": number, **known})
            if view is views[-1] and place in shown:
                truth = np.round(_truth(view, frame) * 255).astype(np.uint8)
                pairs.append((truth, picture * mask[..., None]))
                names.append(str(number))
        if report is not None:
            report(place + 1, len(frames))
    result = _summary(capture, views, rows)
    result["missing"] = [number for number in numbers if number not in exported]
    write_whole(run / "roundtrip.json", json.dumps(result, indent=1).encode())
    cells = list(zip(*pairs, strict=True))
    write_png(run / "roundtrip.png", laid_out(cells, ("image", "export"), names))
    return result


def _summary(capture: Capture, views: Sequence[View], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns the whole table with its means."""
    held_out = capture.test_view.name if capture.test_view else None
    cameras = {view.name: _means([r for r in rows if r["camera"] == view.name]) for view in views}
    return {
        "capture": capture.name,
        "held_out_camera": held_out,
        "held_out": cameras.get(held_out or "", {}),
        "training": _means([row for row in rows if row["camera"] != held_out]),
        "cameras": cameras,
        "frames": rows,
    }


def compared(picture: np.ndarray, mask: np.ndarray, view: View, frame: int) -> dict[str, float]:
    """Scores a rendered picture and its mask against a view's image."""
    seen = picture * mask[..., None] / 255
    scores = {"psnr": _psnr(seen, view, frame)}
    if view.masks is not None:
        scores["masked_psnr"] = psnr(seen, _truth(view, frame), view.masks[frame])
        scores["silhouette_iou"] = silhouette_iou(view.blanked(mask, frame), view.masks[frame])
    return scores


def _psnr(picture: np.ndarray, view: View, frame: int) -> float:
    """Returns a picture's PSNR where the view's image shows anything."""
    return psnr(picture, _truth(view, frame), view.seen_at(frame))


def _truth(view: View, frame: int) -> np.ndarray:
    """Returns an image in [0, 1], black off its mask."""
    image = view.images[frame] / 255
    return image if view.masks is None else image * view.masks[frame][..., None]


def _means(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Returns the mean of each score that rows have."""
    found = {name: [row[name] for row in rows if name in row] for name in SCORES}
    return {name: float(np.mean(values)) for name, values in found.items() if values}


def round_trip_table(result: dict[str, Any]) -> Table:
    """Returns a table of `evaluate_round_trip`'s result for the terminal: a row a camera."""
    title = f"{result['capture']}: textured export against the capture's images"
    table = Table("camera", *SCORES, title=title, title_justify="left")
    for name, scores in result["cameras"].items():
        label = f"{name} (held out)" if name == result["held_out_camera"] else name
        values = (f"{scores[each]:.4g}" if each in scores else "" for each in SCORES)
        table.add_row(label, *values)
    return table
