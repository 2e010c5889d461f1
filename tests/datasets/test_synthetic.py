from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree

from resfields_ngp.cameras import Cameras
from resfields_ngp.clouds import read_cloud
from resfields_ngp.datasets import CaptureConfig, load_capture
from resfields_ngp.datasets.synthetic import PARTS, Figure
from resfields_ngp.datasets.synthetic_capture import (
    SyntheticConfig,
    camera_rig,
    normalised_space,
    write_synthetic,
)
from resfields_ngp.datasets.synthetic_cones import (
    RoundCone,
    cone_areas,
    cone_distances,
    hit_cone,
    sample_cone,
)
from resfields_ngp.datasets.synthetic_rendering import render_figure
from resfields_ngp.model_space import ModelSpace
from resfields_ngp.records import frame_time

FIGURE = Figure()
SMALL = SyntheticConfig(n_frames=3, n_cameras=2, size=64, n_points=2000)
CONES = [
    RoundCone(np.array([0.1, 0.2, 0.3]), np.array([0.4, -0.3, 0.9]), 0.3, 0.1),
    RoundCone(np.array([0.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0]), 0.2, 0.2),
    RoundCone(np.array([0.0, 0.0, 0.0]), np.array([0.5, 0.1, 0.0]), 0.1, 0.35),
]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Returns a small capture on disk."""
    return write_synthetic(SMALL, tmp_path_factory.mktemp("capture") / "walk")


def near_surface(time: float, n_points: int = 3000, reach: float = 0.2) -> np.ndarray:
    random = np.random.default_rng(5)
    points, _ = FIGURE.sample(n_points, time, random)
    return points + random.normal(scale=reach, size=points.shape)


@pytest.mark.parametrize("cone", CONES)
def test_distance_to_a_cone_is_that_to_its_nearest_surface_point(cone):
    random = np.random.default_rng(0)
    surface = sample_cone(cone, 200_000, random)
    assert np.abs(cone_distances(cone, surface)).max() < 1e-12
    points = random.uniform(-1, 1.5, (300, 3))
    nearest, _ = cKDTree(surface).query(points)
    # The surface's samples are about 3 mm apart, which shows up close.
    assert np.abs(np.abs(cone_distances(cone, points)) - nearest).max() < 5e-3


@pytest.mark.parametrize("cone", CONES)
def test_a_cone_has_the_area_by_which_its_distance_field_grows(cone):
    random = np.random.default_rng(0)
    points, width = random.uniform(-1.5, 2.0, (400_000, 3)), 0.02
    shell = (np.abs(cone_distances(cone, points)) < width).mean() * 3.5**3 / (2 * width)
    # Monte Carlo with about 3000 hits; a shell's curvature adds less.
    assert cone_areas(cone).sum() == pytest.approx(shell, rel=0.06)


@pytest.mark.parametrize("cone", CONES)
def test_rays_meet_a_cone_where_its_distance_is_first_zero(cone):
    origin = np.array([0.5, 0.4, -3.0])
    targets = np.random.default_rng(1).uniform(-0.5, 1.0, (500, 3))
    directions = (targets - origin) / np.linalg.norm(targets - origin, axis=1, keepdims=True)
    hits = hit_cone(cone, origin, directions)
    traced = np.zeros(len(directions))
    for _ in range(200):
        traced += cone_distances(cone, origin + traced[:, None] * directions)
    met = np.isfinite(hits)
    assert 0.05 < met.mean() < 0.95
    assert np.allclose(traced[met], hits[met], atol=1e-3)
    assert (traced[~met] > 6).all()


@pytest.mark.parametrize("time", [0.0, 0.3, 0.8])
def test_normals_are_the_unit_gradient_of_the_distance(time):
    points, step = near_surface(time), 1e-5
    moves = step * np.eye(3)
    gradients = np.stack(
        [
            (FIGURE.distances(points + move, time) - FIGURE.distances(points - move, time))
            / (2 * step)
            for move in moves
        ],
        axis=1,
    )
    # The gradient jumps where two parts are equally near; few points lie there.
    close = np.abs(gradients - FIGURE.normals(points, time)).max(axis=1) < 1e-3
    assert close.mean() > 0.995
    assert np.allclose(np.linalg.norm(FIGURE.normals(points, time), axis=1), 1)


def test_distance_outside_is_that_to_the_nearest_visible_point():
    random = np.random.default_rng(2)
    surface, _ = FIGURE.sample(100_000, 0.4, random)
    points = near_surface(0.4, 500)
    distances = FIGURE.distances(points, 0.4)
    nearest, _ = cKDTree(surface).query(points)
    assert np.abs(nearest - distances)[distances > 0].max() < 8e-3


def test_the_figure_is_as_tall_as_a_person_and_its_box_holds_it():
    points, _ = FIGURE.sample(20_000, 0.25, np.random.default_rng(0))
    low, high = FIGURE.bounds(0.25)
    assert (points > low - 1e-9).all() and (points < high + 1e-9).all()
    head = points[np.linalg.norm(points[:, [0, 2]] - points[:, [0, 2]].mean(0), axis=1) < 0.3]
    assert 1.7 < head[:, 1].max() - points[:, 1].min() < 1.95


def test_flow_stays_on_the_surface_and_comes_back():
    points, parts = FIGURE.sample(3000, 0.2, np.random.default_rng(3))
    later = FIGURE.flow(points, parts, 0.2, 0.7)
    cones = FIGURE.cones(0.7)
    own = [cone_distances(cones[part], later[[i]])[0] for i, part in enumerate(parts)]
    assert np.abs(own).max() < 1e-9
    distances = FIGURE.distances(later, 0.7)
    assert distances.max() < 1e-9
    assert (distances > -1e-9).mean() > 0.9
    assert np.allclose(FIGURE.flow(later, parts, 0.7, 0.2), points)
    assert np.linalg.norm(later - points, axis=1).mean() > 0.1


def test_the_texture_moves_with_the_body():
    points, parts = FIGURE.sample(2000, 0.1, np.random.default_rng(4))
    later = FIGURE.flow(points, parts, 0.1, 0.6)
    same = FIGURE.colours(points, parts, 0.1) == FIGURE.colours(later, parts, 0.6)
    # A point on the very edge of a patch may fall to either side by rounding.
    assert same.all(axis=1).mean() > 0.995
    assert len(np.unique(FIGURE.colours(points, parts, 0.1), axis=0)) > 8


def test_white_is_white_and_unlit():
    config = SyntheticConfig(n_frames=1, size=48, samples=1, texture="white")
    cameras = camera_rig(config, normalised_space(config))["cam_train_0"]
    picture = render_figure(config.figure, cameras, 0, 0.0, config.is_lit, 1)
    assert (picture.rgb[picture.mask] == 255).all()
    assert (picture.rgb[~picture.mask] == 0).all()


@pytest.mark.parametrize("lamp", [True, False])
def test_the_lamp_only_darkens(lamp):
    config = SyntheticConfig(n_frames=1, size=48, samples=1, lamp=lamp)
    cameras = camera_rig(config, normalised_space(config))["cam_train_0"]
    plain = render_figure(config.figure, cameras, 0, 0.0, False, 1).rgb.astype(int)
    picture = render_figure(config.figure, cameras, 0, 0.0, config.is_lit, 1).rgb.astype(int)
    assert (picture <= plain).all()
    assert (picture < plain).any() == lamp


def test_mesh_vertices_lie_on_the_surface_and_faces_look_outward():
    vertices, faces = FIGURE.mesh(0.5, step=0.03)
    # Newton stops short where two parts meet at an edge.
    assert np.abs(FIGURE.distances(vertices, 0.5)).max() < 1e-3
    corners = vertices[faces]
    crosses = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    outward = (crosses * FIGURE.normals(corners.mean(axis=1), 0.5)).sum(axis=1)
    assert (outward > 0).mean() > 0.98


def test_all_parts_hang_on_bones_and_every_frame_differs():
    assert {part.bone for part in PARTS} == set(FIGURE.poses(0.0))
    for bone, pose in FIGURE.poses(0.3).items():
        assert np.allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3)), bone
        assert not np.allclose(pose, FIGURE.poses(0.4)[bone]), bone


def test_masks_are_where_the_surface_projects(written):
    capture = load_capture(CaptureConfig(path=str(written)))
    for view in (*capture.views, capture.test_view):
        for frame in range(capture.n_frames):
            time = frame_time(frame, capture.n_frames)
            points, _ = FIGURE.sample(20_000, time, np.random.default_rng(0))
            pixels = np.floor(view.cameras.project(points, frame)[0]).astype(int)
            covered = np.zeros((64, 64), bool)
            covered[pixels[:, 1], pixels[:, 0]] = True
            # Pixels that the outline only touches are covered, but by less than half.
            assert covered[view.masks[frame]].mean() > 0.99
            assert (covered & ~view.masks[frame]).sum() < 0.45 * covered.sum()
            assert (view.images[frame][~covered] == 0).all()


def test_depths_lead_to_the_surface(written):
    capture = load_capture(CaptureConfig(path=str(written), use_depth=True))
    space = ModelSpace(np.eye(4), np.zeros((capture.n_frames, 3)))
    for view in (*capture.views, capture.test_view):
        assert view.depths is not None
        for frame in range(capture.n_frames):
            rows, columns = np.nonzero(view.depths[frame])
            assert len(rows) > 100
            pixels = np.stack([columns, rows], axis=1) + 0.5
            origins, directions = view.cameras.rays(pixels, frame, space)
            distances = view.depths[frame, rows, columns, None] * capture.depth_scale
            points = origins + distances * directions
            # Half a millimetre of rounding; cameras are stored as float32.
            time = frame_time(frame, capture.n_frames)
            assert np.abs(FIGURE.distances(points, time)).max() < 1e-3


def test_clouds_lie_on_the_surface_in_normalised_space(written):
    capture = load_capture(CaptureConfig(path=str(written)))
    world = capture.world_from_normalised
    assert len(capture.clouds) == SMALL.n_frames
    for frame, path in enumerate(capture.clouds):
        time = frame_time(frame, SMALL.n_frames)
        points, normals = read_cloud(path)
        assert np.linalg.norm(points, axis=1).max() <= 1
        points = points @ world[:3, :3].T + world[:3, 3]
        assert np.abs(FIGURE.distances(points, time)).max() < 1e-6
        # Normals are stored in steps of 1/127.
        agree = (normals * FIGURE.normals(points, time)).sum(axis=1) > 0.999
        assert agree.mean() > 0.99


def test_the_held_out_camera_moves_and_the_others_stand(written):
    capture = load_capture(CaptureConfig(path=str(written)))
    assert np.ptp(capture.views[0].cameras.world_from_camera, axis=0).max() == 0
    assert np.ptp(capture.test_view.cameras.world_from_camera, axis=0).max() > 0.1
    still = SyntheticConfig(n_frames=3, test_sweep=0.0)
    poses = camera_rig(still, normalised_space(still))["cam_test"].world_from_camera
    assert np.ptp(poses, axis=0).max() == 0


def test_the_same_config_writes_the_same_files(written, tmp_path):
    again = write_synthetic(SMALL, tmp_path / "again")
    for name in ("cam_train_1/rgb/000001.png", "cam_test/depth/000002.png", "cloud/000000.ply"):
        assert (again / name).read_bytes() == (written / name).read_bytes()


def test_every_image_is_reported(tmp_path):
    seen: list[tuple[int, int]] = []
    config = SyntheticConfig(n_frames=1, n_cameras=1, size=16, samples=1, n_points=10)
    write_synthetic(config, tmp_path, lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]
    assert load_capture(CaptureConfig(path=str(tmp_path))).n_frames == 1


@pytest.mark.parametrize("field", ["n_frames", "n_cameras", "size", "samples", "n_points"])
def test_nothing_to_write_is_refused_by_name(field):
    with pytest.raises(ValueError, match=f"{field} is 0"):
        SyntheticConfig(**{field: 0})


def test_cameras_see_the_whole_unit_sphere():
    rig = camera_rig(SMALL, normalised_space(SMALL))
    sphere = np.random.default_rng(0).normal(size=(500, 3))
    sphere /= np.linalg.norm(sphere, axis=1, keepdims=True)
    world = normalised_space(SMALL)
    points = sphere @ world[:3, :3].T + world[:3, 3]
    for cameras in rig.values():
        assert isinstance(cameras, Cameras)
        pixels, depths = cameras.project(points, 1)
        assert (depths > 0).all()
        assert (pixels > -1e-6).all() and (pixels < SMALL.size + 1e-6).all()
