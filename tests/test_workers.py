"""Laws of meshing by several processes: as many as there is room for, and the same meshes."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from resfields_ngp import workers
from resfields_ngp.cli import main
from resfields_ngp.config import Config
from resfields_ngp.datasets.synthetic_capture import SyntheticConfig, write_synthetic
from resfields_ngp.workers import (
    GPU_MEMORY,
    GPU_WORKERS,
    JOBS_EACH,
    WORKER_MEMORY,
    Export,
    count_workers,
)

GIB = 1 << 30


def on(device: str, threads: int = 0) -> Config:
    training = replace(Config().training, device=device, threads=threads)
    return replace(Config(), training=training)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands for one of 12 cores, 64 GiB of RAM and a GPU of 24 GiB."""
    monkeypatch.setattr(workers, "_count_cores", lambda: 12)
    monkeypatch.setattr(workers, "_available_memory", lambda: 64 * GIB)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (24 * GIB, 24 * GIB))


@pytest.mark.usefixtures("machine")
def test_cores_jobs_and_a_gpu_bound_the_workers():
    assert count_workers(on("cpu"), 100) == 12
    assert count_workers(on("cpu", threads=3), 100) == 3
    assert count_workers(on("cpu"), 5 * JOBS_EACH + 1) == 5
    assert count_workers(on("cpu"), JOBS_EACH) == count_workers(on("cpu"), 0) == 1
    assert count_workers(on("cuda"), 100) == GPU_WORKERS
    assert count_workers(on("cuda", threads=1), 100) == 1


@pytest.mark.usefixtures("machine")
def test_memory_bounds_the_workers(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(workers, "_available_memory", lambda: 5 * WORKER_MEMORY - 1)
    assert count_workers(on("cpu"), 100) == 4
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (3 * GPU_MEMORY - 1, 24 * GIB))
    assert count_workers(on("cuda"), 100) == 2
    monkeypatch.setattr(workers, "_available_memory", lambda: 0)
    assert count_workers(on("cpu"), 100) == count_workers(on("cuda"), 100) == 1


def test_what_the_system_says_is_plausible():
    assert 1 <= workers._count_cores() <= 4096
    assert 1 << 26 < workers._available_memory() < 1 << 50


def test_workers_take_the_device_and_backend_that_were_chosen():
    backend = SimpleNamespace(device=torch.device("cuda"), name="triton")
    reconstruction: Any = SimpleNamespace(field=SimpleNamespace(backend=backend))
    export = Export.of(reconstruction, Path(), Config(), lambda _: None)  # pyright: ignore
    assert (export.config.training.device, export.config.training.backend) == ("cuda", "triton")


def test_what_is_started_does_not_hear_an_interrupt():
    with workers._deaf_to_interrupts():
        assert signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    # A shell's background jobs ignore SIGINT, and tests may be one.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), workers._deaf_to_interrupts():
            os.kill(os.getpid(), signal.SIGINT)  # held back to the end
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.slow
def test_workers_mesh_as_one_process_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made, real = [], workers.made_by_workers

    def counted(jobs, export, n_workers):
        made.append(n_workers)
        return real(jobs, export, n_workers)

    monkeypatch.setattr(workers, "made_by_workers", counted)
    monkeypatch.setattr(workers, "JOBS_EACH", 1)
    config = SyntheticConfig(n_frames=3, n_cameras=4, size=48, n_points=500)
    capture = write_synthetic(config, tmp_path / "figure")
    run = str(tmp_path / "run")
    options = ["--steps", "100", "--threads", "1", "--training.samples-per-batch", "2048"]
    assert main(["train", str(capture), "--out", run, *options, "--losses.mask", "0.2"]) == 0
    found = []
    for threads in ("1", "2"):
        assert main(["mesh", run, "--resolution", "48", "--threads", threads]) == 0
        files = sorted((tmp_path / "run" / "meshes").glob("*.ply"))
        found.append([path.read_bytes() for path in files])
        for path in files:
            path.unlink()
    assert found[0] == found[1] and len(found[0]) == 3
    assert made == [2]
