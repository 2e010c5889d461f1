"""What the synthetic figure wears: colours of points in its rest pose, sRGB in [0, 1].

Patterns are 4 to 8 cm coarse, about what a pixel row or two resolves at the default image size.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Texture = Callable[[np.ndarray], np.ndarray]
"""(N, 3) points of the rest pose to (N, 3) colours."""

_RED, _CREAM, _NAVY = (0.78, 0.16, 0.14), (0.95, 0.90, 0.78), (0.13, 0.19, 0.42)
_GOLD, _SKY, _DENIM = (0.97, 0.78, 0.18), (0.45, 0.66, 0.88), (0.20, 0.33, 0.58)
_SKIN, _HAIR, _DARK = (0.89, 0.69, 0.55), (0.30, 0.18, 0.10), (0.10, 0.08, 0.08)
_WHITE, _GREEN, _ORANGE = (0.96, 0.96, 0.96), (0.16, 0.50, 0.30), (0.93, 0.49, 0.13)


def _choose(condition: np.ndarray, yes, no) -> np.ndarray:
    """Returns (N, 3): `yes` where the condition (N,) holds, else `no`; each a colour or (N, 3)."""
    return np.where(condition[:, None], np.asarray(yes, float), np.asarray(no, float))


def _bands(values: np.ndarray, width: float) -> np.ndarray:
    """Returns True in every other band of a width."""
    return np.floor(values / width).astype(int) % 2 == 0


def _disc(points: np.ndarray, x: float, y: float, radius: float) -> np.ndarray:
    """Returns True on the front within a radius of (x, y)."""
    inside = np.hypot(points[:, 0] - x, points[:, 1] - y) < radius
    return inside & (points[:, 2] > 0)


def shirt(points: np.ndarray) -> np.ndarray:
    """Striped; a gold disc with a navy heart on the chest, a navy panel on the left."""
    colours = _choose(_bands(points[:, 1], 0.065), _RED, _CREAM)
    colours = _choose(points[:, 0] > 0.095, _NAVY, colours)
    colours = _choose(_disc(points, -0.02, 1.24, 0.075), _GOLD, colours)
    return _choose(_disc(points, -0.02, 1.24, 0.035), _NAVY, colours)


def sleeve(points: np.ndarray) -> np.ndarray:
    """Ringed: cream and red on the right, gold and navy on the left."""
    bands = _bands(points[:, 1], 0.055)
    right, left = _choose(bands, _RED, _CREAM), _choose(bands, _NAVY, _GOLD)
    return _choose(points[:, 0] > 0, left, right)


def trousers(points: np.ndarray) -> np.ndarray:
    """Chequered around each leg; a green patch on the left knee, an orange one on the right."""
    centre = np.where(points[:, 0] > 0, 0.1, -0.1)
    around = np.arctan2(points[:, 0] - centre, points[:, 2])
    checks = _bands(points[:, 1], 0.08) ^ _bands(around, np.pi / 2)
    colours = _choose(checks, _DENIM, _SKY)
    colours = _choose(_disc(points, 0.105, 0.52, 0.05), _GREEN, colours)
    return _choose(_disc(points, -0.105, 0.52, 0.05), _ORANGE, colours)


def face(points: np.ndarray) -> np.ndarray:
    """Skin with eyes, brows and a mouth."""
    x, y, z = points.T
    front = z > 0.02
    sides = np.abs(np.abs(x) - 0.042)
    colours = _choose(front & (np.hypot(sides, y - 1.655) < 0.021), _WHITE, _SKIN)
    colours = _choose(front & (np.hypot(sides, y - 1.655) < 0.013), _DARK, colours)
    colours = _choose(front & (sides < 0.026) & (np.abs(y - 1.695) < 0.009), _HAIR, colours)
    return _choose(front & (np.abs(x) < 0.04) & (np.abs(y - 1.568) < 0.012), _RED, colours)


def skin(points: np.ndarray) -> np.ndarray:
    """Bare skin."""
    return np.broadcast_to(np.asarray(_SKIN), points.shape)


def hair(points: np.ndarray) -> np.ndarray:
    """Brown, with lighter streaks."""
    around = np.arctan2(points[:, 0], points[:, 2] + 0.05)
    return _choose(_bands(around, np.pi / 7), _HAIR, (0.46, 0.29, 0.16))


def shoe(points: np.ndarray) -> np.ndarray:
    """Orange, with a white sole and a dark tip."""
    colours = _choose(points[:, 2] > 0.12, _DARK, _ORANGE)
    return _choose(points[:, 1] < 0.025, _WHITE, colours)


def backpack(points: np.ndarray) -> np.ndarray:
    """A patchwork of green, gold and navy around an orange pocket."""
    columns = np.floor((points[:, 0] + 0.5) / 0.06).astype(int)
    rows = np.floor(points[:, 1] / 0.07).astype(int)
    patches = np.asarray([_GREEN, _GOLD, _NAVY])[(columns + 2 * rows) % 3]
    pocket = (np.abs(points[:, 0]) < 0.06) & (np.abs(points[:, 1] - 1.16) < 0.04)
    return _choose(pocket, _ORANGE, patches)


TEXTURES: dict[str, Texture] = {
    "shirt": shirt,
    "sleeve": sleeve,
    "trousers": trousers,
    "face": face,
    "skin": skin,
    "hair": hair,
    "shoe": shoe,
    "backpack": backpack,
}
"""Name to texture."""
