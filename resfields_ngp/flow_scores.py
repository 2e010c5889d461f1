"""How good a flow is: end-point errors both ways, accuracy, and what a round trip loses."""

from __future__ import annotations

from typing import Any

import numpy as np
from rich.table import Table

from .flow import FlowField, RidingPoints, advected, retraced
from .model_space import ModelSpace

Scores = dict[str, float]

DEFINITIONS = {
    "forward": "mean distance of the first frame's points from the truth at the frame, world units",
    "backward": "mean distance of the frame's points from the truth at the first, world units",
    "forward_relative": "forward over the mean motion of all frames, from each to the first",
    "backward_relative": "backward over the mean motion of all frames",
    "accuracy_5": "part of the points, both ways, within 5 % of the mean motion",
    "accuracy_10": "part of the points, both ways, within 10 % of the mean motion",
    "cycle": "mean distance of the first frame's points from where they began, there and back",
    "cycle_relative": "cycle over the mean motion of all frames",
    "motion": "mean motion of the points at the frame, world units",
}
"""What each score means. The first frame is in no mean: nothing moves there."""


def score_flow(
    field: FlowField, space: ModelSpace, vertices: np.ndarray, points: RidingPoints
) -> dict[str, Any]:
    """Compares a flow with the truth at points that ride on the surface.

    Args:
        field: The flow.
        space: Its model space.
        vertices: (n_frames, V, 3) truth, world units; two frames or more.
        points: Where to compare.

    Returns:
        ``mean`` over frames, ``frames`` with a row each but the first, ``definitions``.
    """
    truth = [points.at(frame) for frame in vertices]
    motions = [distances(frame, truth[0]).mean() for frame in truth[1:]]
    unit = max(float(np.mean(motions)), 1e-12)
    rows = []
    for frame in range(1, len(truth)):
        there = advected(field, space, truth[0], frame)
        back = retraced(field, space, truth[frame], frame)
        again = retraced(field, space, there, frame)
        forward, backward = distances(there, truth[frame]), distances(back, truth[0])
        cycle = float(distances(again, truth[0]).mean())
        both = np.concatenate([forward, backward]) / unit
        rows.append(
            {
                "frame": frame,
                "forward": float(forward.mean()),
                "backward": float(backward.mean()),
                "forward_relative": float(forward.mean()) / unit,
                "backward_relative": float(backward.mean()) / unit,
                "accuracy_5": float((both < 0.05).mean()),
                "accuracy_10": float((both < 0.10).mean()),
                "cycle": cycle,
                "cycle_relative": cycle / unit,
                "motion": float(motions[frame - 1]),
            }
        )
    means = {name: float(np.mean([row[name] for row in rows])) for name in DEFINITIONS}
    return {"mean": means, "frames": rows, "definitions": DEFINITIONS}


def distances(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Returns (N,) distances of (N, 3) points from others, one to one."""
    return np.linalg.norm(points - others, axis=1)


def flow_table(result: dict[str, Any]) -> Table:
    """Returns a table of `score_flow`'s result for the terminal: a row a frame, means below, then
    those on triangles that training never saw."""
    names = list(result["definitions"])
    table = Table("frame", *(name.replace("_", " ") for name in names))
    for column in table.columns:
        column.justify = "right"
    for row in result["frames"]:
        table.add_row(str(row["frame"]), *(f"{row[name]:.4g}" for name in names))
    table.add_section()
    for label, means in (("mean", result["mean"]), ("unseen", result.get("unseen"))):
        if means is not None:
            table.add_row(label, *(f"{means[name]:.4g}" for name in names), style="bold")
    return table
