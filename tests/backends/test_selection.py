"""Laws of choosing a backend: the fastest that works, an honest refusal where none does."""

from __future__ import annotations

import ast
import logging
import subprocess
from pathlib import Path

import pytest
import torch

from resfields_ngp import backends
from resfields_ngp.backends import BackendUnavailable, open_backend, selection
from resfields_ngp.backends.reference import ReferenceBackend


class Stopwatch:
    """Pretends backends of given speeds, or missing."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **seconds: float | None) -> None:
        self.seconds, self.measured = seconds, []
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(backends, "_opened", self.opened)
        monkeypatch.setattr(selection, "measure", self.measure)
        selection.fastest.cache_clear()

    def opened(self, name: str, device: str) -> ReferenceBackend:
        if name in self.seconds and self.seconds[name] is None:
            raise BackendUnavailable(f"{name}: not installed")
        backend = ReferenceBackend("cpu")
        backend.name, backend.device = name, torch.device(device)
        return backend

    def measure(self, backend: ReferenceBackend) -> float:
        self.measured.append(backend.name)
        return self.seconds[backend.name]


@pytest.mark.parametrize("device", ["auto", "cuda"])
@pytest.mark.parametrize(("triton", "tcnn"), [(1.0, 2.0), (2.0, 1.0)])
def test_auto_takes_the_faster_one_and_says_so_once(
    monkeypatch, caplog, device: str, triton: float, tcnn: float
):
    caplog.set_level(logging.INFO)
    watch = Stopwatch(monkeypatch, triton=triton, tcnn=tcnn)
    expected = "triton" if triton < tcnn else "tcnn"
    assert open_backend("auto", device).name == expected
    assert open_backend("auto", device).name == expected
    assert sorted(watch.measured) == ["tcnn", "triton"]  # once a process
    (line,) = caplog.messages
    assert line.startswith(f"backend {expected} (") and f"triton {1e3 * triton:.1f} ms" in line


@pytest.mark.parametrize("missing", ["triton", "tcnn"])
def test_auto_takes_the_one_that_is_there(monkeypatch, missing: str):
    Stopwatch(monkeypatch, **{"triton": 1.0, "tcnn": 1.0, missing: None})
    assert open_backend().name == ({"triton", "tcnn"} - {missing}).pop()


def test_with_no_gpu_backend_auto_is_the_cpu_in_one_line_and_cuda_says_why(monkeypatch, caplog):
    Stopwatch(monkeypatch, triton=None, tcnn=None)
    found = open_backend()
    assert found.name == "cpu" and found.device.type == "cpu"
    (line,) = caplog.messages
    assert "triton: not installed; tcnn: not installed; computing on the CPU" in line
    with pytest.raises(BackendUnavailable, match="triton: not installed; tcnn: not installed"):
        open_backend("auto", "cuda")


class CompilationError(Exception):
    """As Triton's: not a RuntimeError."""


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("no kernel image\nis available"),
        CompilationError("at 3:1:\n    x = y"),
        subprocess.CalledProcessError(1, ["gcc"]),
        AssertionError(),
    ],
)
def test_a_backend_that_fails_when_measured_is_left_out(monkeypatch, error: Exception):
    watch = Stopwatch(monkeypatch, triton=1.0, tcnn=2.0)

    def fail(backend: ReferenceBackend) -> float:
        if backend.name == "triton":
            raise error
        return watch.measure(backend)

    monkeypatch.setattr(selection, "measure", fail)
    assert open_backend().name == "tcnn"


def test_a_name_opens_without_measuring(monkeypatch):
    watch = Stopwatch(monkeypatch, triton=1.0, tcnn=2.0)
    assert open_backend("tcnn").name == "tcnn" and open_backend("tcnn").device.type == "cuda"
    assert open_backend("reference").device.type == "cpu"
    assert open_backend("auto", "cpu").name == "cpu" and not watch.measured


def test_without_a_gpu_cuda_is_refused_and_auto_is_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert open_backend().name == "cpu"
    with pytest.raises(BackendUnavailable, match="torch sees no CUDA GPU here; use --device cpu"):
        open_backend("auto", "cuda")


@pytest.mark.parametrize(
    ("name", "device", "other"),
    [("cpu", "cuda", "cpu"), ("triton", "cpu", "cuda"), ("tcnn", "cpu", "cuda")],
)
def test_a_backend_on_the_wrong_device_is_refused(monkeypatch, name, device, other):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(BackendUnavailable, match=f"use --device {other}"):
        open_backend(name, device)


def test_the_measurement_runs_every_kernel_forward_and_backward():
    class Counting(ReferenceBackend):
        calls: tuple[str, ...] = ()

        def hash_grid(self, *arguments):
            self.calls += ("hash_grid",)
            return super().hash_grid(*arguments)

        def mlp(self, *arguments):
            self.calls += ("mlp",)
            outputs = super().mlp(*arguments)
            assert outputs.requires_grad and outputs.shape == (64, 4, 16)
            return outputs

    backend = Counting()
    selection.workload(backend, 64)()
    assert backend.calls == ("hash_grid", "mlp")


@pytest.mark.parametrize(
    ("package", "home"),
    [("tinycudann", "tcnn.py"), ("nerfacc", "tcnn.py"), ("triton", "triton")],
)
def test_nothing_but_its_own_backend_imports_a_gpus_package(package: str, home: str):
    root = Path(backends.__file__).parents[1]
    importers = set()
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            if any(name.split(".")[0] == package for name in names):
                importers.add(path.relative_to(root).parts[:2])
    assert importers <= {("backends", home)}
