"""Laws of ``fit`` as a user meets it: a run a task, what may befall it, other verbs on its run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import trimesh
from sheet_cells import cells_of

from resfields_ngp.cli import main
from resfields_ngp.datasets.anime import write_anime
from resfields_ngp.datasets.video import ClipConfig, load_clip
from resfields_ngp.mesh_files import read_mesh
from resfields_ngp.pictures import read_png, write_png
from resfields_ngp.scenes import known_scenes
from resfields_ngp.sequences.gltf import Gltf
from resfields_ngp.sequences.gltf_motion import Motion
from resfields_ngp.surface_pictures import SIZE
from resfields_ngp.tasks import TASKS

SMALL = ["--threads", "1", "--steps", "6"]
SMALL_VIDEO = [*SMALL, "--encoder.log2-hashmap-size", "10", "--encoder.n-levels", "4"]
SMALL_SDF = [
    *[*SMALL[:2], "--steps", "60", "--points.pool", "500", "--encoder.log2-hashmap-size", "10"],
    *["--meshing.resolution", "32", "--evaluation.points", "500", "--evaluation.iou-points", "500"],
]


def write_clip(folder: Path) -> Path:
    """Returns a folder of 3 images of odd sides."""
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 255, (15, 21, 3), np.uint8)
        write_png(folder / f"{i}.png", pixels)
    return folder


def write_ball(path: Path, n_frames: int = 2) -> Path:
    """Returns a .anime file of a ball that moves along x."""
    ball = trimesh.creation.icosphere(2, 0.5)
    vertices = np.stack([np.asarray(ball.vertices) + [i, 0.0, 0.0] for i in range(n_frames)])
    write_anime(path, vertices, np.asarray(ball.faces))
    return path


@pytest.fixture(scope="module")
def video_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the run folder of a fitted video."""
    folder = tmp_path_factory.mktemp("video")
    arguments = ["fit", "video", str(write_clip(folder / "clip")), "--out", str(folder / "run")]
    assert main([*arguments, *SMALL_VIDEO]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def sdf_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the run folder of a fitted surface."""
    folder = tmp_path_factory.mktemp("sdf")
    arguments = ["fit", "sdf", str(write_ball(folder / "b.anime")), "--out", str(folder / "run")]
    assert main([*arguments, *SMALL_SDF]) == 0
    return folder / "run"


def fails(capsys: pytest.CaptureFixture[str], code: int, *arguments: str) -> str:
    """Returns the one line that a command line which must fail leaves on standard error."""
    assert main(arguments) == code
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("resfields-ngp: error: "), lines
    return lines[0]


def test_a_video_leaves_videos_scores_and_bits_per_pixel(video_run: Path):
    scores = json.loads((video_run / "evaluation.json").read_text())
    assert {"psnr", "ssim", "held_out_psnr"} <= set(scores["mean"])
    assert [set(row) >= {"frame", "psnr", "ssim"} for row in scores["frames"]] == [True] * 3
    assert scores["bits_per_pixel"] == pytest.approx(32 * scores["parameters"] / (3 * 15 * 21))
    for name in ("fitted.mp4", "error.mp4"):
        clip = load_clip(ClipConfig(str(video_run / "renders" / name)))
        assert clip.frames.shape == (3, 16, 22, 3)  # odd sides are padded


def test_render_samples_a_video_at_another_size_and_speed(video_run: Path):
    assert main(["render", str(video_run), "--fps", "50", "--scale", "2"]) == 0
    clip = load_clip(ClipConfig(str(video_run / "renders" / "sampled_42x30_50fps.mp4")))
    assert clip.frames.shape == (5, 30, 42, 3) and clip.fps == pytest.approx(50.0)


def test_a_surface_leaves_meshes_in_world_units_and_scores(sdf_run: Path):
    scores = json.loads((sdf_run / "evaluation.json").read_text())
    assert {"chamfer", "chamfer_floor", "normal_consistency", "iou"} <= set(scores["mean"])
    for frame in range(2):
        middle = read_mesh(sdf_run / "meshes" / f"{frame:06d}.ply").vertices.mean(0)
        assert np.allclose(middle, [frame, 0.0, 0.0], atol=0.15)
    above, below = cells_of(read_png(sdf_run / "comparison.png"), 2, 2, SIZE)
    # The same ball, as far as 60 steps on 32 cells make one.
    assert ((above > 0) == (below > 0)).mean() > 0.8


def test_mesh_and_eval_work_on_a_surfaces_run(sdf_run: Path):
    before = (sdf_run / "evaluation.json").read_text()
    assert main(["mesh", str(sdf_run), "--resolution", "48", "--format", "obj"]) == 0
    assert (sdf_run / "meshes" / "000001.obj").is_file()
    assert main(["mesh", str(sdf_run), "--resolution", "48", "--format", "glb", "--animate"]) == 0
    motion = Motion.find(Gltf.open(sdf_run / "meshes.glb"))
    alone = read_mesh(sdf_run / "meshes" / "000001.glb")
    assert motion.mesh(1 / 30).n_faces == alone.n_faces
    assert main(["view", str(sdf_run), "--html", str(sdf_run / "page.html")]) == 0
    assert (sdf_run / "page.html").stat().st_size > 800_000
    assert main(["eval", str(sdf_run), "--evaluation.points", "400"]) == 0
    assert (sdf_run / "evaluation.json").read_text() != before


def test_a_resumed_fit_has_its_own_settings(video_run: Path, tmp_path: Path):
    assert main(["fit", "video", "--out", str(video_run), "--resume", "--steps", "8"]) == 0
    steps = [json.loads(s)["step"] for s in (video_run / "metrics.jsonl").read_text().splitlines()]
    assert steps[-1] == 8


def test_a_verb_that_means_nothing_for_a_task_says_so(
    capsys: pytest.CaptureFixture[str], video_run: Path
):
    line = fails(capsys, 2, "mesh", str(video_run))
    assert "a run of fit video, where mesh has nothing to do (verbs that have: render)" in line
    assert "where view has nothing to show" in fails(capsys, 2, "view", str(video_run))


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["fit", "vidoe", "x", "--out", "run"], 'unknown task "vidoe"; did you mean "video"?'),
        (["fit", "video", "--out", "run"], "nothing to fit is named"),
        (["fit", "video", "x", "--out", "run", "--seconds", "1", "--steps", "1"], "exclude"),
        (["fit", "sdf", "x", "--out", "run", "--seconds", "1", "--training.steps=1"], "exclude"),
        (["fit", "video", "x", "--out", "run", "--encoder", "hash_grid"], "video_grid"),
        (["fit", "sdf", "x", "--out", "run", "--points.deviation", "0"], "allowed: above 0"),
        (["fit", "video", "x", "--out", "run", "--input.held-out-fraction", "1"], "0 to 0.9"),
    ],
)
def test_a_usage_error_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    complaint: str,
):
    monkeypatch.chdir(tmp_path)
    assert complaint in fails(capsys, 2, *arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("task", TASKS)
def test_bad_input_is_one_line_exit_code_3_and_leaves_no_run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, task: str
):
    (tmp_path / "bad.anime").write_bytes(b"\1\0\0\0")
    out = tmp_path / "run"
    for name in ("nowhere.anime", "bad.anime"):
        line = fails(capsys, 3, "fit", task, str(tmp_path / name), "--out", str(out))
        assert name in line and not out.exists()


def test_a_scenes_path_lies_below_data(tmp_path: Path):
    write_clip(tmp_path / "data" / "clip")
    scene = tmp_path / "scene.toml"
    scene.write_text('task = "video"\n[input]\npath = "clip"\nframes = "0:2"\n')
    where = ["--scene", str(scene), "--data", str(tmp_path / "data")]
    assert main(["fit", "video", *where, "--out", str(tmp_path / "run"), *SMALL_VIDEO]) == 0
    stored = json.loads((tmp_path / "run" / "config.json").read_text())
    assert stored["input"]["path"] == str(tmp_path / "data" / "clip")


def test_scenes_lists_every_scene_with_its_verb(capsys: pytest.CaptureFixture[str]):
    assert main(["scenes"]) == 0
    shown = capsys.readouterr().out
    for scene in known_scenes():
        assert scene.path.name in shown and scene.about, scene
    assert "fit video" in shown and "fit sdf" in shown and "reconstruct" in shown
