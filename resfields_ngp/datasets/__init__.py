"""Captures on disk to `Capture`: one loader a layout, chosen by name or by what is there."""

from __future__ import annotations

from pathlib import Path

from .backdrops import with_keyed_masks
from .base import Capture, CaptureConfig, CaptureError, View
from .camera_files import CAMERA_FILES
from .neus import load_neus
from .owlii import load_owlii
from .transforms import load_transforms

__all__ = ["DATASETS", "Capture", "CaptureConfig", "CaptureError", "View", "load_capture"]

DATASETS = {
    "owlii": load_owlii,
    "transforms": load_transforms,
    "neus": load_neus,
}
"""Layout name to its loader, ``(CaptureConfig) -> Capture``."""


def load_capture(config: CaptureConfig) -> Capture:
    """Loads a capture; ``kind = "auto"`` decides by what is there.

    One without masks gets them where its pictures have a plain backdrop: see `backdrops`.

    Raises:
        CaptureError: There is no such capture or layout, or it is not usable; one line that names
            the file, what was found and what is allowed.
    """
    kind = _recognise(Path(config.path)) if config.kind == "auto" else config.kind
    if kind not in DATASETS:
        allowed = ", ".join(("auto", *DATASETS))
        raise CaptureError(f'capture.kind: no layout "{config.kind}"; allowed: {allowed}')
    capture = DATASETS[kind](config)
    return with_keyed_masks(capture) if config.use_masks else capture


def _recognise(path: Path) -> str:
    """Returns the layout of the capture at `path`."""
    if path.is_file() and path.suffix == ".json":
        return "transforms"
    if not path.is_dir():
        raise CaptureError(
            f"{path}: no such capture; pass its folder or its transforms.json, to verbs that take "
            "a run as --capture"
        )
    if any(path.glob("*/rgb")) or any(path.glob(f"*/{CAMERA_FILES[0]}")):
        return "owlii"
    if any(path.glob("transforms*.json")):
        return "transforms"
    if (path / "image").is_dir() or any((path / name).is_file() for name in CAMERA_FILES):
        return "neus"
    raise CaptureError(
        f"{path}: no capture in it; expected <camera>/rgb/*.png with cameras_sphere.npz, "
        "transforms.json, or image/*.png with cameras_sphere.npz"
    )
