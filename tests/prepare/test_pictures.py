"""Laws of mesh pictures: closed forms of a square and a ball, lamps, edges, damaged look-ups."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import trimesh

from resfields_ngp.cameras import Cameras, look_at
from resfields_ngp.prepare.clouds import directions_around, sample_surface
from resfields_ngp.prepare.pictures import PictureConfig, render_mesh
from resfields_ngp.prepare.raycasting import RayCaster
from resfields_ngp.prepare.shading import ShadedMesh
from resfields_ngp.sequences import Material, TexturedMesh

SIZE = 48
UP = np.array([0.0, 1.0, 0.0])


def camera(eye: list[float], target: tuple[float, ...] = (0, 0, 0), size: int = SIZE) -> Cameras:
    intrinsics = np.array([[[size, 0, size / 2], [0, size, size / 2], [0, 0, 1.0]]])
    return Cameras(intrinsics, look_at(np.array(eye), np.array(target), UP)[None], size, size)


def square(side: float = 1.0) -> TexturedMesh:
    """Returns a square in the plane z = 0 that faces +z, whose texture fills it."""
    corners = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0.0]]) * side / 2
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    uvs = corners[:, :2] / side + 0.5
    texture = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    return TexturedMesh(corners, faces, (Material(texture=texture),), None, uvs[faces])


def ball(radius: float = 0.5) -> TexturedMesh:
    mesh = trimesh.creation.icosphere(subdivisions=5)
    return TexturedMesh(radius * mesh.vertices, np.asarray(mesh.faces, np.int64))


def render(mesh: TexturedMesh, cameras: Cameras, samples: int = 4, lamp=None, ambient=0.5):
    shaded = ShadedMesh(mesh, lamp, ambient)
    return render_mesh(shaded, RayCaster(mesh.vertices, mesh.faces), cameras, 0, samples)


@pytest.mark.parametrize("samples", [1, 4, 9])
def test_depth_and_cover_of_a_ball_are_those_of_a_ball(samples: int):
    cameras = camera([0.3, 0.2, 1.6])
    picture = render(ball(), cameras, samples)
    pixels = np.stack(np.meshgrid(np.arange(SIZE) + 0.5, np.arange(SIZE) + 0.5), -1)
    in_camera = np.concatenate([(pixels - SIZE / 2) / SIZE, np.ones((SIZE, SIZE, 1))], -1)
    rays = in_camera @ cameras.world_from_camera[0][:3, :3].T
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    eye = cameras.world_from_camera[0][:3, 3]
    middle = -(rays @ eye)
    inside = middle**2 - eye @ eye + 0.25
    both = picture.mask & (inside > 0.01)
    expected = middle - np.sqrt(np.maximum(inside, 0))
    assert both.sum() > 300
    # The polyhedron is inscribed: its faces lie up to 0.4 mm below the ball.
    np.testing.assert_allclose(picture.depths[both], expected[both], atol=2e-3)
    assert picture.cover.sum() == pytest.approx((inside > 0).sum(), rel=0.02)
    assert (picture.depths[~picture.mask] == 0).all()
    assert (picture.depths[picture.mask] > 0).all()


def test_a_square_seen_pixel_for_texel_shows_its_texture():
    mesh = square()
    # At distance 1 with a focal length of 16 a texel of 1/16 is a pixel.
    cameras = camera([0, 0, 1.0], size=16)
    texture = mesh.materials[0].texture
    assert texture is not None
    picture = render(mesh, cameras, 1)
    np.testing.assert_allclose(picture.colours, texture, atol=0.51)
    np.testing.assert_allclose(picture.cover, 1)


def test_cover_is_the_share_of_the_pixel():
    picture = render(square(0.5), camera([0, 0, 1.0], size=16), 16)
    assert picture.cover.sum() == pytest.approx(64, abs=1e-5)
    shifted = render(square(0.5), camera([0.25 / 16, 0, 1.0], (0.25 / 16, 0, 0), 16), 16)
    assert shifted.cover.sum() == pytest.approx(64, abs=1e-5)
    assert set(np.unique(shifted.cover)) == {0.0, 0.25, 0.75, 1.0}


def test_a_lamp_shades_by_its_angle_and_ambient_light():
    mesh = replace(square(), materials=(Material(colour=(1, 1, 1)),), corner_uvs=None)
    for angle in (0, 60, 120):
        lamp = np.array([np.sin(np.radians(angle)), 0, np.cos(np.radians(angle))])
        picture = render(mesh, camera([0, 0, 1.0]), 1, lamp, 0.2)
        light = 0.2 + 0.8 * max(0, np.cos(np.radians(angle)))
        assert picture.colours[24, 24, 0] == pytest.approx(255 * light, abs=1e-3)
    behind = render(mesh, camera([0, 0, -1.0]), 1, np.array([0, 0, -1.0]), 0.2)
    assert behind.colours[24, 24, 0] == pytest.approx(255)  # lit on the side that is seen


def test_vertex_colours_run_evenly_over_a_face():
    mesh = square()
    colours = np.array([[0, 0, 0], [255, 0, 0], [255, 255, 0], [0, 255, 0]], np.uint8)
    mesh = replace(mesh, materials=(Material(),), corner_uvs=None, colours=colours)
    picture = render(mesh, camera([0, 0, 1.0], size=16), 1)
    expected = 255 * (np.arange(16) + 0.5) / 16
    np.testing.assert_allclose(picture.colours[:, :, 0], np.tile(expected, (16, 1)), atol=1e-3)
    np.testing.assert_allclose(picture.colours[:, 3, 1], expected[::-1], atol=1e-3)


def test_faces_without_a_place_in_the_texture_show_its_mean():
    mesh = square()
    assert mesh.corner_uvs is not None
    uvs = mesh.corner_uvs.copy()
    uvs[0] = np.nan
    mesh = replace(mesh, corner_uvs=uvs, materials=(Material(texture=np.full((4, 4, 3), 9, "u1")),))
    picture = render(mesh, camera([0, 0, 1.0], size=16), 4)
    np.testing.assert_allclose(picture.colours, 9, atol=1e-3)
    assert ShadedMesh(mesh, None, 0.5).n_without_uv == 1


def test_edges_are_cut_blended_or_straight_alpha():
    mesh = replace(square(0.5), materials=(Material(colour=(1, 1, 1)),), corner_uvs=None)
    picture = render(mesh, camera([0.25 / 16, 0, 1.0], (0.25 / 16, 0, 0), 16), 16)
    config = PictureConfig(samples=16, background=(0, 0, 1))
    cut, blend, alpha = (
        picture.image(replace(config, edges=edges)) for edges in ("cut", "blend", "alpha")
    )
    rim = (picture.cover > 0) & (picture.cover < 1)
    assert rim.any() and set(map(tuple, cut.reshape(-1, 3))) == {(255,) * 3, (0, 0, 255)}
    assert (blend[rim & (picture.cover == 0.75)] == [191, 191, 255]).all()
    assert (alpha[rim][:, :3] == 255).all()  # the figure's own colour, not darkened by cover
    np.testing.assert_array_equal(alpha[..., 3], np.round(255 * picture.cover))


def test_a_figure_out_of_sight_or_around_the_camera_is_no_fault():
    away = render(ball(), camera([0, 0, 3.0], (0, 0, 6.0)))
    assert not away.mask.any()
    inside = render(ball(), camera([0, 0, 0.0], (0, 0, 1.0)))
    assert inside.mask.all() and np.abs(inside.depths - 0.5).max() < 2e-3


@pytest.mark.parametrize(
    "wrong",
    [{"samples": 5}, {"samples": 0}, {"ambient": 2.0}, {"lamp": (0, 0, 0)}, {"edges": "soft"}],
)
def test_impossible_settings_are_refused(wrong: dict):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        PictureConfig(**wrong)


def test_visible_points_leave_out_what_is_inside():
    outer, inner = ball(0.5), ball(0.3)
    faces = np.concatenate([outer.faces, inner.faces + len(outer.vertices)])
    mesh = TexturedMesh(np.concatenate([outer.vertices, inner.vertices]), faces)
    shaded, caster = ShadedMesh(mesh, None, 0.5), RayCaster(mesh.vertices, mesh.faces)
    for visible, share in ((True, 0.0), (False, 0.3**2 / (0.3**2 + 0.5**2))):
        points, normals = sample_surface(shaded, caster, 4000, visible, np.random.default_rng(0))
        radii = np.linalg.norm(points, axis=1)
        assert len(points) == 4000
        assert (radii < 0.4).mean() == pytest.approx(share, abs=0.03)
        np.testing.assert_allclose(np.einsum("ni,ni->n", points, normals), radii, atol=1e-3)


def test_directions_are_unit_and_balanced():
    directions = directions_around(64)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1)
    assert len(np.unique(directions.round(9), axis=0)) == 64
    assert np.linalg.norm(directions.mean(axis=0)) < 0.02
    assert np.linalg.norm(directions[:8].mean(axis=0)) < 0.4
