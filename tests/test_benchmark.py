"""Laws of the benchmark scripts: results outlive interruptions, watching a step changes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import benchmark
import numpy as np
import profile_step
import pytest
import torch
import trimesh
from benchmarking import comparisons, stopwatch
from benchmarking.measuring import configured
from benchmarking.results import Ledger
from benchmarking.variants import VARIANTS

from resfields_ngp.backends import open_backend
from resfields_ngp.config_tree import to_table
from resfields_ngp.datasets.anime import write_anime
from resfields_ngp.datasets.synthetic_capture import SyntheticConfig, write_synthetic
from resfields_ngp.encoders.hash_grid import HashGrid, HashGridConfig
from resfields_ngp.mesh import Mesh
from resfields_ngp.mesh_files import write_mesh
from resfields_ngp.records import FrameSlices, frame_time
from resfields_ngp.run_folder import RunFolder

SYNTHETIC = SyntheticConfig(n_frames=4, n_cameras=4, size=32, n_points=500)
TINY = [
    *("--training.samples-per-batch", "1024", "--training.threads", "1"),
    *("--meshing.resolution", "32", "--imaging.orbit-pictures", "0", "--imaging.video", "false"),
    *("--evaluation.points", "500", "--hull.resolution", "32"),
]


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a synthetic capture that trains in seconds."""
    return write_synthetic(SYNTHETIC, tmp_path_factory.mktemp("captures") / "tiny")


COMMANDS = [
    "capture",
    "ablation",
    "collapse",
    "kernels",
    "silhouettes",
    "prepare",
    "video",
    "sdf",
    "flow",
    "radiance",
    "texture",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys):
    with pytest.raises(SystemExit) as stop:
        benchmark.main([command, "--help"])
    assert stop.value.code == 0
    assert "--table" in capsys.readouterr().out


def test_fits_of_all_tasks_share_one_page_of_results(tmp_path: Path, capture: Path, capsys):
    np.save(tmp_path / "clip.npy", np.random.default_rng(0).integers(0, 255, (3, 12, 16, 3), "u1"))
    ball = trimesh.creation.icosphere(2)
    moving = np.asarray(ball.vertices) + np.arange(2)[:, None, None] * 0.3
    write_anime(tmp_path / "ball.anime", moving, np.asarray(ball.faces))
    shared = ["--steps", "30", "--training.threads", "1"]
    shared += ["--table", str(tmp_path / "results.md"), "--out", str(tmp_path / "runs")]
    small = ["--encoder.log2-hashmap-size", "10"]
    clip = ["video", str(tmp_path / "clip.npy"), "--frames", "::", *shared, *small]
    assert benchmark.main([*clip, "--variants", "residuals;no residuals"]) == 0
    small += ["--meshing.resolution", "32", "--evaluation.points", "500"]
    ball = [str(tmp_path / "ball.anime"), *shared]
    assert benchmark.main(["sdf", *ball, *small, "--points.pool", "500"]) == 0
    few = ["--training.samples-per-batch", "48", "--flow.points", "20", "--variants", "se3"]
    assert benchmark.main(["flow", *ball, *few]) == 0
    radiance = ["radiance", str(capture), *shared, *TINY, "--variants", "neus;nerf, no masks"]
    assert benchmark.main(radiance) == 0

    page = (tmp_path / "results.md").read_text()
    for heading in ("video", "sdf", "flow", "radiance"):
        assert f"## {heading}" in page
    rows = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    names = ["residuals", "no residuals", "residuals", "se3", "neus", "nerf, no masks"]
    assert [row["variant"] for row in rows] == names
    assert rows[1]["parameters"] < rows[0]["parameters"] and rows[2]["chamfer_floor"] > 0
    assert rows[3]["unseen_forward_relative"] > 0
    assert rows[4]["masked_psnr"] and rows[4]["key"] != rows[5]["key"]

    capsys.readouterr()
    assert benchmark.main([*clip, "--variants", "residuals"]) == 0
    assert "known already" in capsys.readouterr().out
    assert benchmark.main([*clip, "--variants", "none"]) == 2
    assert 'no variant "none" of video' in capsys.readouterr().err


def test_every_motion_model_of_the_flow_comes_with_and_without_residuals():
    names = set(VARIANTS["flow"])
    models = {name.removesuffix(" + residuals") for name in names}
    assert {"offset", "se3", "dct"} <= models
    assert names == models | {f"{model} + residuals" for model in models}


def test_rows_before_a_cut_off_line_are_kept(tmp_path: Path):
    ledger = Ledger(tmp_path / "new" / "table.md", lambda rows: str([row["n"] for row in rows]))
    ledger.add({"n": 1})
    with open(ledger.path, "a") as file:
        file.write('{"n": 2, "cut')
    ledger.add({"n": 3})
    assert [row["n"] for row in ledger.rows()] == [1, 3]
    assert ledger.table.read_text() == "[1, 3]"
    assert ledger.rows()[0]["torch_threads"] >= 1
    assert ledger.find(n=3) and ledger.find(n=2) is None


