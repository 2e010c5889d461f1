"""What moves in a glTF file: nodes, skins and morph targets, at any time of an animation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from .base import SequenceError, TexturedMesh
from .gltf import Gltf, srgb_of_linear
from .gltf_channels import Channel, read_channel

Pose = Mapping[int, Mapping[str, np.ndarray]]
"""Node to what an animation sets of it: translation, rotation (x, y, z, w), scale, weights."""
_NO_SURFACE = (0, 1, 2, 3)
"""Modes of primitives that are points or lines."""


@dataclass(frozen=True)
class Motion:
    """An animation of a file, or its rest pose where it has none."""

    file: Gltf
    """The file."""
    channels: tuple[Channel, ...]
    """What runs."""

    @staticmethod
    def find(file: Gltf, name: str = "") -> Motion:
        """Returns the animation called `name`, or the first.

        Raises:
            SequenceError: There is no animation of that name.
        """
        entries = file.tree.get("animations", [])
        names = [entry.get("name", str(number)) for number, entry in enumerate(entries)]
        if name and name not in names:
            allowed = ", ".join(names) or "none: the file does not move"
            raise SequenceError(f'{file.path}: no animation "{name}" (there are: {allowed})')
        if not entries:
            return Motion(file, ())
        entry = entries[names.index(name) if name else 0]
        channels = (read_channel(file, entry, each) for each in entry["channels"])
        return Motion(file, tuple(each for each in channels if each is not None))

    @property
    def duration(self) -> float:
        """Seconds to the last key."""
        return max((float(each.times[-1]) for each in self.channels), default=0.0)

    def mesh(self, time: float) -> TexturedMesh:
        """Returns the scene's triangles at a time, seconds, in the world of its root.

        Raises:
            SequenceError: The scene has no triangles.
        """
        pose: dict[int, dict[str, np.ndarray]] = {}
        for channel in self.channels:
            pose.setdefault(channel.node, {})[channel.path] = channel.at(time)
        world = self._world_matrices(pose)
        nodes = self.file.tree["nodes"]
        parts = [
            _part(self.file, primitive, number, pose, world)
            for number in world
            if "mesh" in nodes[number] and _is_shown(nodes[number], world[number])
            for primitive in self.file.tree["meshes"][nodes[number]["mesh"]]["primitives"]
            if primitive.get("mode", 4) not in _NO_SURFACE
        ]
        if not parts:
            raise SequenceError(f"{self.file.path}: no triangles in its scene")
        return _joined(self.file, parts)

    @cached_property
    def _roots(self) -> list[int]:
        tree = self.file.tree
        if "scenes" in tree:
            return tree["scenes"][tree.get("scene", 0)].get("nodes", [])
        return list(range(len(tree.get("nodes", []))))

    def _world_matrices(self, pose: Pose) -> dict[int, np.ndarray]:
        """Returns the (4, 4) matrix from each node of the scene to the world."""
        world: dict[int, np.ndarray] = {}
        waiting = [(number, np.eye(4)) for number in self._roots]
        while waiting:
            number, parent = waiting.pop()
            node = self.file.tree["nodes"][number]
            world[number] = parent @ _local_matrix(node, pose.get(number, {}))
            waiting += [(child, world[number]) for child in node.get("children", [])]
        return world


def _is_shown(node: dict[str, Any], matrix: np.ndarray) -> bool:
    """Returns False where a node is scaled to nothing, which hides it; a skin does not heed it."""
    return "skin" in node or bool(matrix[:3, :3].any())


def _local_matrix(node: dict[str, Any], posed: Mapping[str, np.ndarray]) -> np.ndarray:
    if "matrix" in node and not posed:
        return np.array(node["matrix"], float).reshape(4, 4).T
    matrix = np.eye(4)
    rotation = posed.get("rotation", node.get("rotation", [0, 0, 0, 1]))
    scale = np.asarray(posed.get("scale", node.get("scale", [1, 1, 1])), float)
    matrix[:3, :3] = Rotation.from_quat(rotation).as_matrix() * scale
    matrix[:3, 3] = posed.get("translation", node.get("translation", [0, 0, 0]))
    return matrix


def _part(
    file: Gltf,
    primitive: dict[str, Any],
    number: int,
    pose: Pose,
    world: Mapping[int, np.ndarray],
) -> TexturedMesh:
    """Returns one primitive of a node, morphed, skinned and placed."""
    if primitive.get("mode", 4) != 4:
        raise SequenceError(f"{file.path}: triangle strips or fans; export it as triangles")
    attributes = primitive["attributes"]
    node = file.tree["nodes"][number]
    vertices = file.accessor(attributes["POSITION"])
    weights = pose.get(number, {}).get("weights", _rest_weights(file, node))
    for target, weight in zip(primitive.get("targets", []), weights, strict=False):
        if weight and "POSITION" in target:
            vertices = vertices + weight * file.accessor(target["POSITION"])
    if "skin" in node and "JOINTS_0" in attributes:
        vertices = _skinned(file, vertices, attributes, node["skin"], world)
    else:
        vertices = vertices @ world[number][:3, :3].T + world[number][:3, 3]
    indices = primitive.get("indices")
    flat = file.accessor(indices)[:, 0] if indices is not None else np.arange(len(vertices))
    faces = flat[: len(flat) // 3 * 3].reshape(-1, 3)
    if len(faces) and faces.max() >= len(vertices):
        raise SequenceError(f"{file.path}: a face names a vertex that is not there; copy it again")
    materials, notes = file.materials
    made_of = primitive.get("material", len(materials) - 1)
    return TexturedMesh(
        vertices,
        faces,
        materials,
        np.full(len(faces), made_of),
        _corner_uvs(file, primitive, made_of, faces),
        _colours(file, attributes),
        tuple(notes),
    )


def _rest_weights(file: Gltf, node: dict[str, Any]) -> Any:
    return node.get("weights", file.tree["meshes"][node["mesh"]].get("weights", []))


def _skinned(
    file: Gltf,
    vertices: np.ndarray,
    attributes: dict[str, int],
    skin: int,
    world: Mapping[int, np.ndarray],
) -> np.ndarray:
    """Returns vertices moved by their joints (linear blending); the node's own place is void."""
    entry = file.tree["skins"][skin]
    joints = np.stack([world.get(joint, np.eye(4)) for joint in entry["joints"]])
    if "inverseBindMatrices" in entry:
        inverse = file.accessor(entry["inverseBindMatrices"]).reshape(-1, 4, 4)
        joints = joints @ inverse.transpose(0, 2, 1)
    moved = np.zeros_like(vertices)
    total = np.zeros(len(vertices))
    level = 0
    while f"JOINTS_{level}" in attributes:
        numbers = file.accessor(attributes[f"JOINTS_{level}"])
        weights = file.accessor(attributes[f"WEIGHTS_{level}"])
        for number, weight in zip(numbers.T, weights.T, strict=True):
            matrices = joints[number]
            turned = np.einsum("nij,nj->ni", matrices[:, :3, :3], vertices) + matrices[:, :3, 3]
            moved += weight[:, None] * turned
            total += weight
        level += 1
    return moved / np.maximum(total, 1e-12)[:, None]


