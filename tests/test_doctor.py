"""Laws of the doctor: it names everything, has a line for what is missing, never falls over."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from resfields_ngp import doctor
from resfields_ngp.doctor import Finding, can_run_on_cpu, diagnose


@pytest.fixture
def no_subprocess(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes every import for fine, so that tests take no seconds."""
    monkeypatch.setattr(doctor, "_attempt", lambda line: (True, "1.0"))


def _take_away(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == package else find_spec(name)
    )


def test_everything_that_can_be_used_is_named(no_subprocess: None):
    names = {finding.name for finding in diagnose()}
    assert {"python", "torch", "numba", "CUDA GPU", "triton", "nerfacc", "tinycudann"} <= names


def test_this_machine_can_reconstruct():
    findings = diagnose()
    assert can_run_on_cpu(findings), [finding for finding in findings if finding.remedy]


def test_a_missing_package_comes_with_its_install_line(
    monkeypatch: pytest.MonkeyPatch, no_subprocess: None
):
    _take_away("trimesh", monkeypatch)
    findings = {finding.name: finding for finding in diagnose()}
    assert findings["trimesh"].verdict == "missing"
    assert findings["trimesh"].remedy.endswith("-m pip install trimesh")
    assert not can_run_on_cpu(list(findings.values()))


@pytest.mark.parametrize("package", ["embreex", "pycolmap"])
def test_reconstruction_does_without(
    package: str, monkeypatch: pytest.MonkeyPatch, no_subprocess: None
):
    _take_away(package, monkeypatch)
    findings = {finding.name: finding for finding in diagnose()}
    assert findings[package].verdict == "unneeded" and findings[package].remedy
    assert can_run_on_cpu(list(findings.values()))


def test_an_installed_package_that_does_not_import_says_why(monkeypatch: pytest.MonkeyPatch):
    def attempt(line: str) -> tuple[bool, str]:
        is_broken = "trimesh" in line
        return not is_broken, "ImportError: no such symbol" if is_broken else "1.0"

    monkeypatch.setattr(doctor, "_attempt", attempt)
    findings = {finding.name: finding for finding in diagnose()}
    assert findings["trimesh"].detail == "installed, but: ImportError: no such symbol"


def test_without_a_gpu_its_packages_are_not_asked_for(no_subprocess: None):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    findings = {finding.name: finding for finding in diagnose()}
    assert findings["CUDA GPU"].verdict == "unneeded"
    assert all(findings[name].remedy == "" for name in ("nerfacc", "tinycudann"))


def test_with_a_gpu_the_build_line_names_its_architecture(no_subprocess: None):
    findings = list(doctor._cuda_packages(doctor._Gpu("a GPU", "86")))
    line = next(finding.remedy for finding in findings if finding.name == "tinycudann")
    assert line.startswith("TCNN_CUDA_ARCHITECTURES=86 ") and "pip install" in line


@pytest.mark.parametrize("compiler", ["", "no-such-compiler"])
def test_triton_on_a_gpu_needs_a_c_compiler(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, compiler: str
):
    gpu = doctor._Gpu("a GPU", "86")
    monkeypatch.setenv("CC", sys.executable)
    assert doctor._compiler(gpu).verdict == "works" and doctor._compiler(None).verdict == "works"
    monkeypatch.setattr(doctor.sysconfig, "get_path", lambda name: str(tmp_path))
    assert "Python.h is not there" in doctor._compiler(gpu).detail
    monkeypatch.setenv("CC", compiler)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = doctor._compiler(gpu)
    assert found.verdict == "missing" and compiler in found.detail
    assert "apt-get install gcc" in found.remedy
    assert doctor._compiler(None).verdict == "unneeded"


def test_a_crash_of_what_is_tried_is_survived(monkeypatch: pytest.MonkeyPatch):
    is_fine, output = doctor._attempt("import os; os.abort()")
    assert not is_fine and output

    def hang(*_: object, **__: object) -> None:
        raise subprocess.TimeoutExpired("python", 120)

    monkeypatch.setattr(subprocess, "run", hang)
    assert not doctor._attempt("pass")[0]


def test_only_essentials_decide_whether_the_cpu_path_works():
    assert can_run_on_cpu([Finding("triton", "missing", "")])
    assert not can_run_on_cpu([Finding("numba", "missing", "", is_essential=True)])


@pytest.mark.parametrize("is_built", [True, False])
def test_nerfacc_without_its_cuda_code_is_not_said_to_work(monkeypatch, tmp_path, is_built: bool):
    package = tmp_path / "nerfacc"
    package.mkdir()
    (package / "__init__.py").touch()
    if is_built:
        (package / "csrc.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: object())
    finding = doctor._package("nerfacc", "nerfacc", "build it")
    assert finding.verdict == ("works" if is_built else "missing")
    assert is_built or "not compiled, and there is no nvcc" in finding.detail
