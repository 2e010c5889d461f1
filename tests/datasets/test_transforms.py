from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_capture import (
    HEIGHT,
    N_FRAMES,
    NAMES,
    WIDTH,
    load,
    refusal,
    tiny_cameras,
    tiny_images,
    tiny_scale_mat,
    write_image,
    write_tiny,
)

from resfields_ngp.datasets import CaptureConfig
from resfields_ngp.datasets.transforms import Shot, _camera_name
from resfields_ngp.model_space import ModelSpace
from resfields_ngp.pixels import PixelSource


def entry(index: int, frame: int, **changed) -> dict:
    """Returns a frame of transforms.json for an image of the small capture; OpenGL axes."""
    cameras, name = tiny_cameras(index), NAMES[index]
    pose = cameras.world_from_camera[frame] @ np.diag([1.0, -1, -1, 1])
    focal_x, focal_y = cameras.intrinsics[frame, [0, 1], [0, 1]]
    return {
        "file_path": f"{name}/rgb/{frame:06d}.png",
        "transform_matrix": pose.tolist(),
        "time": frame / (N_FRAMES - 1),
        "mask_path": f"{name}/mask/{frame:06d}.png",
        "depth_file_path": f"{name}/depth/{frame:06d}.png",
        **{"fl_x": focal_x, "fl_y": focal_y, "cx": 12.5, "cy": 8.5, "w": WIDTH, "h": HEIGHT},
    } | changed


def entries(**changed) -> list[dict]:
    return [entry(i, f, **changed) for f in range(N_FRAMES) for i in range(len(NAMES))]


def write(root: Path, frames: list[dict], name: str = "transforms.json", **fields) -> Path:
    root.mkdir(exist_ok=True)
    (root / name).write_text(json.dumps({**fields, "frames": frames}))
    return root / name


@pytest.fixture
def root(tmp_path) -> Path:
    """Returns the small capture, its cameras written in both formats."""
    root = write_tiny(tmp_path / "tiny")
    write(root, entries())
    return root


def dnerf(root: Path, times=(0.0, 0.5, 1.0), name: str = "transforms_train.json") -> Path:
    """Writes what D-NeRF does: RGBA, no suffix, one field of view, a moving camera."""
    images, masks, _ = tiny_images(0)
    frames = []
    for frame, time in enumerate(times):
        stem = f"{name[11:-5]}/r_{frame:03d}"
        alpha = np.where(masks[frame], 255, 0).astype(np.uint8)
        write_image(root / f"{stem}.png", np.dstack([images[frame], alpha]))
        fields = {"file_path": f"./{stem}", "time": time, "rotation": 0.1}
        frames.append(fields | {"transform_matrix": entry(0, frame)["transform_matrix"]})
    return write(root, frames, name, camera_angle_x=0.7)


def test_the_same_scene_gives_the_same_views_as_the_resfields_layout(root):
    one = load(root, kind="owlii")
    two = load(root / "transforms.json")
    assert one.frame_numbers == two.frame_numbers
    for ours, theirs in zip((*one.views, one.test_view), (*two.views, two.test_view), strict=True):
        assert ours.name == theirs.name
        assert np.array_equal(ours.images, theirs.images)
        assert np.array_equal(ours.masks, theirs.masks)
        for frame in range(N_FRAMES):
            expected = ours.cameras.projection(frame)
            assert np.allclose(theirs.cameras.projection(frame), expected, atol=1e-6)


def test_the_centre_is_what_the_cameras_look_at(root):
    capture = load(root / "transforms.json")
    assert np.allclose(capture.world_from_normalised[:3, 3], tiny_scale_mat()[:3, 3], atol=1e-6)
    # Half the wider field of view is atan(24 / 60).
    distances = [
        np.linalg.norm(view.cameras.world_from_camera[0, :3, 3] - tiny_scale_mat()[:3, 3])
        for view in capture.views
    ]
    expected = np.median(distances) * np.sin(np.arctan(WIDTH / 60))
    assert capture.world_from_normalised[0, 0] == pytest.approx(expected)


