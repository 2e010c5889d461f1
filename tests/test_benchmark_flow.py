"""Laws of the flow benchmark: every model has a row, and finished ones are kept."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from resfields_ngp.datasets.anime import write_anime

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

import benchmark
from benchmarking.flows import MODELS

FACES = np.array([[0, 2, 1], [0, 3, 2], [0, 1, 3], [1, 2, 3]])
CORNERS = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1.0]])


@pytest.fixture
def meshes(tmp_path: Path) -> Path:
    path = tmp_path / "slide.anime"
    write_anime(path, CORNERS + np.arange(3)[:, None, None] * np.array([0.2, 0.1, 0.0]), FACES)
    return path


def measured(meshes: Path, folder: Path, *more: str) -> list[dict]:
    table = folder / "flow.md"
    command = ["flow", str(meshes), "--steps", "2", "--table", str(table), *more]
    settings = ["--training.threads", "1", "--training.samples-per-batch", "48"]
    settings += ["--flow.points", "20", "--network.n-levels", "0"]
    assert benchmark.main([*command, "--out", str(folder / "runs"), *settings]) == 0
    return [json.loads(line) for line in table.with_suffix(".jsonl").read_text().splitlines()]


def test_models_are_run_once_and_tabled(meshes: Path, tmp_path: Path):
    only = ("--only", "se3,se3 + residuals")
    rows = measured(meshes, tmp_path, *only)
    assert [row["model"] for row in rows] == ["se3", "se3 + residuals"]
    assert rows[1]["parameters"] > rows[0]["parameters"] and rows[0]["steps"] == 2
    assert measured(meshes, tmp_path, *only) == rows
    assert "se3 + residuals" in (tmp_path / "flow.md").read_text()


def test_every_model_comes_with_and_without_residuals():
    with_residuals = {name.removesuffix(" + residuals") for name in MODELS if "+" in name}
    assert with_residuals == {name for name in MODELS if "+" not in name}
    assert {"offset", "se3", "dct"} <= with_residuals


def test_an_unknown_model_is_named(meshes: Path, tmp_path: Path, capsys):
    assert benchmark.main(["flow", str(meshes), "--only", "warp"]) == 3
    assert 'no model "warp"' in capsys.readouterr().err
