"""Laws of the verbs, driven as a user would: one small reconstruction, and what may befall it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import resfields_ngp
from resfields_ngp.checkpoint import latest_checkpoint
from resfields_ngp.cli import main
from resfields_ngp.config import Config, load_config
from resfields_ngp.config_tree import to_table
from resfields_ngp.datasets.synthetic_capture import SyntheticConfig, write_synthetic
from resfields_ngp.exhibit import CHECKPOINT, Exhibit
from resfields_ngp.mesh_files import read_mesh
from resfields_ngp.reconstruction import load_reconstruction
from resfields_ngp.run_folder import RunFolder
from resfields_ngp.viewed_surfaces import CheckpointSurfaces

N_FRAMES = 2
SMALL = [
    "--threads",
    "1",
    "--training.samples-per-batch",
    "2048",
    "--training.checkpoint-every",
    "8",
]
LATER = ["--resolution", "48", "--imaging.orbit-pictures", "2", "--imaging.orbit-size", "32"]


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a synthetic capture that trains in seconds."""
    config = SyntheticConfig(n_frames=N_FRAMES, n_cameras=4, size=48, n_points=2000)
    return write_synthetic(config, tmp_path_factory.mktemp("capture"))


@pytest.fixture(scope="module")
def run(capture: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the run folder of a whole reconstruction."""
    out = tmp_path_factory.mktemp("runs") / "run"
    options = ["--steps", "200", *SMALL, *LATER, "--evaluation.points", "2000"]
    assert main(["reconstruct", str(capture), "--out", str(out), *options]) == 0
    return out


@pytest.fixture(scope="module")
def uninterrupted(capture: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the run folder of 40 steps in one go."""
    out = tmp_path_factory.mktemp("runs") / "straight"
    assert main(["train", str(capture), "--out", str(out), "--steps", "40", *SMALL]) == 0
    return out


def _scores(run: Path) -> dict[str, float]:
    return json.loads((run / "evaluation.json").read_text())["mean"]


def _start(capture: Path, out: Path) -> subprocess.Popen[str]:
    """Starts a training of 40 steps in a process of its own."""
    command = [sys.executable, "-m", "resfields_ngp", "train", str(capture), "--out", str(out)]
    root = str(Path(resfields_ngp.__file__).parents[1])
    return subprocess.Popen(
        [*command, "--steps", "40", *SMALL, "--debug"],
        env=os.environ | {"PYTHONPATH": root},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.01)


def _final_tensors(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / "step_0000040.safetensors")


def test_a_reconstruction_leaves_everything_in_the_run_folder(run: Path):
    for name in ("config.json", "env.json", "metrics.jsonl", "manifest.json", "evaluation.json"):
        assert (run / name).stat().st_size > 0, name
    assert len(list((run / "meshes").glob("*.ply"))) == N_FRAMES
    assert len(list((run / "renders" / "cam_test" / "rgb").glob("*.png"))) == N_FRAMES
    assert (run / "contact_sheet.png").is_file() and (run / "reprojection.png").is_file()


def test_a_reconstruction_resembles_the_truth(run: Path):
    scores = _scores(run)
    # Far from what a longer run reaches; a lost surface has 16 dB, 0.3 and 0.4.
    assert scores["psnr"] > 20.5
    assert scores["chamfer"] < 0.11
    assert scores["silhouette_iou"] > 0.75


def test_config_json_passed_back_is_the_same_config(run: Path):
    stored = json.loads((run / "config.json").read_text())
    assert to_table(load_config(run / "config.json")) == stored
    assert stored != to_table(Config())


def test_metrics_are_lines_of_json_with_losses_and_held_out_psnr(run: Path):
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == 200 and rows[-1]["test_psnr"] > 10
    assert "colour" in rows[-1]["losses"]


def test_finished_meshes_are_kept_and_another_resolution_makes_them_again(run: Path):
    mesh = run / "meshes" / "000000.ply"
    before = mesh.stat().st_mtime_ns
    assert main(["mesh", str(run)]) == 0
    assert mesh.stat().st_mtime_ns == before
    assert main(["mesh", str(run), "--resolution", "32", "--frames", "0:1"]) == 0
    assert mesh.stat().st_mtime_ns != before
    assert main(["mesh", str(run)]) == 0


def test_eval_of_a_finished_run_gives_the_same_scores(run: Path):
    before = _scores(run)
    assert main(["eval", str(run), "--evaluation.points", "2000"]) == 0
    assert _scores(run) == pytest.approx(before)
    assert main(["eval", str(run), "--protocol", "resfields"]) == 0
    assert "psnr_resfields" in _scores(run)
    assert main(["eval", str(run)]) == 0
    assert "psnr_resfields" not in _scores(run)


def test_render_takes_the_cameras_that_are_asked_for(run: Path):
    options = ["--imaging.cameras", "cam_train_1", "--imaging.orbit-pictures", "0"]
    assert main(["render", str(run), *options]) == 0
    assert len(list((run / "renders" / "cam_train_1" / "rgb").glob("*.png"))) == N_FRAMES


def test_view_writes_a_page_of_the_meshes_and_serves_until_it_is_stopped(run: Path, tmp_path: Path):
    assert main(["view", str(run), "--html", str(tmp_path / "page.html")]) == 0
    assert "__VISER_EMBED_DATA__" in (tmp_path / "page.html").read_text()
    command = [sys.executable, "-m", "resfields_ngp", "view", str(run), "--port", "18180"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as serving:
        assert serving.stdout is not None
        address = re.search(r"http://127\.0\.0\.1:\d+", serving.stdout.readline())
        assert address
        with urllib.request.urlopen(address[0]) as answer:
            assert answer.status == 200
        serving.send_signal(signal.SIGINT)
        assert serving.wait(timeout=30) == 0


def test_view_of_a_run_whose_capture_is_gone_shows_the_surfaces_alone(
    run: Path, tmp_path: Path, capsys, caplog
):
    moved = tmp_path / "run"
    shutil.copytree(run, moved)
    settings = json.loads((moved / "config.json").read_text())
    settings["capture"]["path"] = str(tmp_path / "gone")
    (moved / "config.json").write_text(json.dumps(settings))
    assert main(["view", str(moved), "--html", str(tmp_path / "page.html"), "--look", "shape"]) == 0
    assert "--capture FOLDER" in caplog.text
    assert "page.html, meshes, " in capsys.readouterr().out


def test_a_checkpoint_is_shown_before_there_are_meshes(
    run: Path, uninterrupted: Path, tmp_path: Path
):
    coarse = Exhibit.of(RunFolder.open(uninterrupted), None, "cpu", 32)
    assert list(coarse.surfaces) == [CHECKPOINT] and coarse.numbers == (0, 1)
    surfaces = CheckpointSurfaces(run, "cpu", 48)
    assert surfaces.version == "step 200"
    glb = surfaces.glb(1, "colours")
    assert glb is not None
    (tmp_path / "seen.glb").write_bytes(glb)
    seen, meshed = read_mesh(tmp_path / "seen.glb"), read_mesh(run / "meshes" / "000001.ply")
    cell = float(np.ptp(meshed.vertices, axis=0).max()) / 20
    np.testing.assert_allclose(seen.vertices.min(0), meshed.vertices.min(0), atol=cell)
    np.testing.assert_allclose(seen.vertices.max(0), meshed.vertices.max(0), atol=cell)


def test_a_used_run_folder_is_left_alone(run: Path, capture: Path, capsys):
    before = (run / "config.json").read_bytes()
    assert main(["train", str(capture), "--out", str(run), "--steps", "5"]) == 2
    assert "--resume" in capsys.readouterr().err
    assert main(["train", "--out", str(run), "--resume", "--training.seed", "7"]) == 2
    assert "training.seed" in capsys.readouterr().err
    assert (run / "config.json").read_bytes() == before


def test_synth_needs_overwrite_and_leaves_other_folders_alone(tmp_path: Path, capsys):
    small = ["--n-frames", "1", "--n-cameras", "1", "--size", "8", "--synthetic.n-points", "9"]
    out = tmp_path / "capture"
    assert main(["synth", str(out), *small]) == 0
    assert main(["synth", str(out), *small]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main(["synth", str(out), *small, "--overwrite"]) == 0
    assert main(["synth", str(tmp_path), *small, "--overwrite"]) == 2
    assert (out / "capture.json").is_file()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_an_interrupted_run_resumes_to_the_same_weights(
    capture: Path, uninterrupted: Path, tmp_path: Path, number: signal.Signals, code: int
):
    broken = tmp_path / "broken"
    process = _start(capture, broken)
    _wait_for(broken / "checkpoints" / "step_0000008.json", process)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == code
    found = latest_checkpoint(broken / "checkpoints")
    assert found is not None and 8 <= found.step < 40
    assert main(["train", "--out", str(broken), "--resume"]) == 0
    resumed, expected = _final_tensors(broken), _final_tensors(uninterrupted)
    assert resumed.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(resumed[name], tensor), name


def test_a_damaged_checkpoint_is_passed_over(run: Path, tmp_path: Path, capsys):
    weights = sorted((run / "checkpoints").glob("*.safetensors"))[-1]
    content = weights.read_bytes()
    try:
        weights.write_bytes(content[:100])
        options = ["--imaging.orbit-pictures", "0"]
        assert main(["render", str(run), *options]) == 0
    finally:
        weights.write_bytes(content)


def test_a_run_without_a_readable_checkpoint_is_exit_code_3(capture: Path, tmp_path: Path, capsys):
    options = ["--steps", "4", *SMALL]
    assert main(["train", str(capture), "--out", str(tmp_path / "run"), *options]) == 0
    for weights in (tmp_path / "run" / "checkpoints").glob("*.safetensors"):
        weights.write_bytes(b"")
    capsys.readouterr()
    assert main(["mesh", str(tmp_path / "run")]) == 3
    assert "none of 1 checkpoints is readable" in capsys.readouterr().err


def test_meshes_meet_the_masks_of_the_capture_and_say_so_when_it_is_gone(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    settings = json.loads((copy / "config.json").read_text())
    settings["capture"]["path"] = str(tmp_path / "gone")
    (copy / "config.json").write_text(json.dumps(settings))
    command = ["mesh", str(copy), "--resolution", "32", "--threads", "1"]
    assert main(command) == 3
    assert "--meshing.outline-reach 0" in capsys.readouterr().err
    assert main([*command, "--meshing.outline-reach", "0"]) == 0


def test_without_masks_there_are_no_outlines(capture: Path, tmp_path: Path, run: Path) -> None:
    out = tmp_path / "run"
    options = ["--steps", "1", "--head", "nerf", "--capture.use-masks", "false", *SMALL]
    assert main(["train", str(capture), "--out", str(out), *options]) == 0
    assert load_reconstruction(out, "cpu").outlines is None
    outlines = load_reconstruction(run, "cpu").outlines
    assert outlines is not None and len(outlines(0)) == 4