def test_every_variant_of_the_ablation_is_a_config_of_its_own(capture: Path):
    configs = {name: configured(capture, v) for name, v in comparisons.VARIANTS.items()}
    keys = {name: comparisons.settings_key(config) for name, config in configs.items()}
    # One of the ranks may be the default, and is then run once.
    n_different = len(keys) - (keys["rank 8"] == keys["residuals in both (default)"])
    assert len(set(keys.values())) == n_different


def test_the_key_of_a_run_does_not_depend_on_where_its_capture_is(capture: Path, tmp_path: Path):
    moved = tmp_path / capture.name
    moved.symlink_to(capture)
    (tmp_path / "other").mkdir()
    elsewhere = [configured(path, {}) for path in (capture, moved, tmp_path / "other")]
    keys = [comparisons.settings_key(config) for config in elsewhere]
    assert keys[0] == keys[1] != keys[2]


@pytest.mark.parametrize(("worst", "verdict"), [(28.6, "holds"), (28.4, "collapses")])
def test_a_seed_far_below_the_median_is_a_collapse(worst: float, verdict: str):
    facts = {"cpu": "", "cpu_count": 1, "torch_threads": 1, "numba_threads": 1}
    facts |= {"date": "", "commit": "", "command": "", "capture": "fox", "budget": "60 s"}
    scores = [30.0, worst, 31.0, 30.0, 35.0]
    rows = [{**facts, "seed": seed, "psnr": score} for seed, score in enumerate(scores)]
    assert f"| {verdict} |" in comparisons.describe_collapse(rows)


def test_finished_runs_are_not_run_again(capture: Path, tmp_path: Path, capsys):
    table = tmp_path / "collapse.md"
    command = ["collapse", str(capture), "--steps", "4", "--table", str(table), *TINY]
    command += ["--out", str(tmp_path / "runs")]
    assert benchmark.main([*command, "--seeds", "0"]) == 0
    capsys.readouterr()

    def stamps() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*")}

    written = stamps()
    assert benchmark.main([*command, "--seeds", "0"]) == 0
    assert "known already" in capsys.readouterr().out
    assert written and stamps() == written
    assert len(table.with_suffix(".jsonl").read_text().splitlines()) == 1


def test_a_capture_is_scored_and_measured(capture: Path, tmp_path: Path, capsys):
    run, table = tmp_path / "run", tmp_path / "table.md"
    command = ["capture", str(capture), "--steps", "20", "--out", str(run), "--table", str(table)]
    assert benchmark.main([*command, "--seed", "3", *TINY]) == 0
    row = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert row["steps"] == 20 and row["seed"] == 3 and row["psnr"] > 10.0
    assert 0.0 < row["train_seconds"] <= row["train_seconds_with_hull"]
    assert row["peak_memory_gib"] > 0.05 and row["parameters"] > 1000
    settings = json.loads((run / "config.json").read_text())
    assert settings["training"]["seed"] == 3 and settings["meshing"]["resolution"] == 32


def test_true_meshes_fill_their_masks_and_a_missing_one_counts_nothing(
    capture: Path, tmp_path: Path, capsys
):
    run = RunFolder.create(tmp_path / "run", to_table(configured(capture, {}))).path
    for frame in range(SYNTHETIC.n_frames):
        vertices, faces = SYNTHETIC.figure.mesh(frame_time(frame, SYNTHETIC.n_frames), 0.03)
        write_mesh(Mesh(vertices, faces), run / "meshes" / f"{frame:06d}.ply")
    command = ["silhouettes", str(run), "--table", str(tmp_path / "silhouettes.md")]
    assert benchmark.main(command) == 0
    whole = json.loads(capsys.readouterr().out.splitlines()[-1])
    # The outline is a third of these small masks' pixels.
    assert len(whole["views"]) == 4 and whole["mean"] > 0.85
    (run / "meshes" / "000001.ply").unlink()
    assert benchmark.main(command) == 0
    fewer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert fewer["worst_frame"] == 1 and fewer["worst"] == 0.0
    assert fewer["mean"] == pytest.approx(0.75 * whole["mean"], abs=0.03)


def test_mistakes_have_the_exit_codes_of_the_command_line(capture: Path, tmp_path: Path, capsys):
    assert benchmark.main(["capture", str(tmp_path / "nowhere")]) == 2
    assert benchmark.main(["capture", str(capture), "--encoder.n-level", "4"]) == 2
    assert benchmark.main(["silhouettes", str(tmp_path)]) == 3
    assert benchmark.main(["ablation", str(capture), "--only", "none such"]) == 3
    assert benchmark.main(["kernels", "--encoder.n-levels", "4"]) == 3
    assert "n_levels" in capsys.readouterr().err


