"""Textures from photographs: what each texel shows, seen by the cameras that see it best.

Vocabulary
    texels      pixels of the texture whose centres a triangle covers; the others are gutter.
    witness     one camera at one frame: its photograph, and which surface it sees.
    weight      trust in a witness at a texel: 0 where it is hidden, towards the outline of the
                subject, and where the surface is seen edge on; 1 head-on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from .atlas import Atlas
from .datasets.base import View
from .mesh import Mesh
from .rasterising import covered_pixels, image_values, rasterise

CHUNK = 1 << 18
"""Texels coloured at once; bounds the memory of large textures."""

_FINER = 2  # depth buffers have so many pixels a pixel of the photograph, each way
_STEEPEST = 4.0  # tangent of the angle beyond which a depth buffer tells nothing

ColourField = Callable[[np.ndarray], np.ndarray]
"""(N, 3) world positions to (N, 3) colours in [0, 1]."""


@dataclass(frozen=True)
class BakingConfig:
    """How photographs are weighed against each other and against the field."""

    sharpness: float = 2.0
    """Power of the cosine of the viewing angle in a camera's weight, above 0; higher takes more
    from the camera that looks straightest."""
    border: float = 2.0
    """Pixels inside the subject's outline over which a photograph's weight rises from 0."""
    least_weight: float = 0.2
    """Sum of weights below which the field's own colour comes in, 0 to 1."""

    def __post_init__(self) -> None:
        if self.sharpness <= 0:
            raise ValueError(f"baking.sharpness is {self.sharpness}; allowed: above 0")
        if self.border < 0:
            raise ValueError(f"baking.border is {self.border}; allowed: 0 or more")
        if not 0 <= self.least_weight <= 1:
            raise ValueError(f"baking.least_weight is {self.least_weight}; allowed: 0 to 1")