def _corner_uvs(
    file: Gltf, primitive: dict[str, Any], material: int, faces: np.ndarray
) -> np.ndarray | None:
    """Returns (F, 3, 2) with v upwards, of the texture's own set and transform."""
    entries = file.tree.get("materials", [])
    surface = entries[material].get("pbrMetallicRoughness", {}) if material < len(entries) else {}
    texture = surface.get("baseColorTexture", {})
    moved = texture.get("extensions", {}).get("KHR_texture_transform", {})
    attribute = f"TEXCOORD_{moved.get('texCoord', texture.get('texCoord', 0))}"
    if attribute not in primitive["attributes"]:
        return None
    uvs = file.accessor(primitive["attributes"][attribute]).astype(float)
    angle = moved.get("rotation", 0.0)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    uvs = (uvs * moved.get("scale", [1, 1])) @ turn.T + moved.get("offset", [0, 0])
    uvs[:, 1] = 1 - uvs[:, 1]
    return uvs[faces]


def _colours(file: Gltf, attributes: dict[str, int]) -> np.ndarray | None:
    if "COLOR_0" not in attributes:
        return None
    linear = file.accessor(attributes["COLOR_0"])[:, :3]
    return np.round(255 * srgb_of_linear(linear)).astype(np.uint8)


def _joined(file: Gltf, parts: list[TexturedMesh]) -> TexturedMesh:
    """Returns primitives as one mesh; what only some of them have is filled in."""
    offsets = np.cumsum([0, *(len(part.vertices) for part in parts)])
    uvs, colours = None, None
    if any(part.corner_uvs is not None for part in parts):
        bare = [np.full((part.n_faces, 3, 2), np.nan) for part in parts]
        uvs = np.concatenate(
            [e if p.corner_uvs is None else p.corner_uvs for p, e in zip(parts, bare, strict=True)]
        )
    if all(part.colours is not None for part in parts):
        colours = np.concatenate([part.colours for part in parts if part.colours is not None])
    materials, notes = file.materials
    return TexturedMesh(
        np.concatenate([part.vertices for part in parts]),
        np.concatenate([p.faces + o for p, o in zip(parts, offsets[:-1], strict=True)]),
        materials,
        np.concatenate([np.asarray(part.face_materials) for part in parts]),
        uvs,
        colours,
        tuple(dict.fromkeys(notes)),
    )
