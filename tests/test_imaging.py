"""Laws of pictures: depth, normals and masks of a sphere, files, restarts, the ride around."""

from __future__ import annotations

import errno
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from analytic import ring_of_cameras, sphere_reconstruction

from resfields_ngp import imaging, writing
from resfields_ngp.datasets.base import Capture, View
from resfields_ngp.extraction import MeshingConfig
from resfields_ngp.imaging import ImagingConfig, chosen_views, render_view, write_renders
from resfields_ngp.mesh_files import read_mesh
from resfields_ngp.meshing import export_meshes
from resfields_ngp.orbit import mean_up, orbit
from resfields_ngp.pictures import PictureFolder, depth_scale, read_png
from resfields_ngp.records import Rays, Rendering
from resfields_ngp.subject_masks import FrameMeshes


def render_sphere(field: Any, occupancy: Any, rays: Rays, background: float) -> Rendering:
    """Stands in for the renderer: the exact intersection with the sphere."""
    field.n_evaluations += rays.n_rays
    to_centre = 0.5 - rays.origins
    along = (to_centre * rays.directions).sum(1)
    squared = field.radius**2 - ((to_centre**2).sum(1) - along**2)
    hits = squared > 0
    depths = (along - squared.clamp(min=0).sqrt()) * hits
    points = rays.origins + depths[:, None] * rays.directions
    normals = field.normals(points, 0) * hits[:, None]
    rgbs = torch.where(hits[:, None], field.rgbs(points, 0), torch.tensor(background))
    return Rendering(rgbs, hits.float(), depths, normals)


@pytest.fixture(autouse=True)
def renderer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imaging, "render", render_sphere)


def capture_of(reconstruction: Any, names: tuple[str, ...] = ("a", "b"), size: int = 33) -> Capture:
    centre = reconstruction.space.to_world(np.array([[0.5, 0.5, 0.5]]), 0)[0]
    n = reconstruction.n_frames
    views = []
    for i, name in enumerate((*names, "cam_test")):
        cameras = ring_of_cameras(centre, 6.0, n, azimuth=1.3 * i, size=size)
        images = np.zeros((n, size, size, 3), np.uint8)
        views.append(View(name, cameras, images, np.ones((n, size, size), bool)))
    return Capture(
        "sphere",
        tuple(views[:-1]),
        views[-1],
        reconstruction.frame_numbers,
        reconstruction.world_from_normalised,
    )


def test_depths_and_normals_are_in_world_units_and_axes() -> None:
    reconstruction = sphere_reconstruction(scale=2.5, radius=0.3)
    cameras = capture_of(reconstruction).views[0].cameras
    picture = render_view(reconstruction, cameras, 1)
    rows, columns = np.nonzero(picture.opacities)
    pixels = np.stack([columns + 0.5, rows + 0.5, np.ones(len(rows))], 1)
    directions = pixels @ np.linalg.inv(cameras.intrinsics[1]).T
    directions = directions @ cameras.world_from_camera[1, :3, :3].T
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    depths = picture.depths[rows, columns][:, None]
    points = cameras.world_from_camera[1, :3, 3] + depths * directions
    centre = reconstruction.space.to_world(np.array([[0.5, 0.5, 0.5]]), 1)
    np.testing.assert_allclose(np.linalg.norm(points - centre, axis=1), 0.75, rtol=1e-3)
    outwards = (points - centre) / 0.75
    np.testing.assert_allclose(picture.normals[rows, columns], outwards, atol=2e-3)


@pytest.mark.parametrize("coverage", [None, 0.25, 0.5])
def test_pixels_covered_enough_show_the_subject_alone(
    monkeypatch: pytest.MonkeyPatch, coverage: float | None
) -> None:
    reconstruction = sphere_reconstruction()
    cameras = capture_of(reconstruction).views[0].cameras
    opacities = torch.linspace(0.0, 1.0, cameras.height * cameras.width)
    colour, depth = torch.tensor([0.8, 0.4, 0.2]), 1.5
    blended = Rendering(
        opacities[:, None] * colour, opacities, opacities * depth, torch.zeros(len(opacities), 3)
    )
    monkeypatch.setattr(imaging, "render", lambda *_: blended)
    cut = None if coverage is None else lambda seen: seen > coverage
    picture = render_view(reconstruction, cameras, 0, cut)
    shares = opacities.view(cameras.height, cameras.width, 1).numpy()
    covered = shares > (0.5 if coverage is None else coverage)
    factors = shares if coverage is None else covered
    np.testing.assert_allclose(picture.rgbs, factors * colour.numpy(), atol=1e-6)
    expected = covered[..., 0] * depth * reconstruction.space.scale
    np.testing.assert_allclose(picture.depths, expected, rtol=1e-5)


