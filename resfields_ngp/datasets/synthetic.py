"""An articulated signed-distance figure that walks and waves: truth in closed form.

The body is a union of round cones, each rigidly attached to a bone. A round cone's distance is
exact, so the least of them is the exact distance to the figure outside it; inside, it is a bound
with the right sign. What is attached to a bone (surface, texture, flow) moves with it.

World: metres, +y up, 1.8 m tall. The rest pose stands upright at the origin and faces +z, its left
at +x, arms hanging; joints, parts and textures are written in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import mcubes
import numpy as np

from .synthetic_cones import RoundCone, cone_areas, cone_distances, cone_normals, sample_cone
from .synthetic_textures import TEXTURES

_SIDES = (("left", 1.0), ("right", -1.0))

BONES: dict[str, tuple[str | None, tuple[float, float, float]]] = {
    "pelvis": (None, (0.0, 0.96, 0.0)),
    "chest": ("pelvis", (0.0, 1.06, 0.0)),
    "head": ("chest", (0.0, 1.50, 0.0)),
}
"""Name to parent and joint, the point about which the bone turns; parents first."""
for _side, _sign in _SIDES:
    BONES[f"upper_arm_{_side}"] = ("chest", (_sign * 0.19, 1.40, 0.0))
    BONES[f"forearm_{_side}"] = (f"upper_arm_{_side}", (_sign * 0.23, 1.12, 0.0))
    BONES[f"thigh_{_side}"] = ("pelvis", (_sign * 0.095, 0.94, 0.0))
    BONES[f"shin_{_side}"] = (f"thigh_{_side}", (_sign * 0.105, 0.52, 0.01))
    BONES[f"foot_{_side}"] = (f"shin_{_side}", (_sign * 0.11, 0.09, -0.01))


@dataclass(frozen=True)
class Part:
    """A round cone of the rest pose, the bone that it hangs on and what it wears."""

    bone: str
    """Its bone."""
    cone: RoundCone
    """Its surface, in the rest pose."""
    texture: str
    """Name of its texture."""


def _part(bone, texture, start, end, radii) -> Part:
    return Part(bone, RoundCone(np.array(start), np.array(end), *radii), texture)


def _body() -> tuple[Part, ...]:
    """Returns the parts of the figure."""
    parts = [
        _part("pelvis", "trousers", (-0.07, 0.95, 0), (0.07, 0.95, 0), (0.115, 0.115)),
        _part("chest", "shirt", (0, 1.04, 0), (0, 1.29, 0.01), (0.125, 0.15)),
        _part("chest", "shirt", (-0.13, 1.37, 0), (0.13, 1.37, 0), (0.08, 0.08)),
        _part("chest", "backpack", (0, 1.13, -0.16), (0, 1.30, -0.16), (0.11, 0.10)),
        _part("chest", "skin", (0, 1.40, 0), (0, 1.54, 0.01), (0.06, 0.05)),
        _part("head", "face", (0, 1.59, 0.025), (0, 1.67, 0.0), (0.085, 0.11)),
        _part("head", "hair", (0, 1.685, -0.02), (0, 1.58, -0.055), (0.115, 0.09)),
        _part("head", "skin", (0, 1.635, 0.105), (0, 1.615, 0.12), (0.018, 0.02)),
    ]
    for side, sign in _SIDES:
        shoulder, elbow, wrist = (0.19, 1.40, 0.0), (0.23, 1.12, 0.0), (0.25, 0.88, 0.0)
        hip, knee, ankle = (0.095, 0.93, 0.0), (0.105, 0.52, 0.01), (0.11, 0.10, -0.01)
        mirror = np.array([sign, 1.0, 1.0])
        for bone, texture, start, end, radii in (
            ("upper_arm", "sleeve", shoulder, elbow, (0.065, 0.05)),
            ("forearm", "skin", elbow, wrist, (0.047, 0.034)),
            ("forearm", "skin", (0.252, 0.855, 0.0), (0.256, 0.78, 0.01), (0.042, 0.03)),
            ("forearm", "skin", (0.24, 0.86, 0.025), (0.225, 0.81, 0.05), (0.018, 0.014)),
            ("thigh", "trousers", hip, knee, (0.09, 0.065)),
            ("shin", "trousers", knee, ankle, (0.062, 0.045)),
            ("foot", "shoe", (0.11, 0.05, -0.02), (0.12, 0.04, 0.15), (0.05, 0.038)),
        ):
            parts.append(_part(f"{bone}_{side}", texture, start * mirror, end * mirror, radii))
        ear = np.array([0.108, 1.65, 0.0])
        parts.append(
            _part("head", "skin", ear * mirror, (ear - [0, 0.03, 0]) * mirror, (0.02,) * 2)
        )
    return tuple(parts)


PARTS = _body()
"""All parts of the figure."""


@dataclass(frozen=True)
class Figure:
    """The figure and how it moves, at times in [0, 1]."""

    walk: float = 0.6
    """How far it walks, metres."""
    strides: float = 1.0
    """Walking cycles over the sequence; it waves twice a cycle."""
    texture: str = "cloth"
    """What it wears: cloth, or white."""
    place: tuple[float, float, float] = (0.4, 0.0, -0.25)
    """Where it stands in the middle of its walk, world metres."""
    heading: float = 25.0
    """Which way it walks: degrees from +z towards +x."""

    def poses(self, time: float) -> dict[str, np.ndarray]:
        """Returns the rigid (4, 4) transform from the rest pose to the world of each bone."""
        phase = 2 * np.pi * self.strides * time
        turns = _turns(phase)
        poses: dict[str, np.ndarray] = {}
        for bone, (parent, joint) in BONES.items():
            turn = turns.get(bone, np.eye(3))
            local = np.eye(4)
            local[:3, :3] = turn
            local[:3, 3] = np.asarray(joint) - turn @ np.asarray(joint)
            poses[bone] = (poses[parent] if parent else self._root(time, phase)) @ local
        return poses

    def _root(self, time: float, phase: float) -> np.ndarray:
        """Returns where the rest pose's origin goes: along the walk, bobbing twice a cycle."""
        root = np.eye(4)
        root[:3, :3] = _rotation(1, np.radians(self.heading))
        step = np.array([0.0, 0.02 * np.cos(2 * phase) - 0.02, self.walk * (time - 0.5)])
        root[:3, 3] = np.asarray(self.place) + root[:3, :3] @ step
        return root

    def cones(self, time: float) -> list[RoundCone]:
        """Returns the parts where they are in the world, in the order of `PARTS`."""
        poses = self.poses(time)
        return [part.cone.moved(poses[part.bone]) for part in PARTS]

    def distances(self, points: np.ndarray, time: float) -> np.ndarray:
        """Returns the signed distances (N,) of (N, 3) world points, metres, negative inside.

        Exact outside; inside a part the true distance is at least as large.
        """
        nearest = np.full(len(points), np.inf)
        for cone in self.cones(time):
            nearest = np.minimum(nearest, cone_distances(cone, points))
        return nearest

    def nearest_parts(self, points: np.ndarray, time: float) -> np.ndarray:
        """Returns for (N, 3) world points the part (N,) whose surface is nearest."""
        return np.argmin([cone_distances(cone, points) for cone in self.cones(time)], axis=0)

    def normals(self, points: np.ndarray, time: float) -> np.ndarray:
        """Returns the distance's gradient (N, 3) at world points: unit, outward."""
        parts = self.nearest_parts(points, time)
        normals = np.empty_like(points)
        for index, cone in enumerate(self.cones(time)):
            chosen = parts == index
            normals[chosen] = cone_normals(cone, points[chosen])
        return normals

    def colours(self, points: np.ndarray, parts: np.ndarray, time: float) -> np.ndarray:
        """Returns the unlit sRGB colours (N, 3) in [0, 1] of points on the surface of parts."""
        if self.texture == "white":
            return np.ones_like(points)

        def paint(index: int, pose: np.ndarray, chosen: np.ndarray) -> np.ndarray:
            return TEXTURES[PARTS[index].texture](_move(np.linalg.inv(pose), chosen))

        return self._for_each_part(points, parts, time, paint)

    def flow(self, points: np.ndarray, parts: np.ndarray, time: float, later: float) -> np.ndarray:
        """Returns where (N, 3) points attached to parts are at another time; world.

        A point stays on its part's surface, but other parts may cover it there.
        """
        then = self.poses(later)

        def carry(index: int, pose: np.ndarray, chosen: np.ndarray) -> np.ndarray:
            return _move(then[PARTS[index].bone] @ np.linalg.inv(pose), chosen)

        return self._for_each_part(points, parts, time, carry)

    def _for_each_part(
        self,
        points: np.ndarray,
        parts: np.ndarray,
        time: float,
        change: Callable[[int, np.ndarray, np.ndarray], np.ndarray],
    ) -> np.ndarray:
        """Returns ``change(part, its pose, its points)`` in the points' order."""
        poses = self.poses(time)
        results = np.empty_like(points)
        for index in np.unique(parts):
            chosen = parts == index
            results[chosen] = change(int(index), poses[PARTS[index].bone], points[chosen])
        return results

    def sample(
        self, n_points: int, time: float, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns (N, 3) world points of the visible surface, uniform by area, and their parts."""
        cones = self.cones(time)
        areas = np.array([cone_areas(cone).sum() for cone in cones])
        points, parts = np.empty((0, 3)), np.empty(0, int)
        while len(points) < n_points:
            drawn = random.choice(len(cones), 2 * n_points, p=areas / areas.sum())
            counts = np.bincount(drawn, minlength=len(cones))
            new = np.concatenate(
                [sample_cone(c, n, random) for c, n in zip(cones, counts, strict=True)]
            )
            owners = np.repeat(np.arange(len(cones)), counts)
            shuffled = random.permutation(len(new))
            # On its own cone a point is at 0; below that it lies inside another part.
            visible = shuffled[self.distances(new[shuffled], time) > -1e-9]
            points = np.concatenate([points, new[visible]])
            parts = np.concatenate([parts, owners[visible]])
        return points[:n_points], parts[:n_points]

    def bounds(self, time: float) -> np.ndarray:
        """Returns the (2, 3) corners of its box in the world, lower first."""
        balls = [
            (centre, radius)
            for cone in self.cones(time)
            for centre, radius in ((cone.start, cone.start_radius), (cone.end, cone.end_radius))
        ]
        low = np.min([centre - radius for centre, radius in balls], axis=0)
        return np.stack([low, np.max([centre + radius for centre, radius in balls], axis=0)])

    def mesh(self, time: float, step: float = 0.01) -> tuple[np.ndarray, np.ndarray]:
        """Returns a true mesh: marching cubes, its vertices moved on to the surface by Newton.

        Args:
            time: In [0, 1].
            step: Grid step, metres.

        Returns:
            (V, 3) world vertices and (F, 3) triangles, counter-clockwise seen from outside.
        """
        low, high = self.bounds(time) + [[-2.5 * step], [2.5 * step]]
        axes = [np.arange(low[i], high[i] + step, step) for i in range(3)]
        grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
        distances = self.distances(grid.reshape(-1, 3), time).reshape(grid.shape[:3])
        vertices, faces = mcubes.marching_cubes(distances, 0.0)
        vertices = low + vertices * step
        for _ in range(4):
            vertices -= self.distances(vertices, time)[:, None] * self.normals(vertices, time)
        return vertices, faces.astype(np.int64)[:, ::-1]


def _move(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def _rotation(axis: int, angle: float) -> np.ndarray:
    """Returns the (3, 3) rotation by an angle, radians, about a coordinate axis."""
    one, two = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.eye(3)
    matrix[one, one] = matrix[two, two] = np.cos(angle)
    matrix[two, one], matrix[one, two] = np.sin(angle), -np.sin(angle)
    return matrix


def _turns(phase: float) -> dict[str, np.ndarray]:
    """Returns each bone's turn at a phase of the walk: left leg forward, left arm back."""
    swing = np.sin(phase)
    turns = {
        "chest": _rotation(1, 0.15 * swing) @ _rotation(0, 0.05),
        "head": _rotation(1, -0.35 * np.sin(phase + 0.6)),
        "upper_arm_left": _rotation(2, 0.14) @ _rotation(0, 0.55 * swing),
        "forearm_left": _rotation(0, -0.45 + 0.2 * swing),
        "upper_arm_right": _rotation(2, -1.95) @ _rotation(1, 0.3),
        "forearm_right": _rotation(2, -0.95 + 0.45 * np.sin(2 * phase)),
    }
    for side, sign in _SIDES:
        bend = 0.12 + 0.35 * (1.0 + sign * np.cos(phase))
        turns[f"thigh_{side}"] = _rotation(0, -0.5 * sign * swing - 0.1)
        turns[f"shin_{side}"] = _rotation(0, bend)
        turns[f"foot_{side}"] = _rotation(0, 0.25 * sign * swing - 0.4 * bend)
    return turns