def test_the_sphere_holds_a_subject_that_all_cameras_follow(root):
    still = load(root / "transforms.json", frames="1:3").world_from_normalised
    frames, walk = entries(), np.array([30.0, 0.0, 12.0])
    for each in frames:
        pose = np.array(each["transform_matrix"])
        pose[:3, 3] += walk * each["time"]
        each["transform_matrix"] = pose.tolist()
    write(root, frames)
    world = load(root / "transforms.json").world_from_normalised
    assert np.allclose(world[:3, 3], still[:3, 3] + walk / 2, atol=1e-6)
    assert np.isclose(world[0, 0], still[0, 0] + np.linalg.norm(walk) / 2, rtol=0.05)


def test_a_box_in_the_file_places_the_sphere(root):
    write(root, entries(), aabb=[[1, -2, 0], [5, 0, 4]])
    capture = load(root / "transforms.json")
    expected = np.diag([2.0, 2, 2, 1])
    expected[:3, 3] = (3, -1, 2)
    assert np.allclose(capture.world_from_normalised, expected)
    assert np.allclose(capture.bounds, [[-1, -0.5, -1], [1, 0.5, 1]])


def test_instant_ngps_unit_cube_places_the_sphere(root):
    write(root, entries(), scale=0.25, offset=[0.5, 0.75, 0.5], aabb_scale=2)
    world = load(root / "transforms.json").world_from_normalised
    corners = (np.array([[-1.0] * 3, [1.0] * 3]) @ world[:3, :3] + world[:3, 3]) * 0.25
    # The cube of side 2 about the unit cube's centre.
    assert np.allclose(corners + [0.5, 0.75, 0.5], [[-0.5] * 3, [1.5] * 3])


def test_dnerf_is_one_view_whose_camera_moves(tmp_path):
    dnerf(tmp_path)
    capture = load(tmp_path)
    assert len(capture.views) == 1 and capture.test_view is None
    view = capture.views[0]
    assert capture.n_frames == 3
    assert np.array_equal(view.images, tiny_images(0)[0][:3])
    assert np.array_equal(view.masks, tiny_images(0)[1][:3])
    focal = 0.5 * WIDTH / np.tan(0.35)
    assert np.allclose(view.cameras.intrinsics[1], [[focal, 0, 12], [0, focal, 9], [0, 0, 1]])
    expected = tiny_cameras(0).world_from_camera[:3]
    assert np.allclose(view.cameras.world_from_camera, expected)


def test_images_are_sorted_by_time(tmp_path):
    dnerf(tmp_path, times=(1.0, 0.0, 0.5))
    assert np.array_equal(load(tmp_path).views[0].images, tiny_images(0)[0][[1, 2, 0]])


def test_dnerfs_test_cameras_are_held_out_where_their_times_fit(tmp_path):
    dnerf(tmp_path)
    dnerf(tmp_path, name="transforms_test.json", times=(0.0, 0.5, 1.0))
    capture = load(tmp_path)
    assert capture.test_view is not None and capture.test_view.name == "cam_test"
    assert load(tmp_path, test_camera="").test_view is None
    dnerf(tmp_path, name="transforms_test.json", times=(0.0, 0.4, 1.0))
    capture = load(tmp_path)
    assert capture.test_view is None
    assert "transforms_test.json: its times are not those" in capture.warnings[0]


def test_frames_are_sliced_over_the_times(root):
    capture = load(root / "transforms.json", frames="1:3")
    assert capture.frame_numbers == (1, 2)
    assert np.array_equal(capture.views[0].images, tiny_images(1)[0][1:3])


def test_without_times_all_images_show_one_moment(root):
    frames = entries()[: len(NAMES)]
    for each in frames:
        del each["time"]
    write(root, frames)
    capture = load(root / "transforms.json")
    assert capture.n_frames == 1 and len(capture.views) == 3


@pytest.mark.parametrize("key", ["frame_time", "timestamp", "timestep", "frame_index"])
def test_time_may_be_spelled_otherwise(root, key):
    frames = entries()
    for each in frames:
        each[key] = 1.7e9 + 0.04 * each.pop("time")
    write(root, frames)
    capture = load(root / "transforms.json")
    assert capture.n_frames == N_FRAMES
    assert np.array_equal(capture.views[0].images, tiny_images(1)[0])


def test_several_moments_without_times_are_refused(root):
    frames = entries()
    for each in frames:
        del each["time"]
    write(root, frames)
    assert 'add "time" to each frame' in refusal(root / "transforms.json")


def test_paths_may_be_written_as_on_windows(root):
    write(root, [each | {"file_path": each["file_path"].replace("/", "\\")} for each in entries()])
    assert np.array_equal(load(root / "transforms.json").views[0].images, tiny_images(1)[0])


