"""Why a hull is empty: the reason is named, frame and all, in one line."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sphere_capture import sphere_capture, with_masks, with_poses

from resfields_ngp.datasets.base import Capture, CaptureError
from resfields_ngp.hull import HullConfig, build_hull

CONFIG = HullConfig(resolution=32)


def _shift(pose: np.ndarray) -> np.ndarray:
    moved = pose.copy()
    moved[:3, 3] += 3.0 * pose[:3, 0]
    return moved


def _far_away(capture: Capture) -> Capture:
    matrix = capture.world_from_normalised.copy()
    matrix[:3, 3] += 5.0 * matrix[:3, 0]
    return replace(capture, world_from_normalised=matrix)


def _clear(masks: np.ndarray) -> np.ndarray:
    return np.zeros_like(masks)


MISTAKES = {
    "the masks look inverted": lambda capture: with_masks(capture, np.logical_not),
    "poses look inverted": lambda capture: with_poses(capture, np.linalg.inv),
    "wrong handedness: OpenGL": lambda capture: with_poses(
        capture, lambda pose: pose @ np.diag([1.0, -1.0, -1.0, 1.0])
    ),
    "look mirrored": lambda capture: with_masks(capture, lambda masks: masks[:, :, ::-1].copy()),
    "outside the normalised box": _far_away,
    "the mask of cam_1 has no foreground": lambda capture: with_masks(capture, _clear, (1,)),
    "cam_2 disagrees": lambda capture: with_poses(capture, _shift, (2,)),
}


@pytest.mark.parametrize("k1", [0.0, 0.8])
@pytest.mark.parametrize("reason", MISTAKES)
def test_empty_hull_names_frame_and_reason(reason: str, k1: float):
    spheres = sphere_capture(np.tile([[0.75, -0.1, 0.2]], (1, 1, 1)), (0.15,), k1=k1)
    capture = MISTAKES[reason](spheres)
    if k1:
        views = [replace(view, masks=view.masks & ~view.unseen) for view in capture.views]
        capture = replace(capture, views=tuple(views))
    with pytest.raises(CaptureError, match=reason) as caught:
        build_hull(capture, CONFIG)
    assert "frame 5" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("axes", [np.eye(4), np.diag([1.0, -1.0, -1.0, 1.0])])
def test_inverted_poses_are_named_where_they_misplaced_the_box(axes: np.ndarray):
    """As with a transforms.json, whose OpenGL axes are turned after its author's inversion."""
    capture = sphere_capture(np.tile([[0.2, -0.1, 0.2]], (1, 1, 1)), (0.15,))
    capture = with_poses(capture, lambda pose: np.linalg.inv(pose @ axes) @ axes)
    misplaced = np.diag([0.2, 0.2, 0.2, 1.0])
    misplaced[0, 3] = 50.0
    with pytest.raises(CaptureError, match="poses look inverted"):
        build_hull(replace(capture, world_from_normalised=misplaced), CONFIG)