def test_pixels_of_the_subject_that_are_hardly_opaque_take_their_neighbours_colour(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reconstruction = sphere_reconstruction()
    cameras = capture_of(reconstruction).views[0].cameras
    shape = (cameras.height, cameras.width)
    opacities, rgbs = torch.zeros(shape), torch.zeros(*shape, 3)
    opacities[:, :10], rgbs[:, :10, 0] = 1.0, 1.0
    opacities[:, 10], rgbs[:, 10] = 0.1, 0.1  # another colour, of which nearly nothing is seen
    flat = opacities.flatten()
    seen = Rendering(rgbs.view(-1, 3), flat, flat, torch.zeros(len(flat), 3))
    monkeypatch.setattr(imaging, "render", lambda *_: seen)
    subject = np.zeros(shape, bool)
    subject[:, :12] = True
    picture = render_view(reconstruction, cameras, 0, lambda _: subject)
    np.testing.assert_allclose(picture.rgbs, subject[..., None] * np.array([1.0, 0, 0]), atol=1e-6)
    np.testing.assert_allclose(picture.depths, subject * reconstruction.space.scale, rtol=1e-6)


@pytest.mark.parametrize("coverage", [0.3, 0.6])
def test_a_mesh_cuts_pictures_out_by_how_much_of_a_pixel_it_covers(
    tmp_path: Path, coverage: float
) -> None:
    reconstruction = sphere_reconstruction(radius=0.3)
    capture = capture_of(reconstruction)
    config = ImagingConfig(edges="mesh", coverage=coverage, orbit_pictures=0, video=False)
    meshing = MeshingConfig(resolution=96)
    write_renders(reconstruction, capture, tmp_path, config, meshing=meshing)
    assert capture.test_view is not None
    cameras = capture.test_view.cameras.resized(30.0)
    fine = render_view(reconstruction, cameras, 0).opacities
    shares = fine.reshape(33, 30, 33, 30).mean((1, 3))
    shown = read_png(tmp_path / "renders" / "cam_test" / "rgb" / "000003.png").any(-1)
    # Nine points of a pixel tell its share to a sixth.
    assert shown[shares > coverage + 1 / 6].all() and not shown[shares < coverage - 1 / 6].any()


def test_meshes_that_are_there_are_used_if_their_weights_are_the_same(tmp_path: Path) -> None:
    reconstruction = sphere_reconstruction(radius=0.3)
    export_meshes(reconstruction, tmp_path, MeshingConfig(resolution=24), "step 7")
    config = MeshingConfig(resolution=48)
    n_faces = {
        source: FrameMeshes(reconstruction, tmp_path, source, config).at(1).n_faces
        for source in ("step 7", "step 8", "")
    }
    assert n_faces["step 7"] < n_faces["step 8"] == n_faces[""]
    assert n_faces["step 7"] == read_mesh(tmp_path / "meshes" / "000004.ply").n_faces


def test_a_frame_without_a_mesh_is_cut_by_its_opacities(tmp_path: Path) -> None:
    reconstruction = sphere_reconstruction(radius=-1.0)  # nowhere inside
    capture = capture_of(reconstruction)
    config = ImagingConfig(edges="mesh", orbit_pictures=0, video=False)
    write_renders(reconstruction, capture, tmp_path, config, meshing=MeshingConfig(resolution=24))
    mask = read_png(tmp_path / "renders" / "cam_test" / "mask" / "000003.png")
    shown = read_png(tmp_path / "renders" / "cam_test" / "rgb" / "000003.png").any(-1)
    np.testing.assert_array_equal(shown, mask > 0)


@pytest.mark.parametrize(
    ("n_tangents", "has_masks", "expected"),
    [(3, True, "mesh"), (0, True, "mask"), (3, False, "soft"), (0, False, "soft")],
)
def test_edges_are_chosen_by_masks_and_head(
    tmp_path: Path, n_tangents: int, has_masks: bool, expected: str
) -> None:
    reconstruction = sphere_reconstruction()
    reconstruction.field.head = SimpleNamespace(n_tangents=n_tangents)
    capture = capture_of(reconstruction)
    if not has_masks:
        views = tuple(replace(view, masks=None) for view in capture.views)
        capture = replace(capture, views=views)
    config, meshing = ImagingConfig(orbit_pictures=0, video=False), MeshingConfig(resolution=24)
    write_renders(reconstruction, capture, tmp_path, config, meshing=meshing)
    record = json.loads((tmp_path / "renders" / "cam_test" / "render.json").read_text())
    assert expected in json.dumps(record)


def test_files_hold_what_their_folder_says(tmp_path: Path) -> None:
    reconstruction = sphere_reconstruction()
    capture = capture_of(reconstruction)
    write_renders(reconstruction, capture, tmp_path, ImagingConfig(orbit_pictures=0))
    assert capture.test_view is not None
    picture = render_view(reconstruction, capture.test_view.cameras, 0)
    folder = tmp_path / "renders" / "cam_test"
    scale = json.loads((folder / "render.json").read_text())["depth_scale"]
    rgb, depth, normal, mask = (
        read_png(folder / channel / "000003.png") for channel in ("rgb", "depth", "normal", "mask")
    )
    assert depth.dtype == np.uint16
    np.testing.assert_allclose(rgb / 255, picture.rgbs, atol=0.51 / 255)
    np.testing.assert_allclose(depth / scale, picture.depths, atol=0.51 / scale)
    np.testing.assert_array_equal(mask, picture.opacities * 255)
    there = mask > 0
    np.testing.assert_allclose(normal[there] / 127.5 - 1, picture.normals[there], atol=0.01)
    assert not rgb[~there].any() and not normal[~there].any()


def test_video_has_all_frames_at_even_size(tmp_path: Path) -> None:
    reconstruction = sphere_reconstruction(n_frames=3)
    config = ImagingConfig(orbit_pictures=4, orbit_size=31)
    write_renders(reconstruction, capture_of(reconstruction), tmp_path, config)
    for name, count, side in (("cam_test", 3, 34), ("orbit", 4, 32)):
        video = cv2.VideoCapture(str(tmp_path / "renders" / name / "rgb.mp4"))
        assert video.get(cv2.CAP_PROP_FRAME_COUNT) == count
        assert video.get(cv2.CAP_PROP_FRAME_WIDTH) == side
    config = ImagingConfig(orbit_pictures=0, video=False)
    write_renders(reconstruction, capture_of(reconstruction), tmp_path / "silent", config)
    assert not list(tmp_path.glob("silent/**/*.mp4"))


def test_finished_pictures_are_skipped(tmp_path: Path) -> None:
    reconstruction = sphere_reconstruction()
    capture, config = capture_of(reconstruction), ImagingConfig(orbit_pictures=3, orbit_size=32)
    write_renders(reconstruction, capture, tmp_path, config)
    before = reconstruction.field.n_evaluations
    write_renders(reconstruction, capture, tmp_path, config)
    assert reconstruction.field.n_evaluations == before
    (tmp_path / "renders" / "cam_test" / "depth" / "000004.png").unlink()
    write_renders(reconstruction, capture, tmp_path, config)
    assert reconstruction.field.n_evaluations == before + 33 * 33
    write_renders(reconstruction, capture, tmp_path, config, source="step 9")
    assert reconstruction.field.n_evaluations == 2 * before + 33 * 33


def test_pictures_made_with_other_settings_are_made_again(tmp_path: Path) -> None:
    reconstruction = sphere_reconstruction(n_frames=2)
    capture, field = capture_of(reconstruction), reconstruction.field
    config = ImagingConfig(orbit_pictures=3, orbit_size=32, edges="mask", video=False)
    write_renders(reconstruction, capture, tmp_path, config)
    for changed, n_pixels in (
        (replace(config, coverage=0.4), 2 * 33 * 33),
        (replace(config, edges="soft"), 2 * 33 * 33),
        (replace(config, edges="soft", coverage=0.4), 0),
        (replace(config, edges="soft", orbit_pictures=4), 4 * 32 * 32),
    ):
        before = field.n_evaluations
        write_renders(reconstruction, capture, tmp_path, changed)
        assert field.n_evaluations == before + n_pixels


def test_full_disk_leaves_whole_pictures_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = iter(range(7))  # two render.json, then five pictures

    def fills_up(descriptor: int) -> None:
        if next(left, None) is None:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writing.os, "fsync", fills_up)
    reconstruction = sphere_reconstruction()
    with pytest.raises(OSError, match=r"\.png: could not be written \(No space left"):
        write_renders(reconstruction, capture_of(reconstruction), tmp_path, ImagingConfig())
    pictures = list(tmp_path.glob("renders/**/*.png"))
    assert len(pictures) == 5
    assert all(read_png(path).size for path in pictures)