def test_views_are_told_apart_by_camera_or_by_order(root):
    named = [
        each | {"camera": f"no. {i % len(NAMES)}", "file_path": f"../tiny/{each['file_path']}"}
        for i, each in enumerate(entries())
    ]
    write(root, named)
    assert [v.name for v in load(root / "transforms.json").views] == [f"no. {i}" for i in range(4)]
    for each in entries():
        camera, _, file = each["file_path"].split("/")
        content = (root / each["file_path"]).read_bytes()
        (root / "images").mkdir(exist_ok=True)
        (root / "images" / f"{camera}_{file}").write_bytes(content)
    flat = [e | {"file_path": "images/" + e["file_path"].replace("/rgb/", "_")} for e in entries()]
    write(root, flat)
    views = load(root / "transforms.json", test_camera="").views
    assert [view.name for view in views] == [f"view_{i}" for i in range(4)]
    assert np.array_equal(views[2].images, tiny_images(2)[0])


def test_a_view_must_have_every_time(root):
    write(root, entries()[:-1])
    message = refusal(root / "transforms.json")
    assert 'camera "cam_train_2" has 0 images at time 1 and 1 at others' in message


def test_what_straightened_images_do_not_show_is_marked(root):
    write(root, [each | {"k1": 0.5} for each in entries()])
    capture = load(root / "transforms.json", use_depth=True)
    for view in (*capture.views, capture.test_view):
        assert view.unseen.shape == view.masks.shape and 0.02 < view.unseen.mean() < 0.5
        unseen = view.unseen
        assert not view.images[unseen].any() and not view.masks[unseen].any()
        assert not view.depths[unseen].any()
        assert np.array_equal(view.untrusted, unseen)
    # One lens, one map; but the held-out camera zooms.
    assert capture.views[0].unseen.strides[0] == 0 and capture.test_view.unseen.strides[0] > 0
    write(root, entries())
    assert all(view.unseen is None for view in load(root / "transforms.json").views)


@pytest.mark.parametrize("kind", ["owlii", "transforms"])
def test_depths_are_in_world_units_by_the_scale_given(root, kind):
    """A world in millimetres with depths in millimetres: steps of one unit."""
    path = root if kind == "owlii" else root / "transforms.json"
    space = ModelSpace(np.diag([2.0, 2.0, 2.0, 1.0]), np.zeros((N_FRAMES, 3)))
    found = []
    for scale in (1.0, 0.001):
        capture = load(path, kind=kind, use_depth=True, depth_scale=scale)
        assert capture.depth_scale == scale
        source = PixelSource(capture, space, capture.views, use_depth=True)
        batch = source.draw((1, 2), 400, 0.5, torch.Generator().manual_seed(0))
        assert batch.depths is not None and batch.masks is not None
        world = batch.depths.numpy() * 2.0 / scale
        stored = np.concatenate([view.depths[view.masks] for view in capture.views])
        on_subject = batch.masks.numpy() > 0
        assert np.isin(np.round(world[on_subject]), stored).all() and not world[~on_subject].any()
        found.append(batch.depths)
    assert torch.allclose(found[0], 1000 * found[1], rtol=1e-5)


@pytest.mark.parametrize("scale", [-1.0, float("nan"), float("inf")])
def test_a_depth_scale_must_not_be_below_zero(scale):
    with pytest.raises(ValueError, match=r"capture\.depth_scale is .*; allowed: 0 or more"):
        CaptureConfig(depth_scale=scale)


def test_depths_as_instant_ngp_writes_them(root):
    plain = load(root / "transforms.json", use_depth=True)
    assert plain.depth_scale == 0.001
    renamed = [each | {"depth_path": each["depth_file_path"]} for each in entries()]
    for each in renamed:
        del each["depth_file_path"]
    path = write(root, renamed, integer_depth_scale=4.0 / 65535, enable_depth_loading=True)
    capture = load(path, use_depth=True)
    assert capture.depth_scale == 4.0 / 65535
    for view, other in zip(capture.views, plain.views, strict=True):
        assert np.array_equal(view.depths, other.depths)
    assert load(path, use_depth=True, depth_scale=0.5).depth_scale == 0.5


