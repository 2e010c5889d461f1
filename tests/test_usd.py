"""Laws of USD files: frames and sequences open, and a sequence plays its range."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from textured_ball import SIZE, ball, moved, textured_ball

from resfields_ngp.atlas import TexturedMesh, unwrap
from resfields_ngp.decimation import decimate
from resfields_ngp.textured_files import write_textured
from resfields_ngp.usd import write_usd_sequence


def test_a_sequence_plays_meshes_of_different_connectivity(tmp_path: Path) -> None:
    pxr = pytest.importorskip("pxr", reason="usd-core is an extra")
    assert pxr
    from pxr import Usd, UsdGeom

    first, coarse = textured_ball(), decimate(ball()[0], 400)
    second = TexturedMesh(coarse, unwrap(coarse, SIZE, 4), first.texture[::-1])
    frames = [first, moved(second, np.array([0.5, 0, 0])), moved(first, np.array([1.0, 0, 0]))]
    files = []
    for code, textured in zip((1, 2, 5), frames, strict=True):
        base = tmp_path / f"ball_{code:08d}"
        files.append((code, write_textured(textured, base, ("usd",), "png")[0]))
    path = tmp_path / "ball.usdc"
    write_usd_sequence(files, path, 24.0, "+z")
    stage = Usd.Stage.Open(str(path))
    assert (stage.GetStartTimeCode(), stage.GetEndTimeCode()) == (1, 5)
    assert stage.GetTimeCodesPerSecond() == 24 and UsdGeom.GetStageUpAxis(stage) == "Z"
    mesh = UsdGeom.Mesh(stage.GetPrimAtPath("/capture/mesh"))
    places = UsdGeom.PrimvarsAPI(mesh).GetPrimvar("st")
    image = stage.GetPrimAtPath("/capture/material/texture").GetAttribute("inputs:file")
    for (code, _), textured in zip(files, frames, strict=True):
        points = np.array(mesh.GetPointsAttr().Get(code))
        corners = np.array(mesh.GetFaceVertexIndicesAttr().Get(code)).reshape(-1, 3)
        np.testing.assert_allclose(
            points[corners], textured.mesh.vertices[textured.mesh.faces], atol=1e-6
        )
        assert len(mesh.GetFaceVertexCountsAttr().Get(code)) == textured.mesh.n_faces
        flat = np.array(places.ComputeFlattened(code)).reshape(-1, 3, 2)
        np.testing.assert_allclose(flat, textured.atlas.uvs[textured.atlas.faces], atol=1e-6)
        assert places.GetInterpolation() == "faceVarying"
        picture = image.Get(code)
        assert Path(picture.resolvedPath).name == f"ball_{code:08d}.png"
