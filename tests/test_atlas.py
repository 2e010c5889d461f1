"""Laws of unwrapping: charts lie in the picture, do not overlap, and keep the triangles."""

from __future__ import annotations

import numpy as np
import pytest
from textured_ball import SIZE, ball, textured_ball

from resfields_ngp.atlas import unwrap
from resfields_ngp.mesh import Mesh
from resfields_ngp.rasterising import covered_pixels


def test_charts_lie_in_the_texture_and_do_not_overlap() -> None:
    mesh, atlas = ball()
    assert atlas.uvs.min() >= 0 and atlas.uvs.max() <= 1
    corners = atlas.uvs[atlas.faces].astype(float) * 512
    counts = np.zeros((512, 512), int)
    for _, x, y, weights in covered_pixels(corners, 512, 512, np.ones(mesh.n_faces, bool)):
        inner = (weights > 1e-3).all(1)  # a texel on a common edge counts for both triangles
        np.add.at(counts, (y[inner], x[inner]), 1)
    assert counts.max() == 1
    assert (counts > 0).mean() > 0.4


def test_charts_keep_their_distance() -> None:
    mesh, atlas = ball()
    corners = atlas.uvs[atlas.faces].astype(float) * SIZE
    labels = _charts(atlas.faces)
    owner = np.full((SIZE, SIZE), -1)
    for triangles, x, y, _ in covered_pixels(corners, SIZE, SIZE, np.ones(mesh.n_faces, bool)):
        owner[y, x] = labels[triangles]
    # The texel to the right or below belongs to the same chart or to none.
    for first, second in ((owner[:, :-1], owner[:, 1:]), (owner[:-1], owner[1:])):
        both = (first >= 0) & (second >= 0)
        assert (first == second)[both].all()


def _charts(faces: np.ndarray) -> np.ndarray:
    from resfields_ngp.mesh import face_components

    return face_components(Mesh(np.zeros((faces.max() + 1, 3)), faces))


def test_split_vertices_give_the_same_triangles() -> None:
    textured = textured_ball()
    mesh, uvs = textured.split()
    assert len(mesh.vertices) > len(textured.mesh.vertices)
    np.testing.assert_array_equal(
        mesh.vertices[mesh.faces], textured.mesh.vertices[textured.mesh.faces]
    )
    np.testing.assert_array_equal(uvs[mesh.faces], textured.atlas.uvs[textured.atlas.faces])
    assert mesh.normals is not None
    np.testing.assert_allclose(np.linalg.norm(mesh.normals, axis=1), 1, rtol=1e-6)


def test_size_and_place_do_not_matter() -> None:
    mesh, atlas = ball()
    again = unwrap(Mesh(mesh.vertices * 1024.0, mesh.faces), SIZE, 4)
    np.testing.assert_array_equal(again.faces, atlas.faces)
    np.testing.assert_allclose(again.uvs, atlas.uvs, atol=1e-3)


def test_broken_positions_are_an_error() -> None:
    mesh, _ = ball()
    with pytest.raises(ValueError, match="not finite"):
        unwrap(Mesh(mesh.vertices * np.nan, mesh.faces), SIZE, 4)
