"""Textured meshes as files: OBJ with MTL and picture, GLB, PLY with vertex colours; and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import trimesh
from trimesh.visual import TextureVisuals

from .atlas import Atlas, TexturedMesh
from .draco import EXTENSION
from .extras import required
from .gltf import textured_glb
from .mesh import Mesh, is_far
from .mesh_files import to_ply
from .textured_rendering import lookup
from .writing import write_whole

SUFFIXES = {"png": ".png", "jpeg": ".jpg"}
"""Kind of picture to the suffix of its file."""

JPEG_QUALITY = 95


def write_textured(
    textured: TexturedMesh,
    base: Path,
    formats: Sequence[str],
    picture: str,
    up: str = "+y",
    draco: bool = False,
) -> list[Path]:
    """Writes a mesh in some formats; each file is whole or not there.

    Args:
        textured: World units.
        base: Path of the files without suffix.
        formats: Any of obj (with ``.mtl`` and the picture), glb, ply and usd (with the picture).
        picture: png or jpeg.
        up: Which axis is up, for the formats that say so.
        draco: Whether glb files are compressed.

    Returns:
        The files, those of the first format first.

    Raises:
        OSError: The disk is full or the folder is not writable.
        ImportError: usd or draco is asked for and its package is not installed.
    """
    encoded = encode_picture(textured.texture, picture)
    image = base.with_name(base.name + SUFFIXES[picture])
    written: list[Path] = []
    if "obj" in formats or "usd" in formats:
        write_whole(image, encoded)
    for suffix in formats:
        path = base.with_name(f"{base.name}.{'usdc' if suffix == 'usd' else suffix}")
        written.append(path)
        if suffix == "obj":
            material = path.with_suffix(".mtl")
            write_whole(material, to_mtl(image.name).encode())
            write_whole(path, to_textured_obj(textured, material.name))
            written += [material, image]
        elif suffix == "glb":
            mesh, uvs = textured.split()
            write_whole(path, textured_glb(mesh, uvs, encoded, picture, draco))
        elif suffix == "ply":
            write_whole(path, to_ply(with_vertex_colours(textured)))
        else:
            from .usd import write_usd_frame

            write_usd_frame(textured, path, image.name, up)
            written.append(image)
    return list(dict.fromkeys(written))


def encode_picture(texture: np.ndarray, kind: str) -> bytes:
    """Returns a (H, W, 3) uint8 RGB picture as the bytes of a png or jpeg file."""
    settings = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if kind == "jpeg" else []
    done, content = cv2.imencode(SUFFIXES[kind], texture[..., ::-1], settings)
    assert done, kind
    return content.tobytes()


def to_mtl(picture: str) -> str:
    """Returns a material that shows a picture as it is; its path is relative."""
    return f"newmtl material0\nKa 1 1 1\nKd 1 1 1\nKs 0 0 0\nillum 1\nmap_Kd {picture}\n"


def to_textured_obj(textured: TexturedMesh, material: str) -> bytes:
    """Returns an OBJ with ``f v/vt`` and no normals, as Owlii's sequences are written."""
    lines = [f"mtllib {material}"]
    pattern = "v %.14g %.14g %.14g" if is_far(textured.mesh) else "v %.7g %.7g %.7g"
    lines += [pattern % tuple(vertex) for vertex in textured.mesh.vertices.tolist()]
    lines += [f"vt {u:.6f} {v:.6f}" for u, v in textured.atlas.uvs.tolist()]
    lines.append("usemtl material0")
    pairs = zip(
        (textured.mesh.faces + 1).tolist(), (textured.atlas.faces + 1).tolist(), strict=True
    )
    lines += [f"f {a}/{i} {b}/{j} {c}/{k}" for (a, b, c), (i, j, k) in pairs]
    return ("\n".join(lines) + "\n").encode()


def with_vertex_colours(textured: TexturedMesh) -> Mesh:
    """Returns the mesh with each vertex coloured as the texture is there."""
    places = np.zeros((len(textured.mesh.vertices), 2))
    # On a seam any of the vertex's places will do: their colours are of the same point.
    places[textured.mesh.faces] = textured.atlas.uvs[textured.atlas.faces]
    colours = np.round(lookup(textured.texture, places)).astype(np.uint8)
    return replace(textured.mesh, colours=colours)


def read_textured(path: Path) -> TexturedMesh:
    """Reads a textured OBJ or GLB: triangles as they are, one vertex a place in the texture.

    Raises:
        ValueError: The file is cut off, or has no texture.
        FileNotFoundError: It is missing.
        ImportError: It is compressed with Draco, and DracoPy is not installed.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such mesh; run mesh --texture uv first")
    if path.suffix == ".glb" and EXTENSION.encode() in path.read_bytes():
        required("DracoPy")  # without it trimesh would not say what is wrong
    try:
        loaded = trimesh.load(path, process=False, force="mesh")
        assert isinstance(loaded, trimesh.Trimesh)
        visual = loaded.visual
        assert isinstance(visual, TextureVisuals) and visual.uv is not None, "no uv coordinates"
        material = visual.material
        image = getattr(material, "image", None) or getattr(material, "baseColorTexture", None)
        assert image is not None, "no texture"
        texture = np.asarray(image.convert("RGB"))
    except OSError:
        raise
    except Exception as error:  # trimesh raises whatever its parsers stumble over
        raise ValueError(
            f"{path}: not a readable textured mesh ({error}); export the frame again"
        ) from error
    faces = np.asarray(loaded.faces, np.int64)
    mesh = Mesh(np.asarray(loaded.vertices), faces)
    return TexturedMesh(mesh, Atlas(np.asarray(visual.uv, np.float32), faces), texture)
