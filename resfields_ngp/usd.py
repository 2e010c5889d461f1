"""Textured meshes as USD: a file a frame, and a sequence whose samples may change topology."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .atlas import TexturedMesh
from .writing import whole_file

if TYPE_CHECKING:
    from pxr import Usd

METRES_PER_UNIT = 1.0
"""What the files call a world unit, for USD wants a length; captures rarely state theirs."""


def require_usd() -> None:
    """Checks that usd-core is there.

    Raises:
        ImportError: It is not; the message has the line that installs it.
    """
    try:
        import pxr  # noqa: F401
    except ImportError:
        raise ImportError(
            "usd files need usd-core, which is not installed; pip install 'resfields-ngp[usd]',"
            " or leave usd out of --format"
        ) from None


def write_usd_frame(textured: TexturedMesh, path: Path, picture: str, up: str = "Y") -> None:
    """Writes one frame as binary USD that refers to its picture by a relative path.

    Raises:
        ImportError: usd-core is not installed.
        OSError: The disk is full or the folder is not writable.
    """
    require_usd()
    from pxr import Sdf

    with whole_file(path) as partial:
        stage, mesh, image = _stage(partial, up)
        _set_shape(mesh, textured, None)
        image.Set(Sdf.AssetPath(picture))
        stage.GetRootLayer().Save()


def write_usd_sequence(
    frames: Sequence[tuple[int, Path]], path: Path, frames_per_second: float, up: str = "Y"
) -> None:
    """Writes one USD that plays the files of frames; every attribute is sampled over time.

    Args:
        frames: Time code and file of each frame, written by `write_usd_frame`.
        path: The sequence, in the same folder.
        frames_per_second: Speed.
        up: Up axis, Y or Z.

    Raises:
        ImportError: usd-core is not installed.
        OSError: A file could not be read or written.
    """
    require_usd()
    from pxr import Usd

    with whole_file(path) as partial:
        stage, mesh, image = _stage(partial, up)
        stage.SetStartTimeCode(frames[0][0])
        stage.SetEndTimeCode(frames[-1][0])
        stage.SetTimeCodesPerSecond(frames_per_second)
        stage.SetFramesPerSecond(frames_per_second)
        for code, source in frames:
            opened = Usd.Stage.Open(str(source))
            _copy_samples(opened.GetPrimAtPath(mesh.GetPath()), mesh.GetPrim(), code)
            shader = opened.GetPrimAtPath(image.GetPrim().GetPath())
            image.Set(shader.GetAttribute("inputs:file").Get(), code)
        stage.GetRootLayer().Save()


def _stage(path: Path, up: str) -> tuple[Usd.Stage, Any, Any]:
    """Returns a stage with an empty textured mesh, the mesh, and its picture's attribute."""
    from pxr import Sdf, Usd, UsdGeom, UsdShade

    stage = Usd.Stage.CreateNew(str(path))
    UsdGeom.SetStageUpAxis(stage, getattr(UsdGeom.Tokens, up.lower()))
    UsdGeom.SetStageMetersPerUnit(stage, METRES_PER_UNIT)
    root = UsdGeom.Xform.Define(stage, "/capture")
    stage.SetDefaultPrim(root.GetPrim())
    mesh = UsdGeom.Mesh.Define(stage, "/capture/mesh")
    mesh.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
    material = UsdShade.Material.Define(stage, "/capture/material")
    surface = UsdShade.Shader.Define(stage, "/capture/material/surface")
    surface.CreateIdAttr("UsdPreviewSurface")
    texture = UsdShade.Shader.Define(stage, "/capture/material/texture")
    texture.CreateIdAttr("UsdUVTexture")
    image = texture.CreateInput("file", Sdf.ValueTypeNames.Asset)
    reader = UsdShade.Shader.Define(stage, "/capture/material/reader")
    reader.CreateIdAttr("UsdPrimvarReader_float2")
    reader.CreateInput("varname", Sdf.ValueTypeNames.String).Set("st")
    result = reader.CreateOutput("result", Sdf.ValueTypeNames.Float2)
    texture.CreateInput("st", Sdf.ValueTypeNames.Float2).ConnectToSource(result)
    colour = texture.CreateOutput("rgb", Sdf.ValueTypeNames.Float3)
    # Emitted and not reflected: the light is in the texture.
    surface.CreateInput("diffuseColor", Sdf.ValueTypeNames.Color3f).Set((0, 0, 0))
    surface.CreateInput("emissiveColor", Sdf.ValueTypeNames.Color3f).ConnectToSource(colour)
    surface.CreateInput("roughness", Sdf.ValueTypeNames.Float).Set(1.0)
    output = surface.CreateOutput("surface", Sdf.ValueTypeNames.Token)
    material.CreateSurfaceOutput().ConnectToSource(output)
    UsdShade.MaterialBindingAPI.Apply(mesh.GetPrim()).Bind(material)
    return stage, mesh, image.GetAttr()


def _set_shape(mesh: Any, textured: TexturedMesh, code: float | None) -> None:
    """Sets points, triangles and texture coordinates at a time code, or for all time."""
    from pxr import Sdf, Usd, UsdGeom, Vt

    time = Usd.TimeCode.Default() if code is None else Usd.TimeCode(code)
    vertices = np.ascontiguousarray(textured.mesh.vertices, np.float32)
    corners = np.ascontiguousarray(textured.mesh.faces.ravel(), np.int32)
    counts = np.full(textured.mesh.n_faces, 3, np.int32)
    mesh.CreatePointsAttr().Set(Vt.Vec3fArray.FromNumpy(vertices), time)
    mesh.CreateFaceVertexIndicesAttr().Set(Vt.IntArray.FromNumpy(corners), time)
    mesh.CreateFaceVertexCountsAttr().Set(Vt.IntArray.FromNumpy(counts), time)
    box = np.stack([vertices.min(0), vertices.max(0)])
    mesh.CreateExtentAttr().Set(Vt.Vec3fArray.FromNumpy(box), time)
    places = UsdGeom.PrimvarsAPI(mesh).CreatePrimvar(
        "st", Sdf.ValueTypeNames.TexCoord2fArray, UsdGeom.Tokens.faceVarying
    )
    uvs = np.ascontiguousarray(textured.atlas.uvs, np.float32)
    places.Set(Vt.Vec2fArray.FromNumpy(uvs), time)
    indices = np.ascontiguousarray(textured.atlas.faces.ravel(), np.int32)
    places.SetIndices(Vt.IntArray.FromNumpy(indices), time)


def _copy_samples(source: Usd.Prim, target: Usd.Prim, code: float) -> None:
    """Copies a mesh's shape to a time sample of another."""
    from pxr import Usd

    for attribute in source.GetAuthoredAttributes():
        name = attribute.GetName()
        if name in _SAMPLED:
            copy = target.CreateAttribute(name, attribute.GetTypeName(), custom=False)
            for key in ("interpolation",):
                if attribute.HasAuthoredMetadata(key):
                    copy.SetMetadata(key, attribute.GetMetadata(key))
            copy.Set(attribute.Get(), Usd.TimeCode(code))


_SAMPLED = (
    "points",
    "faceVertexIndices",
    "faceVertexCounts",
    "extent",
    "primvars:st",
    "primvars:st:indices",
)