def test_cameras_are_chosen_by_name() -> None:
    capture = capture_of(sphere_reconstruction())
    assert [view.name for view in chosen_views(capture, ())] == ["cam_test"]
    assert [view.name for view in chosen_views(capture, ("b", "cam_test"))] == ["b", "cam_test"]
    with pytest.raises(ValueError, match="no camera 'c' here; allowed: a, b, cam_test"):
        chosen_views(capture, ("c",))


def test_depths_fit_sixteen_bits_whatever_the_units() -> None:
    for scale, expected in ((1.0, 1000.0), (1000.0, 10.0)):
        reconstruction = sphere_reconstruction(scale=scale)
        centre = reconstruction.space.to_world(np.array([[0.5, 0.5, 0.5]]), 0)[0]
        cameras = ring_of_cameras(centre, 3.0 * scale, 2)
        assert depth_scale(cameras, reconstruction.space) == expected


def test_ride_keeps_the_subject_in_the_middle_and_upright() -> None:
    reconstruction = sphere_reconstruction(n_frames=5)
    capture = capture_of(reconstruction)
    ride = orbit([view.cameras for view in capture.views], reconstruction.space, 8, 40)
    assert [frame for _, frame in ride] == [0, 1, 2, 3, 4, 3, 2, 1]
    eyes = []
    for cameras, frame in ride:
        centre = reconstruction.space.to_world(np.array([[0.5, 0.5, 0.5]]), frame)
        pixels, depths = cameras.project(centre, frame)
        np.testing.assert_allclose(pixels, [[20, 20]], atol=1e-9)
        assert depths[0] > 0
        assert cameras.world_from_camera[frame, :3, 1] @ mean_up([cameras]) < -0.9
        eyes.append(cameras.world_from_camera[frame, :3, 3] - centre[0])
    distances = np.linalg.norm(eyes, axis=1)
    np.testing.assert_allclose(distances, distances[0])
    # Opposite stops of a full turn cancel but for their common height.
    np.testing.assert_allclose(eyes[0] + eyes[4], eyes[1] + eyes[5], atol=1e-9)


def test_damaged_picture_is_named(tmp_path: Path) -> None:
    reconstruction = sphere_reconstruction()
    capture = capture_of(reconstruction)
    folder = PictureFolder.open(tmp_path, capture.views[0].cameras, reconstruction.space, {})
    folder.file("rgb", "000000").parent.mkdir()
    folder.file("rgb", "000000").write_bytes(b"\x89PNG")
    with pytest.raises(ValueError, match="000000.png: missing or not a whole PNG"):
        read_png(folder.file("rgb", "000000"))


@pytest.mark.parametrize(
    "wrong",
    [{"frames_per_second": 0.0}, {"orbit_pictures": -1}, {"orbit_size": 4}, {"coverage": 1.0}],
)
def test_options_out_of_range_are_named(wrong: dict) -> None:
    with pytest.raises(ValueError, match=f"imaging.{next(iter(wrong))}"):
        ImagingConfig(**wrong)