@pytest.mark.parametrize("scale", [0.0, -1.0, "4", True, None])
def test_an_unusable_depth_scale_of_the_file_is_refused_where_depths_are_wanted(root, scale):
    path = write(root, entries(), integer_depth_scale=scale)
    assert load(path).views[0].depths is None
    message = refusal(path, use_depth=True)
    assert f"integer_depth_scale is {scale!r}; expected a number above 0" in message
    assert load(path, use_depth=True, depth_scale=0.5).depth_scale == 0.5


def test_depths_become_distances_along_the_ray(root):
    view = load(root / "transforms.json", use_depth=True).views[0]
    depth = tiny_images(1)[2][2, 5, 20]
    intrinsics = tiny_cameras(1).intrinsics[2]
    ray = np.linalg.inv(intrinsics) @ [20.5, 5.5, 1.0]
    assert view.depths[2, 5, 20] == round(float(depth * np.linalg.norm(ray)))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"transform_matrix": np.full((4, 4), np.nan).tolist()}, "has NaN or infinite entries"),
        ({"transform_matrix": np.zeros((4, 4)).tolist()}, "does not turn and move only"),
        ({"transform_matrix": [[1, 0], [0, 1]]}, "transform_matrix is not 4x4"),
        ({"transform_matrix": "none"}, "transform_matrix is not 4x4"),
        ({"file_path": "nothing"}, "no image"),
        ({"file_path": 3}, "no file_path"),
        ({"time": None}, "time is None; expected a number in all frames"),
        ({"fl_x": "wide"}, "fl_x is 'wide'; expected a finite number"),
        ({"fl_x": -3.0}, "fl_x is -3.0; expected pixels above 0"),
        ({"camera_model": "EQUIRECTANGULAR"}, 'camera_model "EQUIRECTANGULAR" is not known'),
        ({"k4": 0.1}, "k4 without fisheye"),
        ({"mask_path": "nothing.png"}, "nothing.png: no such image"),
    ],
)
def test_a_broken_frame_is_refused_by_number(root, changed, message):
    frames = entries()
    frames[5] |= changed
    write(root, frames)
    found = refusal(root / "transforms.json")
    assert message in found
    assert "frame 5" in found or "nothing.png" in found


def test_a_frame_without_focal_length_is_refused(root):
    frames = entries()
    del frames[1]["fl_x"], frames[1]["fl_y"]
    write(root, frames)
    found = refusal(root / "transforms.json")
    assert "frame 1: no focal length; expected fl_x or camera_angle_x" in found


@pytest.mark.parametrize("text", ["{", "[]", '{"frames": []}', '{"frames": 3}'])
def test_a_broken_file_is_refused(tmp_path, text):
    (tmp_path / "transforms.json").write_text(text)
    assert str(tmp_path / "transforms.json") in refusal(tmp_path)


def test_one_standing_camera_does_not_say_where_the_subject_is(root):
    write(root, [entry(1, frame) for frame in range(N_FRAMES)])
    assert "the cameras look the same way" in refusal(root / "transforms.json")


def test_cameras_that_look_away_are_refused(root):
    away = np.diag([-1.0, 1, -1, 1])
    frames = entries()
    for each in frames:
        each["transform_matrix"] = (np.array(each["transform_matrix"]) @ away).tolist()
    write(root, frames)
    assert "look away from each other" in refusal(root / "transforms.json")


def test_missing_cameras_are_refused_with_those_there_are(root):
    message = refusal(root / "transforms.json", cameras=("cam_9",))
    assert 'no camera "cam_9" to train on; available: cam_test, cam_train_0' in message


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"file_path": "cam_a/images/0000"}, "cam_a"),
        ({"file_path": "{folder}/cam_a/images/0000.png"}, "cam_a"),
        ({"file_path": "/elsewhere/cam_a/0000.png"}, "elsewhere_cam_a"),
        ({"file_path": "x.png", "camera": "../../cam_a"}, "cam_a"),
        ({"file_path": "x.png", "camera": "/cam_a"}, "cam_a"),
        ({"file_path": "x.png", "camera": ".hidden"}, "hidden"),
        ({"file_path": "x.png", "camera": "orbit"}, "orbit_"),
        ({"file_path": "x.png", "camera": "left eye 左"}, "left eye 左"),
    ],
)
def test_a_cameras_name_is_never_a_path(fields: dict, expected: str, tmp_path: Path):
    """Renderings are filed under it."""
    fields = {key: value.format(folder=tmp_path) for key, value in fields.items()}
    assert _camera_name(Shot("", Path(), 0.0, fields, tmp_path)) == expected