class Witness:
    """One camera at one frame."""

    def __init__(self, view: View, frame: int, mesh: Mesh, config: BakingConfig) -> None:
        self._config, self._frame = config, frame
        self._cameras = view.cameras
        finer = view.cameras.resized(_FINER)
        depths = rasterise(mesh, finer, frame)[1].astype(np.float32)
        # The nearest surface about a pixel: beside an occluder a photograph shows a mixture.
        window = np.ones((2 * _FINER + 1,) * 2, np.uint8)
        self._nearest = cv2.erode(depths, window, borderType=cv2.BORDER_REPLICATE)
        covered = np.isfinite(depths[::_FINER, ::_FINER]) if view.masks is None else None
        mask = covered if view.masks is None else view.masks[frame]
        assert mask is not None
        if (seen := view.seen_at(frame)) is not None:
            mask = mask & seen
        self._insides = _insides(mask, config.border)
        # Interpolation beside the outline then meets the subject's colours only.
        self._image = fill_gutter(view.images[frame], mask)
        focal = view.cameras.intrinsics[frame][[0, 1], [0, 1]].mean() * _FINER
        self._radians = 1.0 / float(focal)

    def look(
        self,
        positions: np.ndarray,  # (N, 3) world
        normals: np.ndarray,  # (N, 3) unit, outward
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns (N, 3) float32 colours in [0, 1] and (N,) weights in [0, 1]."""
        pixels, depths = self._cameras.project(positions, self._frame)
        arms = self._cameras.world_from_camera[self._frame][:3, 3] - positions
        cosines = (arms * normals).sum(1) / np.maximum(np.linalg.norm(arms, axis=1), 1e-12)
        facing = np.clip(cosines, 0.0, 1.0)
        nearest = image_values(self._nearest, pixels * _FINER, cv2.INTER_NEAREST, 0.0)
        slopes = np.sqrt(np.maximum(1 - facing**2, 0)) / np.maximum(facing, 1e-3)
        # On a slope the nearest surface of the window is nearer by so much.
        reach = (1 + 2 * _FINER * np.minimum(slopes, _STEEPEST)) * depths * self._radians
        visible = (depths > 0) & (depths <= nearest + reach)
        inside = image_values(self._insides, pixels, cv2.INTER_LINEAR, 0.0)
        weights = facing**self._config.sharpness * inside * visible
        colours = image_values(self._image, pixels, cv2.INTER_LINEAR) / np.float32(255)
        return colours, weights.astype(np.float32)


def bake(
    mesh: Mesh,
    atlas: Atlas,
    size: int,
    witnesses: Sequence[Witness],
    field: ColourField,
    config: BakingConfig,
) -> np.ndarray:
    """Colours a texture.

    Where the witnesses' weights sum to `BakingConfig.least_weight` or more, a texel is their
    weighted mean; below, the field's colour joins with the weight that is missing, so nothing jumps
    at the border of what is seen.

    Args:
        mesh: World units, with normals.
        atlas: Where its triangles lie.
        size: Side of the texture, texels.
        witnesses: The photographs.
        field: The field's colours, asked only where they count.
        config: How.

    Returns:
        (size, size, 3) uint8; the gutter repeats the nearest texel.
    """
    texture = np.zeros((size, size, 3), np.uint8)
    covered = np.zeros((size, size), bool)
    for rows, columns, positions, normals in texels(mesh, atlas, size):
        colours = blend(positions, normals, witnesses, field, config)
        texture[rows, columns] = np.clip(colours * 255 + 0.5, 0, 255).astype(np.uint8)
        covered[rows, columns] = True
    return fill_gutter(texture, covered)


def blend(
    positions: np.ndarray,  # (N, 3) world
    normals: np.ndarray,  # (N, 3) unit
    witnesses: Sequence[Witness],
    field: ColourField,
    config: BakingConfig,
) -> np.ndarray:  # (N, 3)
    """Returns the colours in [0, 1] of points on a surface; see `bake`."""
    sums = np.zeros((len(positions), 3), np.float32)
    totals = np.zeros(len(positions), np.float32)
    for witness in witnesses:
        colours, weights = witness.look(positions, normals)
        sums += colours * weights[:, None]
        totals += weights
    missing = np.maximum(config.least_weight - totals, 0)
    missing[totals == 0] = 1.0
    asked = np.flatnonzero(missing)
    if len(asked):
        sums[asked] += field(positions[asked]).astype(np.float32) * missing[asked, None]
    return sums / (totals + missing)[:, None]


def texels(
    mesh: Mesh, atlas: Atlas, size: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Yields rows (N,), columns (N,), world positions and unit normals (N, 3) of texels."""
    assert mesh.normals is not None
    corners = atlas.uvs[atlas.faces].astype(np.float64) * [size, -size] + [0, size]
    for triangles, columns, rows, weights in covered_pixels(corners, size, size):
        for begin in range(0, len(triangles), CHUNK):
            part = slice(begin, begin + CHUNK)
            chosen, shares = mesh.faces[triangles[part]], weights[part, :, None]
            positions = (mesh.vertices[chosen] * shares).sum(1)
            normals = (mesh.normals[chosen] * shares).sum(1)
            normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
            yield rows[part], columns[part], positions, normals


def fill_gutter(texture: np.ndarray, covered: np.ndarray) -> np.ndarray:
    """Returns a texture whose uncovered texels repeat the nearest covered one.

    Filtered look-ups and smaller copies (mipmaps) then never mix in what was never coloured.
    """
    if covered.all() or not covered.any():
        return texture
    gaps = (~covered).astype(np.uint8)
    found = cv2.distanceTransformWithLabels(
        gaps, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )[1]
    labels = np.asarray(found, np.int64)
    colour_of = np.zeros((labels.max() + 1, 3), np.uint8)
    colour_of[labels[covered]] = texture[covered]
    return colour_of[labels]


def _insides(mask: np.ndarray, border: float) -> np.ndarray:
    """Returns (H, W) float32: 0 at a mask's outline, 1 from `border` pixels inside it on."""
    padded = np.pad(mask.astype(np.uint8), 1)  # the picture's edge is an outline too
    distances = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_5)[1:-1, 1:-1]
    return np.clip((distances - 0.5) / max(border, 1e-6), 0, 1).astype(np.float32)
