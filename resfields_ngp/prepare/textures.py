"""Filtered texture look-ups: a pyramid of halved textures, read along a pixel's footprint.

Vocabulary
    texels      positions in a texture, in its pixels; texel centres at +0.5, the first row on top.
    level       0 is the texture itself, each next one half as wide and high.
    footprint   what a sample's square of the image covers in the texture: the parallelogram of
                two columns, texels per sample across and down (Heckbert, 1989).

A footprint that is longer than wide is read at several places along it, each as wide as it is
(anisotropic filtering), so that a surface seen at a slant is neither aliased nor blurred.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from ..records import check_shape
from ..sequences import leaves_square

MAX_PROBES = 8
"""Places along a footprint; one that is longer in proportion is read as if it were wider."""


@dataclass(frozen=True)
class MipTexture:
    """A texture at all its levels, one behind the other."""

    texels: np.ndarray
    """(n, 3) uint8 sRGB."""
    widths: np.ndarray
    """(L,) of each level."""
    heights: np.ndarray
    """(L,) of each level."""
    starts: np.ndarray
    """(L,) row of `texels` at which a level begins."""

    @staticmethod
    def build(texture: np.ndarray, covered: np.ndarray | None = None) -> MipTexture:
        """Builds the levels.

        Args:
            texture: (H, W, 3) uint8.
            covered: (H, W) bool, the texels that charts cover, from `covered_texels`. Others take
                colours from the nearest charts, so that nothing bleeds in across seams
                (push-pull: Gortler et al., The Lumigraph, 1996). None: all are.
        """
        check_shape("texture", texture, "H W 3")
        weights = np.ones(texture.shape[:2], np.float32)
        if covered is not None and covered.any():
            weights = covered.astype(np.float32)
        colours = [texture.astype(np.float32) * weights[..., None]]
        shares = [weights]
        while max(colours[-1].shape[:2]) > 1:
            size = tuple((n + 1) // 2 for n in shares[-1].shape[::-1])
            colours.append(_halved(colours[-1], size))
            shares.append(_halved(shares[-1], size))
        return _packed(colours, shares)

    def sample(
        self,
        uvs: np.ndarray,  # (N, 2) v upwards; outside [0, 1] the texture repeats
        footprints: np.ndarray,  # (N, 2, 2) uv per sample: columns across and down
    ) -> np.ndarray:
        """Returns (N, 3) float32 colours in [0, 255]."""
        places = np.stack([uvs[:, 0], 1 - uvs[:, 1]], 1).astype(np.float32)
        flipped = footprints * np.array([self.widths[0], -self.heights[0]])[:, None]
        axes, widths = _ellipses(flipped)
        lengths = np.linalg.norm(axes, axis=1)
        n_probes = np.clip(np.ceil(lengths / np.maximum(widths, 1.0)), 1, MAX_PROBES)
        levels = np.log2(np.maximum(lengths / n_probes, 1.0)).astype(np.float32)
        steps = (axes / (n_probes * [[self.widths[0]], [self.heights[0]]]).T).astype(np.float32)
        colours = np.zeros((len(uvs), 3), np.float32)
        for probe in range(int(n_probes.max(initial=0))):
            (rows,) = np.nonzero(n_probes > probe)
            offset = (probe + 0.5 - n_probes[rows] / 2).astype(np.float32)
            at = places[rows] + offset[:, None] * steps[rows]
            colours[rows] += self._trilinear(at, levels[rows])
        return colours / n_probes[:, None].astype(np.float32)

    def mean(self) -> np.ndarray:
        """Returns the (3,) mean colour of what charts cover."""
        return self.texels[-1].astype(np.float32)

    def _trilinear(self, places: np.ndarray, levels: np.ndarray) -> np.ndarray:
        lower = np.minimum(levels.astype(np.int64), len(self.widths) - 1)
        share = (levels - lower)[:, None]
        colours = self._bilinear(places, lower)
        (between,) = np.nonzero((share[:, 0] > 0) & (lower + 1 < len(self.widths)))
        if len(between):
            upper = self._bilinear(places[between], lower[between] + 1)
            colours[between] += share[between] * (upper - colours[between])
        return colours

    def _bilinear(self, places: np.ndarray, levels: np.ndarray) -> np.ndarray:
        widths, heights = self.widths[levels], self.heights[levels]
        x, y = places[:, 0] * widths - 0.5, places[:, 1] * heights - 0.5
        left, top = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
        along, down = (x - left)[:, None], (y - top)[:, None]
        columns = left % widths, (left + 1) % widths
        rows = [self.starts[levels] + row % heights * widths for row in (top, top + 1)]
        upper, lower = (self._between(row + columns[0], row + columns[1], along) for row in rows)
        return upper + down * (lower - upper)

    def _between(self, first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
        start = self.texels[first].astype(np.float32)
        return start + share.astype(np.float32) * (self.texels[second] - start)


def covered_texels(
    corner_uvs: np.ndarray,  # (F, 3, 2) v upwards; NaN rows are left out
    width: int,
    height: int,
) -> np.ndarray | None:
    """Returns (H, W) bool: the texels whose centres lie in a triangle.

    Of a triangle that holds no centre, such as those of a palette, all texels that a look-up at
    its corners reads.

    Returns:
        None where coordinates leave [0, 1]: the texture then repeats and has no gutters.
    """
    corners = corner_uvs[np.isfinite(corner_uvs).all(axis=(1, 2))]
    if len(corners) == 0 or leaves_square(corners):
        return None
    points = np.stack([corners[..., 0] * width, (1 - corners[..., 1]) * height], -1)
    changes = np.zeros((height, width + 1), np.int32)
    triangles, rows = _rows_of(points, height)
    begins, ends = _spans(points[triangles], rows + 0.5)
    first = np.ceil(begins - 0.5).astype(np.int64).clip(0, width)
    last = np.floor(ends - 0.5).astype(np.int64).clip(-1, width - 1)
    filled = (last >= first) & (first < width)
    np.add.at(changes, (rows[filled], first[filled]), 1)
    np.add.at(changes, (rows[filled], last[filled] + 1), -1)
    covered = np.cumsum(changes, axis=1)[:, :width] > 0
    small = points[~np.isin(np.arange(len(points)), triangles[filled])].reshape(-1, 2)
    left, top = np.floor(small - 0.5).astype(np.int64).T
    for column, row in ((left, top), (left + 1, top), (left, top + 1), (left + 1, top + 1)):
        covered[row % height, column % width] = True
    return covered


def _rows_of(points: np.ndarray, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns triangle and row of every row of texel centres that a triangle crosses."""
    first = np.ceil(points[..., 1].min(axis=1) - 0.5).astype(np.int64).clip(0)
    last = np.floor(points[..., 1].max(axis=1) - 0.5).astype(np.int64).clip(max=height - 1)
    counts = np.maximum(last - first + 1, 0)
    triangles = np.repeat(np.arange(len(points)), counts)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return triangles, first[triangles] + within


