"""Textured meshes as USD: a file a frame, and a sequence whose samples may change topology."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from .atlas import TexturedMesh
from .extras import required
from .writing import whole_file

METRES_PER_UNIT = 1.0
"""What the files call a world unit, for USD wants a length; captures rarely state theirs."""


_MODULES = ("Sdf", "Usd", "UsdGeom", "UsdShade", "Vt")


def require_usd() -> Any:
    """Returns the modules of usd-core as attributes.

    Raises:
        ImportError: It is not installed; the message has the line that installs it.
    """
    return SimpleNamespace(**{name: required(f"pxr.{name}") for name in _MODULES})


def write_usd_frame(textured: TexturedMesh, path: Path, picture: str, up: str = "+y") -> None:
    """Writes one frame as binary USD that refers to its picture by a relative path.

    Raises:
        ImportError: usd-core is not installed.
        OSError: The disk is full or the folder is not writable.
    """
    pxr = require_usd()
    with whole_file(path) as partial:
        stage, mesh, image = _stage(pxr, partial, up)
        _set_shape(pxr, mesh, textured)
        image.Set(pxr.Sdf.AssetPath(picture))
        stage.GetRootLayer().Save()


def write_usd_sequence(
    frames: Sequence[tuple[int, Path]], path: Path, frames_per_second: float, up: str = "+y"
) -> None:
    """Writes one USD that plays the files of frames; every attribute is sampled over time.

    Args:
        frames: Time code and file of each frame, written by `write_usd_frame`.
        path: The sequence, in the same folder.
        frames_per_second: Speed.
        up: Which axis is up, as `texturing.axes` names it.

    Raises:
        ImportError: usd-core is not installed.
        OSError: A file could not be read or written.
    """
    pxr = require_usd()
    with whole_file(path) as partial:
        stage, mesh, image = _stage(pxr, partial, up)
        stage.SetStartTimeCode(frames[0][0])
        stage.SetEndTimeCode(frames[-1][0])
        stage.SetTimeCodesPerSecond(frames_per_second)
        stage.SetFramesPerSecond(frames_per_second)
        for code, source in frames:
            opened = pxr.Usd.Stage.Open(str(source))
            _copy_samples(opened.GetPrimAtPath(mesh.GetPath()), mesh.GetPrim(), code)
            shader = opened.GetPrimAtPath(image.GetPrim().GetPath())
            image.Set(shader.GetAttribute("inputs:file").Get(), code)
        stage.GetRootLayer().Save()


def _stage(pxr: Any, path: Path, up: str) -> tuple[Any, Any, Any]:
    """Returns a stage with an empty textured mesh, the mesh, and its picture's attribute."""
    stage = pxr.Usd.Stage.CreateNew(str(path))
    # USD knows no other axes than y and z.
    axis = pxr.UsdGeom.Tokens.z if up.endswith("z") else pxr.UsdGeom.Tokens.y
    pxr.UsdGeom.SetStageUpAxis(stage, axis)
    pxr.UsdGeom.SetStageMetersPerUnit(stage, METRES_PER_UNIT)
    root = pxr.UsdGeom.Xform.Define(stage, "/capture")
    stage.SetDefaultPrim(root.GetPrim())
    mesh = pxr.UsdGeom.Mesh.Define(stage, "/capture/mesh")
    mesh.CreateSubdivisionSchemeAttr(pxr.UsdGeom.Tokens.none)
    material = pxr.UsdShade.Material.Define(stage, "/capture/material")
    surface = pxr.UsdShade.Shader.Define(stage, "/capture/material/surface")
    surface.CreateIdAttr("UsdPreviewSurface")
    texture = pxr.UsdShade.Shader.Define(stage, "/capture/material/texture")
    texture.CreateIdAttr("UsdUVTexture")
    image = texture.CreateInput("file", pxr.Sdf.ValueTypeNames.Asset)
    reader = pxr.UsdShade.Shader.Define(stage, "/capture/material/reader")
    reader.CreateIdAttr("UsdPrimvarReader_float2")
    reader.CreateInput("varname", pxr.Sdf.ValueTypeNames.String).Set("st")
    result = reader.CreateOutput("result", pxr.Sdf.ValueTypeNames.Float2)
    texture.CreateInput("st", pxr.Sdf.ValueTypeNames.Float2).ConnectToSource(result)
    colour = texture.CreateOutput("rgb", pxr.Sdf.ValueTypeNames.Float3)
    # Emitted and not reflected: the light is in the texture.
    surface.CreateInput("diffuseColor", pxr.Sdf.ValueTypeNames.Color3f).Set((0, 0, 0))
    surface.CreateInput("emissiveColor", pxr.Sdf.ValueTypeNames.Color3f).ConnectToSource(colour)
    surface.CreateInput("roughness", pxr.Sdf.ValueTypeNames.Float).Set(1.0)
    output = surface.CreateOutput("surface", pxr.Sdf.ValueTypeNames.Token)
    material.CreateSurfaceOutput().ConnectToSource(output)
    pxr.UsdShade.MaterialBindingAPI.Apply(mesh.GetPrim()).Bind(material)
    return stage, mesh, image.GetAttr()


def _set_shape(pxr: Any, mesh: Any, textured: TexturedMesh) -> None:
    """Sets points, triangles and texture coordinates for all time."""
    vertices = np.ascontiguousarray(textured.mesh.vertices, np.float32)
    corners = np.ascontiguousarray(textured.mesh.faces.ravel(), np.int32)
    counts = np.full(textured.mesh.n_faces, 3, np.int32)
    mesh.CreatePointsAttr().Set(pxr.Vt.Vec3fArray.FromNumpy(vertices))
    mesh.CreateFaceVertexIndicesAttr().Set(pxr.Vt.IntArray.FromNumpy(corners))
    mesh.CreateFaceVertexCountsAttr().Set(pxr.Vt.IntArray.FromNumpy(counts))
    box = np.stack([vertices.min(0), vertices.max(0)])
    mesh.CreateExtentAttr().Set(pxr.Vt.Vec3fArray.FromNumpy(box))
    places = pxr.UsdGeom.PrimvarsAPI(mesh).CreatePrimvar(
        "st", pxr.Sdf.ValueTypeNames.TexCoord2fArray, pxr.UsdGeom.Tokens.faceVarying
    )
    uvs = np.ascontiguousarray(textured.atlas.uvs, np.float32)
    places.Set(pxr.Vt.Vec2fArray.FromNumpy(uvs))
    indices = np.ascontiguousarray(textured.atlas.faces.ravel(), np.int32)
    places.SetIndices(pxr.Vt.IntArray.FromNumpy(indices))


def _copy_samples(source: Any, target: Any, code: float) -> None:
    """Copies a mesh's shape to a time sample of another."""
    for attribute in source.GetAuthoredAttributes():
        name = attribute.GetName()
        if name in _SAMPLED:
            copy = target.CreateAttribute(name, attribute.GetTypeName(), custom=False)
            if attribute.HasAuthoredMetadata("interpolation"):
                copy.SetMetadata("interpolation", attribute.GetMetadata("interpolation"))
            copy.Set(attribute.Get(), code)


_SAMPLED = (
    "points",
    "faceVertexIndices",
    "faceVertexCounts",
    "extent",
    "primvars:st",
    "primvars:st:indices",
)
