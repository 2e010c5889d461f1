"""Laws of the command line: mistakes get one line and their exit code, and cost nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from resfields_ngp import __version__
from resfields_ngp.arguments import split_settings
from resfields_ngp.backends import BackendUnavailable
from resfields_ngp.checkpoint import CheckpointError
from resfields_ngp.cli import VERBS, describe, exit_code, main
from resfields_ngp.config import load_config
from resfields_ngp.config_tree import ConfigError
from resfields_ngp.datasets.base import CaptureError
from resfields_ngp.options import UsageError
from resfields_ngp.run_folder import RunFolderError


def _fails(capsys: pytest.CaptureFixture[str], code: int, *arguments: str) -> str:
    """Returns the one line that a command line which must fail leaves on standard error."""
    assert main(arguments) == code
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("resfields-ngp: error: ")
    assert "Traceback" not in captured.out
    return lines[0].removeprefix("resfields-ngp: error: ")


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]):
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {verb} " in shown for verb in VERBS)


def test_nothing_asked_is_a_usage_error(capsys: pytest.CaptureFixture[str]):
    assert main([]) == 2
    assert "usage: resfields-ngp" in capsys.readouterr().err


def test_version_is_the_packages(capsys: pytest.CaptureFixture[str]):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"resfields-ngp {__version__}\n"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(capsys: pytest.CaptureFixture[str], verb: str):
    assert main([verb, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"usage: resfields-ngp {verb}" in shown and "--debug" in shown


def test_help_shows_settings_with_units_and_the_presets_defaults(
    capsys: pytest.CaptureFixture[str],
):
    assert main(["train", "--help", "--preset", "preview", "--encoder", "frequency"]) == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "--training.seconds FLOAT Wall-clock budget" in shown
    assert "(default: 45.0)" in shown
    assert "--encoder.n-frequencies INT" in shown and "--encoder.n-levels" not in shown


def test_short_options_show_the_defaults_of_their_settings(capsys: pytest.CaptureFixture[str]):
    assert main(["reconstruct", "--help", "--preset", "preview"]) == 0
    preview = load_config(preset="preview")
    shown = " ".join(capsys.readouterr().out.replace("\u2502", " ").split())
    for option, value in (
        ("--seconds FLOAT", preview.training.seconds),
        ("--resolution INT", preview.meshing.resolution),
        ("--format TEXT", ",".join(preview.meshing.formats)),
        ("--test-camera TEXT", preview.capture.test_camera),
    ):
        assert f"(default: {value})" in shown.partition(option)[2].partition(" --")[0]


def test_the_module_runs_as_a_program_and_help_is_quick(tmp_path: Path):
    command = [sys.executable, "-X", "importtime", "-m", "resfields_ngp", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "reconstruct" in done.stdout
    assert "torch" not in done.stderr and "numba" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["recon"], 'unknown verb "recon"; did you mean "reconstruct"?'),
        (["train", "in", "--out", "run", "--hed", "nerf"], 'did you mean "--head"?'),
        (["train", "in"], "--out"),
        (["mesh"], "RUN"),
        (["train", "--out", "run"], "no capture is named"),
        (["train", "in", "--out", "run", "--seconds", "3", "--steps", "4"], "exclude each other"),
        (["train", "in", "--out", "run", "--resume", "--overwrite"], "exclude each other"),
        (["train", "in", "--out", "run", "--encoder.n-level", "3"], 'did you mean "n_levels"?'),
        (["train", "in", "--out", "run", "--training.seconds", "soon"], "allowed: float"),
        (["train", "in", "--out", "run", "--head", "nuts"], 'did you mean "neus"?'),
        (["train", "in", "--out", "run", "--preset", "quick"], "preview, standard, paper"),
        (["train", "in", "--out", "run", "--device", "gpu"], "allowed: auto|cpu|cuda"),
        (["mesh", "run", "--training.seed", "3"], "mesh takes no --training.seed"),
    ],
)
def test_a_usage_error_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    complaint: str,
):
    monkeypatch.chdir(tmp_path)
    assert complaint in _fails(capsys, 2, *arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["reconstruct", "nowhere", "--out", "run"],
        ["train", "nowhere", "--out", "run"],
        ["inspect", "nowhere"],
        ["mesh", "nowhere"],
        ["render", "nowhere"],
        ["eval", "nowhere"],
        ["view", "nowhere"],
        ["train", "in", "--out", "run", "--scene", "nowhere.toml"],
    ],
)
def test_missing_data_is_one_line_and_exit_code_3(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
):
    monkeypatch.chdir(tmp_path)
    assert "nowhere" in _fails(capsys, 3, *arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_exit_code_4(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    line = _fails(capsys, 4, "train", "in", "--out", str(tmp_path / "run"), "--device", "cuda")
    assert "--device cuda" in line and "doctor" in line


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("x"), 2),
        (ConfigError("x"), 2),
        (RunFolderError("x"), 2),
        (CaptureError("x"), 3),
        (CheckpointError("x"), 3),
        (FileNotFoundError("x"), 3),
        (OSError(28, "x: No space left on device"), 3),
        (BackendUnavailable("x"), 4),
        (ImportError("x"), 4),
        (torch.OutOfMemoryError("x. Tried to allocate"), 4),
        (AssertionError("x"), 1),
    ],
)
def test_every_kind_of_error_has_its_exit_code(error: Exception, code: int):
    assert exit_code(error) == code
    assert "x" in describe(error, code) and "Errno" not in describe(error, code)


@pytest.mark.parametrize("switch", ["--debug", "environment"])
def test_a_traceback_is_shown_only_when_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, switch: str
):
    arguments = ["mesh", "nowhere"]
    if switch == "environment":
        monkeypatch.setenv("RESFIELDS_NGP_DEBUG", "1")
    else:
        arguments.append(switch)
    assert main(arguments) == 3
    assert "Traceback" in capsys.readouterr().err


def test_settings_are_taken_out_wherever_they_stand():
    others, settings = split_settings(
        ["--losses.mask=0.2", "in", "--hull.stabilise", "--out", "run", "--a.b-c", "-1"]
    )
    assert others == ["in", "--out", "run"]
    assert settings == {"losses.mask": "0.2", "hull.stabilise": "true", "a.b_c": "-1"}


def test_doctor_works_here(capsys: pytest.CaptureFixture[str]):
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert "tinycudann" in shown and "Reconstruction on the CPU works here." in shown


@pytest.mark.parametrize("package", ["torch", "rich", "tyro", "mcubes"])
def test_doctor_names_a_package_whose_lack_stops_everything_else(package: str):
    blocked = f"import sys; sys.modules[{package!r}] = None; from resfields_ngp.cli import main; "
    doctor = blocked + (
        "import importlib.util as u; found = u.find_spec; "
        f"u.find_spec = lambda name: None if name == {package!r} else found(name); "
        "from resfields_ngp import doctor; doctor._attempt = lambda line: (True, '1.0'); "
        "sys.exit(main(['doctor']))"
    )
    done = subprocess.run([sys.executable, "-c", doctor], capture_output=True, text=True)
    assert done.returncode == 4 and done.stderr.count("\n") == 1, done.stderr
    assert f"pip install {'PyMCubes' if package == 'mcubes' else package}" in done.stdout
    other = blocked + "sys.exit(main(['reconstruct', 'somewhere', '--out', 'anywhere']))"
    done = subprocess.run([sys.executable, "-c", other], capture_output=True, text=True)
    assert done.returncode == 4 and done.stderr.count("\n") == 1, done.stderr
    assert package in done.stderr and "resfields-ngp doctor" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["prepare"], "prepare what? found nothing (allowed: owlii, meshes, video)"),
        (["prepare", "mesh"], 'found "mesh"; did you mean "meshes"?'),
        (["prepair", "owlii"], 'unknown verb "prepair"; did you mean "prepare"?'),
    ],
)
def test_a_verb_of_two_words_is_asked_for_its_second(arguments: list[str], said: str, capsys):
    assert main(arguments) == 2
    assert said in capsys.readouterr().err


def test_help_of_a_family_lists_its_verbs(capsys):
    assert main(["prepare", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "prepare owlii" in shown and "prepare video" in shown and "reconstruct" not in shown
