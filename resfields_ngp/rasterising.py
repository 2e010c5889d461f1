"""Meshes seen by a camera: which triangle each pixel shows, without a GPU and without a loop."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from .cameras import Cameras
from .mesh import Mesh, vertex_normals

_CHUNK = 1 << 20  # candidate pixels looked at together


def rasterise(mesh: Mesh, cameras: Cameras, frame: int) -> tuple[np.ndarray, np.ndarray]:
    """Finds the nearest triangle at the centre of each pixel.

    Fast for what isosurfaces give, many triangles of a pixel or two: all pixels of all triangles'
    boxes are tested at once. Triangles that reach behind the camera are left out.

    Args:
        mesh: World units.
        cameras: The camera.
        frame: Its frame.

    Returns:
        (H, W) triangle numbers, -1 where there is none, and (H, W) depths along the optical axis in
        world units, infinite where there is none.
    """
    pixels, depths = cameras.project(np.asarray(mesh.vertices, np.float64), frame)
    corners, corner_depths = pixels[mesh.faces], depths[mesh.faces]
    seen = np.full(cameras.height * cameras.width, -1)
    nearest = np.full(cameras.height * cameras.width, np.inf)
    in_front = np.all(corner_depths > 1e-9, axis=1)
    for triangles, x, y, weights in covered_pixels(
        corners, cameras.width, cameras.height, in_front
    ):
        places = y * cameras.width + x
        # The inverse depth, not the depth, is linear in the picture.
        found = 1 / (weights / corner_depths[triangles]).sum(1)
        closer = found < nearest[places]
        order = np.argsort(-found[closer], kind="stable")  # of repeated places the last one stays
        places, triangles, found = places[closer], triangles[closer], found[closer]
        nearest[places[order]] = found[order]
        seen[places[order]] = triangles[order]
    shape = (cameras.height, cameras.width)
    return seen.reshape(shape), nearest.reshape(shape)


def silhouette(mesh: Mesh, cameras: Cameras, frame: int) -> np.ndarray:
    """Returns the (H, W) mask of the pixels whose centres a mesh covers."""
    return rasterise(mesh, cameras, frame)[0] >= 0


def shaded(mesh: Mesh, cameras: Cameras, frame: int) -> np.ndarray:
    """Returns a (H, W, 3) uint8 RGB picture of the bare shape as grey clay, on black."""
    fine = cameras.resized(2.0)
    triangles, _ = rasterise(mesh, fine, frame)
    normals = vertex_normals(mesh.vertices, mesh.faces)[mesh.faces].mean(1)
    to_lamp = fine.world_from_camera[frame][:3, :3] @ np.array([-0.55, -0.75, -0.6])
    facing = normals @ (to_lamp / np.linalg.norm(to_lamp))
    lengths = np.maximum(np.linalg.norm(normals, axis=1), 1e-12)
    greys = np.append(0.1 + 0.88 * np.clip(facing / lengths * 0.65 + 0.35, 0, 1) ** 1.3, 0.0)
    picture = greys[triangles]
    rows, columns = cameras.height * 2, cameras.width * 2
    small = picture[:rows, :columns].reshape(cameras.height, 2, cameras.width, 2).mean((1, 3))
    return np.repeat((small * 255).round().astype(np.uint8)[..., None], 3, axis=2)


def covered_pixels(
    corners: np.ndarray,  # (F, 3, 2) pixels
    width: int,
    height: int,
    usable: np.ndarray | None = None,  # (F,) bool
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Yields the pixels whose centres lie in plane triangles, many at a time.

    Args:
        corners: The triangles.
        width: Pixels across.
        height: Pixels down.
        usable: The triangles to look at; None for all.

    Yields:
        (N,) triangle numbers, (N,) columns, (N,) rows and (N, 3) weights of the corners.
    """
    if usable is None:
        usable = np.ones(len(corners), bool)
    for triangles, x, y in _candidates(corners, width, height, usable):
        weights = barycentric(corners[triangles], np.stack([x, y], 1) + 0.5)
        inside = (weights >= 0).all(1)
        yield triangles[inside], x[inside], y[inside], weights[inside]


def _candidates(
    corners: np.ndarray, width: int, height: int, usable: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yields triangles, columns and rows of all pixels whose centres lie in triangles' boxes."""
    limits = np.array([width, height])
    used = usable[:, None]
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]  # quicker than a minimum over an axis
    least, most = np.minimum(np.minimum(a, b), c), np.maximum(np.maximum(a, b), c)
    low = np.where(used, np.clip(np.ceil(least - 0.5), 0, limits), 0).astype(np.int64)
    high = np.floor(np.clip(most - 0.5, -1, limits - 1)).astype(np.int64)
    sizes = np.where(used, np.maximum(high - low + 1, 0), 0)
    counts = sizes.prod(1)
    busy = np.flatnonzero(counts)
    ends = np.cumsum(counts[busy])
    while len(busy):
        n = max(1, int(np.searchsorted(ends, _CHUNK, side="right")))
        triangles = np.repeat(busy[:n], counts[busy[:n]])
        within = np.arange(ends[n - 1]) - np.repeat(ends[:n] - counts[busy[:n]], counts[busy[:n]])
        widths = sizes[triangles, 0]
        yield triangles, low[triangles, 0] + within % widths, low[triangles, 1] + within // widths
        busy, ends = busy[n:], ends[n:] - ends[n - 1]


def barycentric(corners: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Returns (N, 3) weights of triangles' corners at points; NaN for triangles seen edge on."""
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        area = _cross(b - a, c - a)
        weights = [_cross(c - b, points - b) / area, _cross(a - c, points - c) / area]
        return np.stack([*weights, 1 - weights[0] - weights[1]], 1)


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]


def image_values(
    image: np.ndarray,  # (H, W, ...)
    pixels: np.ndarray,  # (N, 2)
    interpolation: int,
    outside: float | None = None,
) -> np.ndarray:  # (N, ...)
    """Returns an image's values at pixels, centres at +0.5.

    Args:
        image: Of one or more channels.
        pixels: Where.
        interpolation: OpenCV's, such as `cv2.INTER_LINEAR`.
        outside: What lies beyond the border; None repeats the border.
    """
    # OpenCV's coordinates are 16 bits wide, and so is the longest side of what it fills.
    width = 4096
    padding = -len(pixels) % width
    places = np.pad(pixels - 0.5, ((0, padding), (0, 0))).astype(np.float32)
    places = np.clip(places, -4, 32000).reshape(-1, width, 2)
    mode = cv2.BORDER_REPLICATE if outside is None else cv2.BORDER_CONSTANT
    x, y = np.ascontiguousarray(places[..., 0]), np.ascontiguousarray(places[..., 1])
    found = cv2.remap(image, x, y, interpolation, borderMode=mode, borderValue=outside or 0)
    return found.reshape(-1, *image.shape[2:])[: len(pixels)]