def _spans(points: np.ndarray, heights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns where triangles (n, 3, 2) begin and end at heights (n,)."""
    begins, ends = np.full(len(points), np.inf), np.full(len(points), -np.inf)
    for i in range(3):
        a, b = points[:, i], points[:, (i + 1) % 3]
        with np.errstate(divide="ignore", invalid="ignore"):
            share = (heights - a[:, 1]) / (b[:, 1] - a[:, 1])
        crossed = (share >= 0) & (share <= 1)
        x = a[:, 0] + np.where(crossed, share, 0) * (b[:, 0] - a[:, 0])
        begins = np.where(crossed, np.minimum(begins, x), begins)
        ends = np.where(crossed, np.maximum(ends, x), ends)
    return begins, ends


def _halved(level: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    return np.asarray(cv2.resize(level, size, interpolation=cv2.INTER_AREA), np.float32)


def _packed(colours: list[np.ndarray], shares: list[np.ndarray]) -> MipTexture:
    """Divides sums by shares, fills what has no share from the coarser level, and packs levels."""
    filled: list[np.ndarray] = []
    for total, share in zip(reversed(colours), reversed(shares), strict=True):
        level = total / np.maximum(share, 1e-12)[..., None]
        empty = share <= 0
        if filled and empty.any():
            size = (share.shape[1], share.shape[0])
            level[empty] = cv2.resize(filled[-1], size, interpolation=cv2.INTER_LINEAR)[empty]
        filled.append(level)
    levels = filled[::-1]
    sizes = np.array([level.shape[:2] for level in levels])
    flat = np.concatenate([np.round(level).reshape(-1, 3).astype(np.uint8) for level in levels])
    counts = sizes.prod(axis=1)
    return MipTexture(flat, sizes[:, 1], sizes[:, 0], np.cumsum(counts) - counts)


def _ellipses(footprints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the (N, 2) long axes of footprints in texels, and their (N,) widths."""
    a, b = footprints[:, 0, 0], footprints[:, 0, 1]
    c, d = footprints[:, 1, 0], footprints[:, 1, 1]
    xx, xy, yy = a * a + b * b, a * c + b * d, c * c + d * d
    spread = np.hypot((xx - yy) / 2, xy)
    long = np.sqrt(np.maximum((xx + yy) / 2 + spread, 0))
    short = np.sqrt(np.maximum((xx + yy) / 2 - spread, 0))
    angle = 0.5 * np.arctan2(2 * xy, xx - yy)
    return long[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1), short
