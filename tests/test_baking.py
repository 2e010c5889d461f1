"""Laws of baking: who sees a texel colours it, hidden ones take the field's colour, no gaps."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from textured_ball import CENTRE, SIZE, as_colours, ball, painted, view

from resfields_ngp import baking
from resfields_ngp.baking import BakingConfig, Witness, bake, blend, fill_gutter, texels
from resfields_ngp.mesh import Mesh

RED, BLUE, GREEN = (200, 0, 0), (0, 0, 200), np.array([0.0, 1.0, 0.0])
CONFIG = BakingConfig()


def green(positions: np.ndarray) -> np.ndarray:
    """Stands in for the field's colours."""
    return np.broadcast_to(GREEN, positions.shape)


def colours_at(directions: np.ndarray, witnesses: list[Witness]) -> np.ndarray:
    """Returns the blended colours of points of the sphere."""
    normals = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    return blend(CENTRE + normals, normals, witnesses, green, CONFIG)


def test_texels_lie_on_the_surface_at_their_place() -> None:
    mesh, atlas = ball()
    texture = painted(mesh, atlas)
    middles = mesh.vertices[mesh.faces].mean(1)
    places = atlas.uvs[atlas.faces].mean(1) * [SIZE, -SIZE] + [0, SIZE]
    columns, rows = np.clip(places.astype(int), 0, SIZE - 1).T
    # A texel is about 1/20 of the radius wide, that is 6 grey levels.
    off = np.abs(texture[rows, columns].astype(int) - as_colours(middles)).max(1)
    assert np.median(off) <= 6 and off.max() <= 25
    for _, _, positions, normals in texels(mesh, atlas, SIZE):
        np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1.0, rtol=1e-6)
        assert np.abs(np.linalg.norm(positions - CENTRE, axis=1) - 1).max() < 0.02


def test_each_side_takes_the_colour_of_the_camera_that_sees_it() -> None:
    mesh, _ = ball()
    front, right = (Witness(view(a, c), 0, mesh, CONFIG) for a, c in ((0.0, RED), (1.57, BLUE)))
    # In front of the camera at azimuth 0 is +z, of the other +x; behind both is -x and -z.
    found = colours_at(np.array([[-0.3, 0.3, 1.0], [1.0, 0.3, -0.3], [-1, 0, -1]]), [front, right])
    np.testing.assert_allclose(found * 255, [RED, BLUE, GREEN * 255], atol=1)


def test_colours_change_without_a_jump_around_the_sphere() -> None:
    mesh, _ = ball()
    witnesses = [Witness(view(a, c), 0, mesh, CONFIG) for a, c in ((0.0, RED), (1.57, BLUE))]
    angles = np.linspace(0, 2 * np.pi, 2000)
    ring = np.stack([np.sin(angles), 0.2 + 0 * angles, np.cos(angles)], axis=1)
    steps = np.abs(np.diff(colours_at(ring, witnesses), axis=0)).max()
    assert steps < 0.05


def test_what_another_body_hides_takes_the_fields_colour() -> None:
    mesh, _ = ball()
    screen = trimesh.creation.box((0.5, 1.0, 0.02))
    vertices = np.asarray(screen.vertices) + CENTRE + [0, 0.5, 1.8]
    faces = np.concatenate([mesh.faces, np.asarray(screen.faces) + len(mesh.vertices)])
    both = Mesh(np.concatenate([mesh.vertices, vertices]), faces)
    direction = np.array([[0.0, 0.25, 1.0], [0.9, 0.0, 1.0]])
    found = colours_at(direction, [Witness(view(0.0, RED, 128), 0, both, CONFIG)])
    np.testing.assert_allclose(found[0], GREEN)
    np.testing.assert_allclose(found[1] * 255, RED, atol=1)


def test_black_around_the_subject_does_not_bleed_in() -> None:
    mesh, atlas = ball()
    witnesses = [Witness(view(a, (200, 200, 200)), 0, mesh, CONFIG) for a in (0.0, 2.1, 4.2)]
    grey = np.full(3, 200 / 255)
    texture = bake(mesh, atlas, SIZE, witnesses, lambda p: np.broadcast_to(grey, p.shape), CONFIG)
    assert texture.min() >= 199 and texture.max() <= 201


def test_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh, atlas = ball()
    witnesses = [Witness(view(0.0, RED), 0, mesh, CONFIG)]
    whole = bake(mesh, atlas, SIZE, witnesses, green, CONFIG)
    monkeypatch.setattr(baking, "CHUNK", 1000)
    np.testing.assert_array_equal(bake(mesh, atlas, SIZE, witnesses, green, CONFIG), whole)


def test_without_masks_the_mesh_itself_says_where_the_subject_is() -> None:
    mesh, _ = ball()
    seen = view(0.0, RED)
    bare = type(seen)(seen.name, seen.cameras, np.full_like(seen.images, 90), None)
    found = colours_at(np.array([[0.0, 0.3, 1.0], [0, 0, -1]]), [Witness(bare, 0, mesh, CONFIG)])
    np.testing.assert_allclose(found, [[90 / 255] * 3, GREEN], atol=1e-3)


def test_the_gutter_repeats_the_nearest_texel() -> None:
    random = np.random.default_rng(0)
    texture = random.integers(1, 256, (20, 30, 3), dtype=np.uint8)
    covered = random.random((20, 30)) < 0.05
    filled = fill_gutter(np.where(covered[..., None], texture, 0).astype(np.uint8), covered)
    rows, columns = np.nonzero(covered)
    for row, column in np.ndindex(20, 30):
        distances = np.hypot(rows - row, columns - column)
        near = distances <= distances.min() * 1.08 + 1e-9  # OpenCV's distances are to 2 %
        options = texture[rows[near], columns[near]]
        assert (filled[row, column] == options).all(1).any()


@pytest.mark.parametrize("wrong", [{"sharpness": 0.0}, {"border": -1.0}, {"least_weight": 2.0}])
def test_options_out_of_range_are_named(wrong: dict) -> None:
    with pytest.raises(ValueError, match=f"baking.{next(iter(wrong))}"):
        BakingConfig(**wrong)