def test_kernels_are_compared_both_ways(tmp_path: Path, capsys):
    table = tmp_path / "kernels.md"
    command = ["kernels", "--points", "64", "--tangents", "0,3", "--repeats", "1"]
    assert benchmark.main([*command, "--threads", "1", "--table", str(table)]) == 0
    rows = Ledger(table, str).rows()
    assert {(row["kernel"], row["tangents"]) for row in rows} == {
        (kernel, tangents) for kernel in ("hash_grid", "mlp") for tangents in (0, 3)
    }
    for row in rows:
        ratio = row["backward_reference_ms"] / row["backward_cpu_ms"]
        assert row["backward_ratio"] == pytest.approx(ratio, rel=0.05)


def test_nested_stages_add_up_and_a_refresh_takes_in_what_lies_within(monkeypatch):
    clock = SimpleNamespace(now=5.0)
    monkeypatch.setattr(stopwatch.time, "perf_counter", lambda: clock.now)
    watch = stopwatch.Stopwatch()
    with watch.stage("outer"):
        clock.now += 1.0
        with watch.stage("inner"):
            clock.now += 2.0
        with watch.stage(stopwatch.REFRESH), watch.stage("inner"):
            clock.now += 4.0
        clock.now += 8.0
    clock.now += 16.0
    assert watch.seconds == {"outer": 9.0, "inner": 2.0, stopwatch.REFRESH: 4.0}


@pytest.mark.parametrize("name", ["cpu", "reference"])
@pytest.mark.parametrize("trains_coefficients", [True, False])
def test_a_timed_kernel_has_the_same_values_and_gradients(name: str, trains_coefficients: bool):
    generator = torch.Generator().manual_seed(0)
    grid = HashGrid(HashGridConfig(n_levels=3), 2, generator)
    shape = (2, grid.spec.n_levels, grid.spec.n_channels)
    coefficients = torch.randn(shape, generator=generator, requires_grad=trains_coefficients)
    positions = torch.rand((10, 3), generator=generator)
    arguments = (positions, FrameSlices((0, 1), (0, 4, 10)), coefficients, None)
    watch, plain = stopwatch.Stopwatch(), open_backend(name, "cpu")
    found = []
    for backend in (plain, stopwatch.TimedBackend(plain, watch)):
        grid.table.grad = torch.zeros_like(grid.table)
        coefficients.grad = None
        outputs = backend.hash_grid(*arguments, grid.table, grid.spec, 3)
        outputs.square().sum().backward()
        found.append((outputs.detach(), grid.table.grad, coefficients.grad))
    for expected, timed in zip(*found, strict=True):
        assert expected is timed is None or torch.equal(expected, timed)
    assert set(watch.seconds) == {"hash grid, forward", "hash grid, backward"}


def test_the_stages_of_a_profile_add_up_to_the_step(capture: Path, tmp_path: Path, capsys):
    run, table = tmp_path / "run", tmp_path / "profile.md"
    command = [str(capture), "--steps", "12", "--measured", "16", "--fraction", "0.2", *TINY]
    command += ["--threads", "1", "--backend", "cpu", "--out", str(run), "--table", str(table)]
    assert profile_step.main(command) == 0
    row = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(row["stages"]) <= set(stopwatch.STAGES)
    assert sum(row["stages"].values()) == pytest.approx(row["ms_per_step"], rel=1e-3)
    assert row["samples_per_ray"] > 0 and row["peak_memory_gib"] > 0.05
    assert {"hash grid, backward", "optimiser", "march"} <= set(row["stages"])
    assert stopwatch.REFRESH in table.read_text()


def test_a_profile_needs_a_capture_or_a_run(capsys):
    assert profile_step.main([]) == 2
    assert "--run" in capsys.readouterr().err


def test_a_capture_agrees_with_itself_prepared_again(tmp_path: Path, capsys):
    command = ["prepare", "--out", str(tmp_path / "runs"), "--table", str(tmp_path / "p.md")]
    command += ["--workers", "1", "--clouds.points", "0"]
    tiny = ["--frames", "2", "--triangles", "800", "--size", "32", "--rig.views", "2"]
    assert benchmark.main([*command, *tiny]) == 0
    first = tmp_path / "first"
    (tmp_path / "runs" / "dancer_raw_capture").rename(first)
    raw = tmp_path / "runs" / "dancer_raw"
    assert benchmark.main([*command, str(raw), str(first)]) == 0
    row = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert row["frames"] == 2 and row["cameras"] == 3 and row["seconds"] > 0
    assert row["mask_iou"] > 0.99 and row["colour_error"] < 1 and row["depth_error_p99"] < 2e-3
