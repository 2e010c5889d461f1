"""One GLB that plays frames: each its own mesh, shown for its time.

What is not shown is scaled to nothing, in steps: glTF has no other switch that every viewer knows.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .gltf import ASSET, FLOAT, Buffer, packed
from .manifest import read_manifest
from .sequences.gltf import glb_chunks
from .writing import write_whole

MOST_BYTES = 4_000_000_000
"""Of the frames together: a GLB's length is a 32-bit number."""


class TooLargeError(ValueError):
    """The frames do not fit into one file; the message says what helps."""


def write_animation(folder: Path, path: Path, frames_per_second: float) -> int:
    """Writes a GLB that plays the GLB files that a manifest lists, in order of frames.

    Args:
        folder: Where ``manifest.json`` is, of plain or of textured meshes.
        path: The file to write; it is whole or not there.
        frames_per_second: Speed.

    Returns:
        The number of frames; nothing is written for none.

    Raises:
        TooLargeError: The file would have over 4 GB.
        OSError: A file could not be read or written.
    """
    rows = read_manifest(folder / "manifest.json")["frames"]
    files = [folder / name for row in rows for name in row["files"] if name.endswith(".glb")]
    if files:
        write_whole(path, animated_glb((file.read_bytes() for file in files), frames_per_second))
    return len(files)


def animate(run: Path, name: str, folder: Path, frames_per_second: float = 30.0) -> str:
    """Writes ``RUN/NAME.glb``, see `write_animation`, and returns a line that says so."""
    path = run / f"{name}.glb"
    return f"animation: {path}, {write_animation(folder, path, frames_per_second)} frames"


def animated_glb(frames: Iterable[bytes], frames_per_second: float) -> bytes:
    """Returns a GLB that plays others, each under a node of its own.

    Args:
        frames: GLB files as `gltf` writes them, in order.
        frames_per_second: Speed.

    Raises:
        TooLargeError: The file would have over 4 GB.
    """
    joined: dict[str, list[dict[str, Any]]] = defaultdict(list)
    extensions: dict[str, set[str]] = defaultdict(set)
    parts, roots = Buffer(), []
    for content in frames:
        text, binary = glb_chunks(content)
        tree = json.loads(text)
        begin = parts.append(binary)
        if len(parts.content) > MOST_BYTES:
            raise TooLargeError(
                "meshing.animate: the frames together have over 4 GB, which no GLB can; give "
                "--target-faces or fewer --frames"
            )
        _move(tree, {name: len(entries) for name, entries in joined.items()}, begin)
        for name in _LISTS:
            joined[name] += tree.get(name, [])
        for name in ("extensionsUsed", "extensionsRequired"):
            extensions[name].update(tree.get(name, []))
        children = tree["scenes"][0]["nodes"]
        roots.append({"name": f"frame {len(roots)}"} | ({"children": children} if children else {}))
    numbers = range(len(joined["nodes"]), len(joined["nodes"]) + len(roots))
    joined["nodes"] += roots
    parts.views, parts.accessors = joined["bufferViews"], joined["accessors"]
    if len(roots) > 1:
        for root in roots[1:]:
            root["scale"] = [0.0, 0.0, 0.0]  # where animations are not played
        joined["animations"].append(_steps(parts, numbers, frames_per_second))
    return packed(
        {
            "asset": ASSET,
            **{name: sorted(found) for name, found in extensions.items() if found},
            "scene": 0,
            "scenes": [{"nodes": list(numbers)}],
            **{name: entries for name, entries in joined.items() if entries},
            "buffers": [{"byteLength": len(parts.content)}],
        },
        parts.content,
    )


_LISTS = (
    *("bufferViews", "accessors", "images", "samplers", "textures", "materials", "meshes"),
    "nodes",
)


def _move(tree: dict[str, Any], before: Mapping[str, int], begin: int) -> None:
    """Renumbers what a file's entries refer to.

    Args:
        tree: The file's JSON, changed in place.
        before: How many entries of each list come before its own.
        begin: Where its binary chunk lies in the joint one.
    """

    def shift(entry: dict[str, Any], key: str, kind: str) -> None:
        if key in entry:
            entry[key] += before.get(kind, 0)

    for view in tree.get("bufferViews", []):
        view["byteOffset"] = view.get("byteOffset", 0) + begin
    for entry in (*tree.get("accessors", []), *tree.get("images", [])):
        shift(entry, "bufferView", "bufferViews")
    for texture in tree.get("textures", []):
        shift(texture, "source", "images")
        shift(texture, "sampler", "samplers")
    for material in tree.get("materials", []):
        shift(material["pbrMetallicRoughness"].get("baseColorTexture", {}), "index", "textures")
    for primitive in (each for mesh in tree.get("meshes", []) for each in mesh["primitives"]):
        shift(primitive, "indices", "accessors")
        shift(primitive, "material", "materials")
        for name in primitive["attributes"]:
            shift(primitive["attributes"], name, "accessors")
        for extension in primitive.get("extensions", {}).values():  # Draco's attributes are its own
            shift(extension, "bufferView", "bufferViews")
    for node in tree.get("nodes", []):
        shift(node, "mesh", "meshes")
    scene = tree["scenes"][0]
    scene["nodes"] = [number + before.get("nodes", 0) for number in scene.get("nodes", [])]


def _steps(parts: Buffer, nodes: Sequence[int], frames_per_second: float) -> dict[str, Any]:
    """Returns the animation that shows one node after another; the last one stays for its time."""
    channels, samplers = [], []
    for index, node in enumerate(nodes):
        keys = [(index, 1.0), (index + 1, float(index + 1 == len(nodes)))]
        keys = [(0, 0.0), *keys] if index else keys
        times, scales = zip(*keys, strict=True)
        seconds = _at_most(np.array(times) / frames_per_second)
        number = parts.add(seconds, "SCALAR", FLOAT)
        parts.accessors[number] |= {"min": [float(seconds[0])], "max": [float(seconds[-1])]}
        output = parts.add(np.repeat(np.array(scales)[:, None], 3, axis=1), "VEC3", FLOAT)
        samplers.append({"input": number, "output": output, "interpolation": "STEP"})
        channels.append({"sampler": index, "target": {"node": node, "path": "scale"}})
    return {"name": "frames", "channels": channels, "samplers": samplers}


def _at_most(times: np.ndarray) -> np.ndarray:
    """Returns times as floats, none later than it was: at its time a frame is there."""
    stored = times.astype(np.float32)
    return np.where(stored > times, np.nextafter(stored, np.float32(0)), stored)
