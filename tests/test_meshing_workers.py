"""Laws of meshing by several processes: as many as there is room for, and the same meshes."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path

import pytest

from resfields_ngp import workers
from resfields_ngp.cli import main
from resfields_ngp.config import Config
from resfields_ngp.datasets.synthetic_capture import SyntheticConfig, write_synthetic
from resfields_ngp.workers import (
    JOBS_EACH,
    WORKER_MEMORY,
    count_workers,
)

GIB = 1 << 30


def with_threads(threads: int = 0) -> Config:
    return replace(Config(), training=replace(Config().training, threads=threads))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands for one of 12 cores and 64 GiB of RAM."""
    monkeypatch.setattr(workers, "count_cores", lambda: 12)
    monkeypatch.setattr(workers, "_available_memory", lambda: 64 * GIB)


@pytest.mark.usefixtures("machine")
def test_cores_jobs_and_memory_bound_the_workers(monkeypatch: pytest.MonkeyPatch):
    assert count_workers(with_threads(), 100) == 12
    assert count_workers(with_threads(3), 100) == 3
    assert count_workers(with_threads(), 5 * JOBS_EACH + 1) == 5
    assert count_workers(with_threads(), JOBS_EACH) == count_workers(with_threads(), 0) == 1
    monkeypatch.setattr(workers, "_available_memory", lambda: 5 * WORKER_MEMORY - 1)
    assert count_workers(with_threads(), 100) == 4
    monkeypatch.setattr(workers, "_available_memory", lambda: 0)
    assert count_workers(with_threads(), 100) == 1


def test_what_the_system_says_is_plausible():
    assert 1 <= workers.count_cores() <= 4096
    assert 1 << 26 < workers._available_memory() < 1 << 50


def test_what_is_started_does_not_hear_an_interrupt():
    with workers.deaf_to_interrupts():
        assert signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    # A shell's background jobs ignore SIGINT, and tests may be one.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), workers.deaf_to_interrupts():
            signal.raise_signal(signal.SIGINT)  # to this thread; held back to the end
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
