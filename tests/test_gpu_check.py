"""The GPU check runs: interpreted everywhere, for real where there is a GPU."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import gpu_check
import pytest
import torch
from gpu_check import PARTS

from resfields_ngp.backends import open_backend
from resfields_ngp.backends.reference import ReferenceBackend
from resfields_ngp.datasets.synthetic_capture import SyntheticConfig, write_synthetic
from resfields_ngp.tasks.capture import CaptureTask

ROOT = Path(__file__).parents[1]


def check(out: Path, *options: str) -> tuple[subprocess.CompletedProcess, dict]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "scripts" / "gpu_check.py"), "--out", str(out), *options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done, json.loads(out.read_text()) if out.exists() else {}


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_every_part_runs_interpreted_and_what_was_found_is_kept(tmp_path: Path):
    done, found = check(tmp_path / "found.json", "--interpret", "--limit", "30000")
    assert done.returncode == 0 and not found["errors"], found.get("errors", done.stderr)
    kernels = {"hash_grid", "mlp", "sloped_mlp", "composite", "accumulate", "march"}
    assert {entry["kernel"] for entry in found["kernels"]} == kernels | {"plain_mlp"}
    compared = {entry["kernel"] for entry in found["parity"]}
    assert compared == kernels | {"interpolate"} | {
        f"picture of a checkpoint by {name}" for name in ("reference", "triton")
    }
    assert all(entry["agrees"] for entry in found["parity"])
    assert {entry["backend"] for entry in found["kernels"]} == {"triton", "reference"}
    assert all(e["floor_ms"] > 0 for e in found["kernels"] if e["kernel"] != "march")
    (step,), (training,) = found["step"], found["training"]
    assert step["backend"] == "triton" and step["ms_per_step"] > 0 < step["samples_per_step"]
    assert training["steps"] == 300 and training["psnr"] > 0 < training["chamfer"]
    assert training["pictures_differ_by"]["cpu"] < 1e-4
    assert all(f"## {part.capitalize()}" in done.stdout for part in PARTS)
    assert [path.name for path in tmp_path.iterdir()] == ["found.json"]


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_when_time_is_up_a_part_ends_and_keeps_what_it_has(tmp_path: Path):
    options = ("--interpret", "--alone", "parity", "--limit", "0")
    done, found = check(tmp_path / "found.json", *options)
    assert done.returncode == 1 and found["errors"] == ["parity: out of time"]
    assert len(found["parity"]) == 1


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_ways_to_share_the_rows_are_measured_where_asked_for(tmp_path: Path):
    done, found = check(tmp_path / "found.json", "--interpret", "--parts", "tilings")
    assert done.returncode == 0 and not found["errors"], found.get("errors", done.stderr)
    assert [(each["network"], each["n_warps"]) for each in found["tilings"]] == [
        (name, 4) for name in ("geometry", "geometry", "colour", "colour")
    ]
    assert all(0 < each["forward_ms"] < each["both_ms"] for each in found["tilings"])
    assert "## Tilings" in done.stdout and "tilings" not in PARTS


FAULTY = """
import json, os, sys, time
part, out = sys.argv[sys.argv.index("--alone") + 1], sys.argv[sys.argv.index("--out") + 1]
entry = {"backend": sys.argv[sys.argv.index("--backends") + 1], "agrees": True}
with open(out, "w") as file:
    json.dump({"missing": ["tcnn is not there"], "errors": [], part: [entry]}, file)
if entry["backend"] == "triton" and part == "kernels":
    print("illegal address", file=sys.stderr)
    sys.stderr.flush()
    os.abort()
if part == "step" and entry["backend"] == "tcnn":
    time.sleep(600)
"""
"""Stands for the check in a process of its own: it crashes in one part and hangs in another."""


def test_what_crashes_or_hangs_is_named_and_all_the_rest_goes_on(tmp_path: Path, monkeypatch):
    script = tmp_path / "faulty.py"
    script.write_text(FAULTY)
    monkeypatch.setattr(gpu_check, "__file__", str(script))
    monkeypatch.setattr(gpu_check, "GRACE", 15.0)  # a busy machine starts Python slowly
    options = Namespace(capture=None, interpret=False, seconds=1.0, limit=0.0, sizes=[(6, 2)])
    options.out, options.backends = tmp_path / "found.json", "triton,tcnn"
    found = gpu_check.gathered(options, PARTS)
    assert found["errors"] == [
        "kernels on triton: ended with -6: illegal address",
        "step on tcnn: did not end in time",
    ]
    assert found["missing"] == ["tcnn is not there"] and not gpu_check.is_fine(found)
    done = {part: [entry["backend"] for entry in found[part]] for part in PARTS}
    assert done["parity"] == done["step"] == ["triton", "tcnn"]
    assert done["kernels"] == ["triton", "tcnn", "reference"]
    assert done["training"] == ["triton,tcnn"]
    took = found["took"]
    assert len(took) == 8 and max(took.values()) == took["step on tcnn"] >= gpu_check.GRACE
    assert json.loads(options.out.read_text()) == found


def test_a_kernel_that_fails_or_gives_nan_does_not_agree_and_the_next_is_still_compared():
    from benchmarking.gpu_kernels import parity

    class Broken(ReferenceBackend):
        name = "triton"

        def hash_grid(self, *arguments):
            raise RuntimeError("out of registers\nand more")

        def mlp(self, jets, *arguments):
            outputs = super().mlp(jets, *arguments)
            return outputs + 0.0 * outputs[:1] / outputs[:1].detach().mul(0.0)

    lines = list(parity([Broken("cpu")], torch.device("cpu"), True))
    by_kernel = {line["kernel"]: line for line in lines}
    assert by_kernel["hash_grid"]["error"] == "RuntimeError: out of registers"
    assert not by_kernel["hash_grid"]["agrees"] and not by_kernel["mlp"]["agrees"]
    assert by_kernel["march"]["agrees"] and by_kernel["composite"]["agrees"]
    assert not gpu_check.is_fine({"errors": [], "kernels": [{"error": "lost"}]})


def test_an_unknown_part_is_refused(tmp_path: Path):
    done, found = check(tmp_path / "found.json", "--interpret", "--parts", "kernel")
    assert done.returncode == 2
    assert "allowed: parity, kernels, step, training, tilings" in done.stderr


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
