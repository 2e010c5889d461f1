"""Laws of the scripts: they parse, say what they do, and the pins cover what the package needs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SHELL = [*sorted((ROOT / "scripts").glob("*.sh")), ROOT / ".ci" / "run"]
PYTHON = sorted((ROOT / "scripts").glob("*.py"))


@pytest.mark.parametrize("script", SHELL, ids=lambda path: path.name)
def test_a_shell_script_parses_and_stops_at_the_first_error(script: Path):
    subprocess.run(["bash", "-n", str(script)], check=True, timeout=30)
    text = script.read_text()
    assert "set -euo pipefail" in text
    assert os.access(script, os.X_OK) or text.startswith("# Sourced")


@pytest.mark.parametrize("script", PYTHON, ids=lambda path: path.name)
def test_a_python_script_has_help(script: Path):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(script), "--help"]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout.lower()


def test_ci_runs_the_tests_through_the_same_script_as_a_user():
    text = (ROOT / ".ci" / "run").read_text()
    assert "scripts/check.sh" in text and "scripts/test.sh" in text


@pytest.mark.parametrize(
    ("fitting", "taken"),
    [(("python3", "python3.12"), "python3"), (("python3.11",), "python3.11"), ((), "python3")],
)
def test_a_python_that_has_wheels_of_everything_is_preferred(
    fitting: tuple[str, ...], taken: str, tmp_path: Path
):
    for name in ("python3", "python3.12", "python3.11"):
        stand_in = tmp_path / name
        stand_in.write_text(f"#!/bin/sh\nexit {int(name not in fitting)}\n")
        stand_in.chmod(0o755)
    text = (ROOT / "scripts" / "environment.sh").read_text()
    function = text[text.index("python_with_wheels() {") : text.index("make_environment() {")]
    done = subprocess.run(
        ["bash", "-c", f"{function}\npython_with_wheels"],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout.strip() == taken


def _name(requirement: str) -> str:
    return re.split(r"[<>=\[;! ]", requirement)[0].lower().replace("_", "-")


def test_every_dependency_is_pinned_to_one_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", pin) for pin in pins)
    pinned = {_name(pin) for pin in pins}
    needed = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    assert {_name(requirement) for requirement in needed} <= pinned
