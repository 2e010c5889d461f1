"""An exhibit known in closed form: a sphere that grows, and cameras around it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from analytic import ring_of_cameras
from textured_ball import CENTRE, ball

from resfields_ngp.datasets.base import Capture, View
from resfields_ngp.exhibit import Exhibit
from resfields_ngp.gltf import coloured_glb
from resfields_ngp.viewed_surfaces import Look

NUMBERS = (10, 12, 14)
RADIUS = float(np.sqrt(3))
"""Half the diagonal of a box around the sphere."""


@dataclass
class Balls:
    """Spheres, larger from frame to frame; some are missing or broken."""

    version: str = ""
    missing: tuple[int, ...] = ()
    broken: tuple[int, ...] = ()
    asked: int = 0

    def glb(self, number: int, look: Look) -> bytes | None:
        """See `Surfaces`."""
        self.asked += 1
        if number in self.broken:
            raise ValueError(f"{number} is broken")
        if number in self.missing:
            return None
        mesh = ball(1)[0]
        vertices = CENTRE + (mesh.vertices - CENTRE) * number / max(NUMBERS)
        return coloured_glb(replace(mesh, vertices=vertices))


def exhibit(balls: Balls, azimuths: tuple[float, ...] = (0.0, 1.0, 2.5)) -> Exhibit:
    """Returns an exhibit of spheres; the last camera is held out, without azimuths there is none.

    A camera's images are as bright as its number, counted from 1.
    """
    n_frames, views = len(NUMBERS), []
    for index, azimuth in enumerate(azimuths):
        cameras = ring_of_cameras(CENTRE, 4.0, n_frames, azimuth)
        images = np.full((n_frames, 64, 64, 3), index + 1, np.uint8)
        views.append(View(f"camera {index}", cameras, images, None))
    capture = None
    if views:
        capture = Capture("balls", tuple(views[:-1]), views[-1], NUMBERS, np.eye(4))
    bounds = np.stack([CENTRE - 1, CENTRE + 1])
    rows = [{"frame": number, "psnr": 20.0 + number, "lpips": None} for number in NUMBERS]
    scores = {"mean": {"psnr": 32.0, "lpips": None}, "frames": rows}
    return Exhibit("balls", NUMBERS, {"balls": balls}, bounds, capture, scores)
