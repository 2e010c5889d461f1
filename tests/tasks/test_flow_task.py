"""Laws of ``fit flow``: it learns what moves, its runs can be evaluated, exported and resumed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from resfields_ngp.backends import open_backend
from resfields_ngp.cli import main
from resfields_ngp.config_tree import apply_table, nested
from resfields_ngp.datasets.anime import write_anime
from resfields_ngp.datasets.meshes import load_meshes
from resfields_ngp.flow import FLOW_MOTIONS
from resfields_ngp.mesh import Mesh
from resfields_ngp.mesh_files import read_mesh, write_mesh
from resfields_ngp.tasks.flow import FlowFitConfig, FlowTask, held_out_triangles
from resfields_ngp.trainer import Trainer

N_FRAMES = 4
FACES = np.array([[i, i + 1, i + 7] for i in range(6)] + [[i, i + 7, i + 6] for i in range(1, 6)])
BACKENDS = {name: open_backend(name, "cpu") for name in ("reference", "cpu")}


def waving() -> np.ndarray:
    """Returns (n_frames, 14, 3) vertices of a ribbon that turns and bends."""
    x = np.tile(np.linspace(-1.0, 1.0, 7), 2)
    rest = np.stack([x, np.repeat([0.0, 0.4], 7), np.zeros(14)], axis=1)
    frames = []
    for frame in range(N_FRAMES):
        angle = 0.25 * frame
        turn = np.array(
            [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
        )
        frames.append((rest + [0.0, 0.1 * frame, 0.0]) @ turn.T)
        frames[-1][:, 1] += 0.1 * frame * x**2
    return np.stack(frames)


@pytest.fixture
def ribbon(tmp_path: Path) -> Path:
    path = tmp_path / "ribbon.anime"
    write_anime(path, waving(), FACES)
    return path


def make_task(path: Path, backend: str = "cpu", **settings: object) -> FlowTask:
    table = {"input.path": str(path), "training.steps": 100, "training.samples_per_batch": 256}
    table |= {"network.n_neurons": 32, "network.n_frequencies": 1, "flow.points": 500}
    table |= {"training.network_rate": 0.01, "network.n_levels": 0}
    config = apply_table(FlowFitConfig(), nested(table | settings), "test")
    return FlowTask(config, load_meshes(config.input), BACKENDS[backend])


@pytest.mark.parametrize(("kind", "rank"), [("offset", 0), *((kind, 2) for kind in FLOW_MOTIONS)])
def test_every_model_learns_the_ribbon(ribbon: Path, kind: str, rank: int):
    task = make_task(ribbon, **{"motion.kind": kind, "residual.rank": rank})
    before = task.scores()["mean"]
    trainer = Trainer(task.config.training, task)
    while trainer.fraction < 1.0:
        trainer.advance()
    after = task.scores()["mean"]
    for name in ("forward_relative", "backward_relative"):
        assert after[name] < 0.4 * before[name], name
    if kind == "invertible":
        assert after["cycle_relative"] < 1e-3


@pytest.mark.parametrize("kind", FLOW_MOTIONS)
def test_backends_take_the_same_first_step(ribbon: Path, kind: str):
    import torch

    found = []
    for backend in BACKENDS:
        task = make_task(ribbon, backend, **{"motion.kind": kind, "residual.deviation": 0.2})
        result = task.step((0, 2), 0, 0.5, torch.Generator().manual_seed(3))
        torch.stack(list(result.losses.values())).sum().backward()
        gradients = [p.grad for p in task.field.parameters() if p.grad is not None]
        found.append([*result.losses.values(), *gradients])
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-5)


def test_held_out_triangles_are_seeded_and_never_trained_on(ribbon: Path):
    held_out = held_out_triangles(200, 0.1)
    assert held_out.sum() == 20 and np.array_equal(held_out, held_out_triangles(200, 0.1))
    assert not held_out_triangles(200, 0.0).any()
    assert held_out_triangles(2, 0.5).sum() == 1
    scores = make_task(ribbon).scores()
    assert scores["unseen"]["forward"] != scores["mean"]["forward"]
    assert make_task(ribbon, **{"flow.held_out": 0.0}).scores()["unseen"] is None


@pytest.fixture
def run(ribbon: Path, tmp_path: Path) -> Path:
    out = tmp_path / "run"
    command = ["fit", "flow", str(ribbon), "--out", str(out), "--steps", "5", "--threads", "1"]
    assert main([*command, "--flow.points", "100", "--motion", "dct"]) == 0
    return out


def test_a_run_holds_scores_and_a_picture_and_can_be_evaluated_again(run: Path):
    first = json.loads((run / "evaluation.json").read_text())
    assert first["mean"]["motion"] > 0 and len(first["frames"]) == N_FRAMES - 1
    assert first["parameters"] > 0 and 0.0 < first["held_out"] < 0.5
    (run / "evaluation.json").unlink()
    assert main(["eval", str(run), "--threads", "1"]) == 0
    again = json.loads((run / "evaluation.json").read_text())
    assert again["mean"] == pytest.approx(first["mean"], rel=1e-4, abs=1e-6)
    assert (run / "flow.png").stat().st_size > 1000


def test_export_leads_the_first_mesh_through_the_sequence(run: Path):
    assert main(["export", "flow", str(run), "--format", "ply,obj", "--threads", "1"]) == 0
    files = sorted(file.name for file in (run / "advected").iterdir())
    assert files == sorted(f"{i:06d}.{s}" for i in range(N_FRAMES) for s in ("ply", "obj"))
    meshes = [read_mesh(run / "advected" / f"{i:06d}.ply") for i in range(N_FRAMES)]
    assert all(np.array_equal(mesh.faces, FACES) for mesh in meshes)
    assert np.allclose(meshes[0].vertices, waving()[0], atol=1e-5)


def test_export_leads_another_mesh_too(run: Path, tmp_path: Path):
    mesh = tmp_path / "patch.ply"
    write_mesh(Mesh(waving()[0][:8] * 0.9, FACES[:1]), mesh)
    assert main(["export", "flow", str(run), "--mesh", str(mesh), "--threads", "1"]) == 0
    assert read_mesh(run / "advected" / "000002.ply").n_faces == 1


def fails(capsys: pytest.CaptureFixture[str], code: int, *arguments: str) -> str:
    assert main(arguments) == code
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("resfields-ngp: error: ")
    return lines[0]


@pytest.mark.parametrize(
    ("settings", "code", "expected"),
    [
        (["--motion", "latent"], 2, "motion.kind is latent; scene flow needs a model"),
        (["--residual.rank", "100000"], 2, "residual.rank is 100000; vm on layer"),
        (
            ["--residual.coefficients", "interpolation", "--residual.n-knots", "9"],
            2,
            "n_knots is 9",
        ),
        (["--frames", "0:1"], 3, "flow needs two frames or more"),
        (["--export.formats", "stl"], 2, "export.formats"),
        (["--flow.held-out", "0.9"], 2, "flow.held_out is 0.9; allowed: 0 to 0.5"),
    ],
)
def test_mistakes_get_one_line_and_their_code(
    ribbon: Path, tmp_path: Path, capsys, settings: list[str], code: int, expected: str
):
    out = tmp_path / "none"
    command = ["fit", "flow", str(ribbon), "--out", str(out), "--steps", "2", *settings]
    assert expected in fails(capsys, code, *command)
    assert not out.exists()


def test_connectivity_that_changes_names_the_frame(tmp_path: Path, capsys):
    folder = tmp_path / "meshes"
    for frame, vertices in enumerate(waving()):
        faces = FACES if frame != 2 else FACES[1:]
        write_mesh(Mesh(vertices, faces), folder / f"{frame:03d}.ply")
    message = fails(capsys, 3, "fit", "flow", str(folder), "--out", str(tmp_path / "none"))
    assert "frame 2 has" in message and "correspondences need one connectivity" in message


def test_export_needs_a_run_of_its_task(run: Path, tmp_path: Path, capsys):
    message = fails(capsys, 2, "export", "video", str(run))
    assert "a run of flow; export video needs one of fit video" in message
    empty = tmp_path / "empty.ply"
    write_mesh(Mesh(np.zeros((3, 3)), np.zeros((0, 3), np.int64)), empty)
    assert "no faces" in fails(capsys, 3, "export", "flow", str(run), "--mesh", str(empty))
