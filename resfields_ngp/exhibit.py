"""What a run has to show: the surfaces of its frames, its cameras with their images, its scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from .manifest import read_manifest
from .model_space import ModelSpace
from .orbit import mean_up
from .texturing import FOLDER
from .viewed_surfaces import CheckpointSurfaces, ExportedSurfaces, Surfaces

if TYPE_CHECKING:
    from .datasets.base import Capture, View
    from .run_folder import RunFolder

TEXTURED, MESHES, CHECKPOINT = "textured meshes", "meshes", "newest checkpoint"
"""What surfaces can be of, the best first."""


@dataclass(frozen=True)
class Exhibit:
    """A sequence to look at, in world units."""

    name: str
    """What it is called."""
    numbers: tuple[int, ...]
    """The capture's own number of each frame, in order."""
    surfaces: Mapping[str, Surfaces]
    """Where surfaces come from, by what they are of; the best first."""
    bounds: np.ndarray
    """(2, 3) box of the subject over all frames."""
    capture: Capture | None = None
    """The cameras and images; None where there are none."""
    scores: Mapping[str, Any] | None = None
    """What is in ``evaluation.json``, if it is there."""

    @staticmethod
    def of(run: RunFolder, capture: Capture | None, device: str, resolution: int) -> Exhibit:
        """Returns what a run has to show.

        Args:
            run: The run, which may still be training.
            capture: What it was fitted to, as the run's own settings load it.
            device: Where surfaces of checkpoints are computed.
            resolution: Their cells along model space's side.

        Raises:
            FileNotFoundError: There is nothing to look at yet.
        """
        exported = {
            TEXTURED: ExportedSurfaces.of(run.path / FOLDER, is_textured=True),
            MESHES: ExportedSurfaces.of(run.path, is_textured=False),
        }
        surfaces: dict[str, Surfaces] = {
            name: each for name, each in exported.items() if each.files
        }
        placement = run.path / "placement.npz"
        if placement.is_file():
            surfaces[CHECKPOINT] = CheckpointSurfaces(run.path, device, resolution)
            arrays = np.load(placement)
            bounds = _bounds_of_space(ModelSpace(arrays["world_from_model"], arrays["offsets"]))
            numbers = tuple(int(number) for number in arrays["frame_numbers"])
        elif surfaces:
            bounds, numbers = _bounds_of_meshes(run), tuple(sorted(exported[MESHES].files))
        else:
            raise FileNotFoundError(
                f"{run.path}: nothing to look at yet; train this run, or mesh it"
            )
        scores = run.scores() if (run.path / "evaluation.json").is_file() else None
        return Exhibit(run.path.resolve().name, numbers, surfaces, bounds, capture, scores)

    @property
    def views(self) -> tuple[View, ...]:
        """The cameras, the held-out one last."""
        return () if self.capture is None else self.capture.all_views

    @cached_property
    def up(self) -> np.ndarray:
        """(3,) the direction that is up in most cameras; y without any."""
        return mean_up([view.cameras for view in self.views]) if self.views else np.eye(3)[1]

    @property
    def centre(self) -> np.ndarray:
        """(3,) middle of the subject's box."""
        return self.bounds.mean(axis=0)

    @property
    def radius(self) -> float:
        """Half the diagonal of the subject's box."""
        return float(np.linalg.norm(self.bounds[1] - self.bounds[0])) / 2 or 1.0

    def is_held_out(self, view: View) -> bool:
        """Returns whether a camera was not trained on."""
        return self.capture is not None and view is self.capture.test_view

    def told(self, index: int) -> str:
        """Returns the scores of a frame beside the means of all as a Markdown table, or nothing."""
        if self.scores is None:
            return ""
        rows = {row["frame"]: row for row in self.scores["frames"]}
        own, means = rows.get(self.numbers[index], {}), self.scores["mean"]
        lines = ["| | frame | mean |", "|---|---|---|"]
        for key, label, pattern in _SCORES:
            if means.get(key) is not None:
                found = pattern.format(own[key]) if own.get(key) is not None else ""
                lines.append(f"| {label} | {found} | {pattern.format(means[key])} |")
        return "\n".join(lines) if len(lines) > 2 else ""


_SCORES = (
    ("psnr", "PSNR, dB", "{:.1f}"),
    ("masked_psnr", "within the mask, dB", "{:.1f}"),
    ("ssim", "SSIM", "{:.3f}"),
    ("chamfer", "Chamfer distance", "{:.4f}"),
    ("f_score", "F-score", "{:.2f}"),
    ("normal_consistency", "normal consistency", "{:.3f}"),
)


def _bounds_of_space(space: ModelSpace) -> np.ndarray:
    """Returns the (2, 3) world box around model space at all frames."""
    corners = np.stack(np.meshgrid(*[(0.0, 1.0)] * 3), axis=-1).reshape(-1, 3)
    points = [space.to_world(corners, frame) for frame in range(len(space.offsets))]
    return np.stack([np.min(points, axis=(0, 1)), np.max(points, axis=(0, 1))])


def _bounds_of_meshes(run: RunFolder) -> np.ndarray:
    """Returns the (2, 3) world box around all meshes that the run's manifest lists."""
    rows = read_manifest(run.path / "manifest.json")["frames"]
    boxes = np.array([row["bounds"] for row in rows if row["bounds"] is not None])
    return np.stack([boxes[:, 0].min(axis=0), boxes[:, 1].max(axis=0)])
