"""Round cones: two spheres and the cone that touches both, exactly. Distance, normal, ray, area.

In the half-plane through the axis a point has the height ``u`` along the axis from the first
centre and the distance ``v`` from the axis; the cone's side is a straight line there, with unit
normal (cos, sin) in (v, u), where sin = (first radius - second radius) / length.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_MISS = np.inf


@dataclass(frozen=True)
class RoundCone:
    """Two spheres and the cone that touches both."""

    start: np.ndarray
    """(3,) centre of the first sphere."""
    end: np.ndarray
    """(3,) centre of the second; neither sphere holds the other."""
    start_radius: float
    """Radius of the first sphere."""
    end_radius: float
    """Radius of the second."""

    def __post_init__(self) -> None:
        assert self.length > abs(self.start_radius - self.end_radius), self

    @property
    def length(self) -> float:
        """Distance between the centres."""
        return float(np.linalg.norm(self.end - self.start))

    @property
    def axis(self) -> np.ndarray:
        """(3,) unit vector from the first centre to the second."""
        return (self.end - self.start) / self.length

    @property
    def sine(self) -> float:
        """How much the side leans towards the axis: sine of the half opening."""
        return (self.start_radius - self.end_radius) / self.length

    @property
    def cosine(self) -> float:
        """Cosine of the half opening."""
        return float(np.sqrt(1.0 - self.sine**2))

    def moved(self, matrix: np.ndarray) -> RoundCone:
        """Returns the cone taken along by a rigid (4, 4) transform."""
        start, end = (matrix[:3, :3] @ centre + matrix[:3, 3] for centre in (self.start, self.end))
        return RoundCone(start, end, self.start_radius, self.end_radius)


def _split(cone: RoundCone, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns heights (N,), vectors from the axis (N, 3) and places along the side (N,)."""
    offsets = points - cone.start
    heights = offsets @ cone.axis
    across = offsets - heights[:, None] * cone.axis
    along = cone.cosine * heights - cone.sine * np.linalg.norm(across, axis=1)
    return heights, across, along


def cone_distances(cone: RoundCone, points: np.ndarray) -> np.ndarray:
    """Returns the exact signed distances (N,) of (N, 3) points, negative inside."""
    heights, across, along = _split(cone, points)
    from_axis = np.linalg.norm(across, axis=1)
    side = cone.cosine * from_axis + cone.sine * heights - cone.start_radius
    first = np.hypot(from_axis, heights) - cone.start_radius
    second = np.hypot(from_axis, heights - cone.length) - cone.end_radius
    return np.where(along < 0, first, np.where(along > cone.cosine * cone.length, second, side))


def cone_normals(cone: RoundCone, points: np.ndarray) -> np.ndarray:
    """Returns the gradients (N, 3) of the distance: unit, outward."""
    _, across, along = _split(cone, points)
    from_axis = np.linalg.norm(across, axis=1, keepdims=True)
    side = cone.cosine * across / np.maximum(from_axis, 1e-12) + cone.sine * cone.axis
    normals = np.where((along < 0)[:, None], points - cone.start, side)
    beyond = (along > cone.cosine * cone.length)[:, None]
    normals = np.where(beyond, points - cone.end, normals)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


def hit_cone(
    cone: RoundCone,
    origin: np.ndarray,  # (3,) outside the cone
    directions: np.ndarray,  # (R, 3) unit
) -> np.ndarray:
    """Returns the distances (R,) at which rays enter the cone; infinite for a miss."""
    hits = np.minimum(
        _hit_sphere(cone.start, cone.start_radius, origin, directions),
        _hit_sphere(cone.end, cone.end_radius, origin, directions),
    )
    offset = origin - cone.start
    height, slope = offset @ cone.axis, directions @ cone.axis
    across = offset - height * cone.axis
    # The side is where cos^2 v^2 = (r - sin u)^2, with u and v^2 polynomials of the ray's distance.
    lean = cone.start_radius - cone.sine * height
    a = cone.cosine**2 * (1.0 - slope**2) - (cone.sine * slope) ** 2
    b = cone.cosine**2 * (directions @ across) + lean * cone.sine * slope
    c = cone.cosine**2 * (across @ across) - lean**2
    root = np.sqrt(np.maximum(b * b - a * c, 0.0))
    a = np.where(np.abs(a) < 1e-12, 1e-12, a)
    for sign in (-1.0, 1.0):
        t = (-b + sign * root) / a
        heights = height + t * slope
        # Both ends of the side: where the spheres take over.
        on_side = (heights > cone.start_radius * cone.sine) & (
            heights < cone.length + cone.end_radius * cone.sine
        )
        real = on_side & (b * b >= a * c) & (t > 0)
        hits = np.where(real & (t < hits), t, hits)
    return hits


def _hit_sphere(
    centre: np.ndarray, radius: float, origin: np.ndarray, directions: np.ndarray
) -> np.ndarray:
    offset = origin - centre
    half = directions @ offset
    discriminant = half**2 - (offset @ offset - radius**2)
    t = -half - np.sqrt(np.maximum(discriminant, 0.0))
    return np.where((discriminant >= 0) & (t > 0), t, _MISS)


def cone_areas(cone: RoundCone) -> np.ndarray:
    """Returns the areas (3,) of the first cap, the side and the second cap."""
    r, s, sine, cosine = cone.start_radius, cone.end_radius, cone.sine, cone.cosine
    side = (r + s) * cosine * cosine * cone.length / 2
    return 2 * np.pi * np.array([r * r * (1 + sine), side, s * s * (1 - sine)])


def sample_cone(cone: RoundCone, n_points: int, random: np.random.Generator) -> np.ndarray:
    """Returns (N, 3) points of the surface, uniform by area."""
    areas = cone_areas(cone)
    kinds = random.choice(3, n_points, p=areas / areas.sum())
    fraction, angle = random.random(n_points), random.random(n_points) * 2 * np.pi
    r, s, sine, cosine = cone.start_radius, cone.end_radius, cone.sine, cone.cosine
    # A sphere's area is uniform in height; a cone's grows with its radius, hence the root.
    first = r * (-1 + fraction * (1 + sine))
    second = s * (sine + fraction * (1 - sine))
    radii = cosine * np.sqrt(r * r + fraction * (s * s - r * r))
    share = (r * cosine - radii) / ((r - s) * cosine) if abs(r - s) > 1e-9 else fraction
    side = r * sine + share * (cone.length + (s - r) * sine)
    heights = np.choose(kinds, [first, side, cone.length + second])
    caps = np.choose(kinds, [r * r - first**2, radii**2, s * s - second**2])
    from_axis = np.sqrt(np.maximum(caps, 0.0))
    one = np.cross(cone.axis, np.eye(3)[np.argmin(np.abs(cone.axis))])
    one /= np.linalg.norm(one)
    two = np.cross(cone.axis, one)
    around = np.cos(angle)[:, None] * one + np.sin(angle)[:, None] * two
    return cone.start + heights[:, None] * cone.axis + from_axis[:, None] * around
