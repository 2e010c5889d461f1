"""A capture folder that is being written: what is in it, and whether it can be gone on with."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..datasets.layout import write_depth, write_png
from ..options import UsageError
from ..writing import write_whole

RECORD = "capture.json"
MADE_BY = "resfields-ngp prepare"


@dataclass(frozen=True)
class CaptureFolder:
    """A capture in the ResFields layout, written picture by picture."""

    path: Path
    """The folder."""

    @staticmethod
    def open(path: Path, settings: dict[str, Any], overwrite: bool) -> CaptureFolder:
        """Opens a folder: a new one, or one that the same settings began.

        Args:
            path: Where; made if missing.
            settings: What decides the pictures; stored, and compared with what is stored.
            overwrite: Delete another capture of ours that is there.

        Raises:
            UsageError: Something else is there, or a capture of other settings.
            OSError: The folder is not writable.
        """
        record = read_record(path)
        if record is None and path.is_dir() and any(path.iterdir()):
            raise UsageError(f"{path}: not empty and no prepared capture; choose another folder")
        if record is not None and overwrite:
            shutil.rmtree(path)
        elif record is not None and record.get("settings") != settings:
            if "cameras" not in record:  # stopped before its first picture
                return CaptureFolder._begin(path, settings)
            raise UsageError(
                f"{path}: prepared from other files or with other settings; pass --overwrite, or "
                "choose another folder"
            )
        if record is None or overwrite:
            return CaptureFolder._begin(path, settings)
        return CaptureFolder(path)

    @staticmethod
    def _begin(path: Path, settings: dict[str, Any]) -> CaptureFolder:
        write_whole(path / RECORD, _text({"made_by": MADE_BY, "settings": settings}))
        return CaptureFolder(path)

    def record(self) -> dict[str, Any]:
        """Returns what ``capture.json`` says."""
        return read_record(self.path) or {}

    def add_to_record(self, entries: dict[str, Any]) -> None:
        """Adds to what ``capture.json`` says.

        Raises:
            OSError: The folder is not writable.
        """
        write_whole(self.path / RECORD, _text(self.record() | entries))

    def file(self, camera: str, channel: str, frame: int) -> Path:
        """Returns where a picture's channel is kept: rgb, mask or depth."""
        return self.path / camera / channel / f"{frame:06d}.png"

    def cloud(self, frame: int) -> Path:
        """Returns where a frame's points are kept."""
        return self.path / "cloud" / f"{frame:06d}.ply"

    def has(self, camera: str, frame: int, channels: tuple[str, ...]) -> bool:
        """Returns whether all channels of a picture are there."""
        return all(self.file(camera, channel, frame).is_file() for channel in channels)

    def write(
        self,
        camera: str,
        frame: int,
        image: np.ndarray,  # (H, W, 3 or 4) uint8
        mask: np.ndarray | None,  # (H, W) bool
        depths: np.ndarray | None = None,  # (H, W) world units
    ) -> None:
        """Writes a picture's channels.

        Raises:
            ValueError: A depth is beyond what depth images hold.
            OSError: The folder is not writable or the disk is full.
        """
        write_png(self.file(camera, "rgb", frame), image)
        if mask is not None:
            write_png(self.file(camera, "mask", frame), np.where(mask, 255, 0).astype(np.uint8))
        if depths is not None:
            write_depth(self.file(camera, "depth", frame), depths)


def read_record(path: Path) -> dict[str, Any] | None:
    """Returns ``capture.json`` of a folder that ``prepare`` wrote, None of any other."""
    try:
        record = json.loads((path / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and record.get("made_by") == MADE_BY else None


def _text(record: dict[str, Any]) -> bytes:
    return (json.dumps(record, indent=1) + "\n").encode()
