"""The GPU check runs: interpreted everywhere, for real where there is a GPU."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest
import torch

from resfields_ngp.backends import open_backend
from resfields_ngp.datasets.synthetic_capture import SyntheticConfig, write_synthetic
from resfields_ngp.tasks.capture import CaptureTask

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))


def check(out: Path, *options: str) -> tuple[subprocess.CompletedProcess, dict]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "scripts" / "gpu_check.py"), "--out", str(out), *options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done, json.loads(out.read_text()) if out.exists() else {}


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_kernels_are_compared_and_timed_interpreted_and_what_was_found_is_kept(tmp_path: Path):
    done, found = check(
        tmp_path / "found.json", "--interpret", "--limit", "3000", "--parts", "parity,kernels"
    )
    assert done.returncode == 0 and not found["errors"], found.get("errors", done.stderr)
    kernels = {"hash_grid", "mlp", "composite", "accumulate", "march"}
    assert {entry["kernel"] for entry in found["kernels"]} == kernels
    compared = {entry["kernel"] for entry in found["parity"]}
    assert compared == kernels | {
        f"picture of a checkpoint by {name}" for name in ("reference", "triton")
    }
    assert all(entry["agrees"] for entry in found["parity"])
    assert {entry["backend"] for entry in found["kernels"]} == {"triton", "reference"}
    assert all(e["floor_ms"] > 0 for e in found["kernels"] if e["kernel"] != "march")
    assert "## Parity" in done.stdout and "## Kernels" in done.stdout


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_when_time_is_up_a_part_ends_and_keeps_what_it_has(tmp_path: Path):
    options = ("--interpret", "--parts", "parity", "--limit", "0")
    done, found = check(tmp_path / "found.json", *options)
    assert done.returncode == 1 and found["errors"] == ["parity: out of time"]
    assert len(found["parity"]) == 1


def test_an_unknown_part_is_refused(tmp_path: Path):
    done, found = check(tmp_path / "found.json", "--interpret", "--parts", "kernel")
    assert done.returncode == 2 and "allowed: parity, kernels, step, training" in done.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_it_says_so(tmp_path: Path):
    done, found = check(tmp_path / "found.json")
    assert done.returncode == 4 and "--interpret" in done.stdout and not found


def test_the_step_that_is_measured_renders_as_many_samples_as_the_device_wants(tmp_path: Path):
    from benchmarking.gpu_training import trainer_on

    capture = write_synthetic(SyntheticConfig(n_frames=1, n_cameras=3, size=16), tmp_path / "it")
    backend = open_backend("cpu")
    trainer = trainer_on(Namespace(capture=capture, interpret=False), backend)
    task = trainer.task
    assert isinstance(task, CaptureTask) and task.n_samples == backend.step_samples
    task.rays_per_batch = 32.0
    assert {"colour", "eikonal"} <= set(trainer.advance().losses)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_kernels_agree_on_the_gpu(tmp_path: Path):
    done, found = check(tmp_path / "found.json", "--parts", "parity")
    assert done.returncode == 0 and found["parity"], done.stdout


def test_the_page_holds_a_run_or_says_that_there_was_none():
    text = (ROOT / "docs" / "gpu.md").read_text()
    assert text == "not run yet\n" or all(word in text for word in ("device ", "commit ", "date "))
