"""Laws of the images: linted, every file they name is there, nobody is root, SIGTERM saves."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from argparse import Namespace
from pathlib import Path

import pytest
import yaml
from try_image import Build, instructions

import resfields_ngp

ROOT = Path(__file__).parents[1]

IMAGES = sorted((ROOT / "docker").glob("*.Dockerfile"))


def only(path: Path, name: str) -> str:
    """Returns the arguments of an instruction that occurs last in the file."""
    return [arguments for instruction, arguments in instructions(path) if instruction == name][-1]


@pytest.mark.parametrize("image", IMAGES, ids=lambda path: path.stem)
def test_an_image_passes_the_linter(image: Path):
    linter = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if linter is None:
        pytest.skip("hadolint is not installed")
    done = subprocess.run(
        [linter, "--no-color", str(image)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and not done.stdout, done.stdout


@pytest.mark.parametrize("image", IMAGES, ids=lambda path: path.stem)
def test_what_an_image_copies_is_there_and_not_ignored(image: Path):
    rules = (ROOT / ".dockerignore").read_text().splitlines()
    kept = [rule[1:] for rule in rules if rule.startswith("!")]
    sources = []
    for instruction, arguments in instructions(image):
        if instruction == "COPY" and "--from" not in arguments:
            sources += arguments.split()[:-1]
    assert {"pyproject.toml", "constraints.txt", "resfields_ngp"} <= set(sources)
    for source in sources:
        assert (ROOT / source).exists() and any(fnmatch.fnmatch(source, rule) for rule in kept)


@pytest.mark.parametrize("image", IMAGES, ids=lambda path: path.stem)
def test_an_image_runs_the_program_itself_as_an_ordinary_user(image: Path):
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert json.loads(only(image, "ENTRYPOINT")) == [*scripts]  # exec form: signals reach it
    assert only(image, "USER") == "1000:1000"
    assert json.loads(only(image, "HEALTHCHECK").partition("CMD ")[2]) == [*scripts, "doctor"]
    label = only(image, "LABEL")
    assert "org.opencontainers.image.licenses" in label
    assert f'org.opencontainers.image.version="{resfields_ngp.__version__}"' in label
    caches = dict(pair.split("=", 1) for pair in only(image, "ENV").split() if "CACHE" in pair)
    assert caches and all(place.startswith("/cache/") for place in caches.values())


def test_the_gpu_image_builds_for_listed_architectures_without_a_gpu_or_without_tcnn():
    image = ROOT / "docker" / "gpu.Dockerfile"
    defaults = dict(
        arguments.split("=", 1) for name, arguments in instructions(image) if name == "ARG"
    )
    assert defaults["ARCHITECTURES"] == '"75;80;86;89;90;100;120"'
    assert re.fullmatch(r"[0-9a-f]{40}", defaults["TCNN_COMMIT"]) and defaults["WITH_TCNN"] == "1"
    text = image.read_text()
    assert "nvidia-smi" not in text and "--gpus" not in text
    (build,) = (a for name, a in instructions(image) if name == "RUN" and "tiny-cuda-nn" in a)
    assert 'TCNN_CUDA_ARCHITECTURES="$ARCHITECTURES"' in build and "TORCH_CUDA_ARCH_LIST" in build
    environment = {"PATH": os.environ["PATH"], "WITH_TCNN": "0"}
    lazy = build.replace("mkdir /wheels", "true")
    subprocess.run(["bash", "-euc", lazy], env=environment, check=True, timeout=30)
    stages = [arguments for name, arguments in instructions(image) if name == "FROM"]
    assert "-devel-" in stages[0] and "-runtime-" in stages[1]


@pytest.mark.parametrize("image", IMAGES, ids=lambda path: path.stem)
def test_an_image_pins_everything_it_installs(image: Path):
    runs = [arguments for name, arguments in instructions(image) if name == "RUN"]
    parts = " && ".join(runs).split("pip install ")[1:]
    installs = [part.split("&&")[0].strip() for part in parts]
    assert "--no-build-isolation -c constraints.txt '.[viewer]'" in installs
    assert any("grep '^torch==' constraints.txt" in install for install in installs)
    for install in installs:
        assert "==" in install or "-c constraints.txt" in install or "/wheels/" in install, install


def test_the_gpu_image_takes_the_cuda_that_torchs_wheels_are_built_for():
    defaults = dict(
        arguments.split("=", 1)
        for name, arguments in instructions(ROOT / "docker" / "gpu.Dockerfile")
        if name == "ARG"
    )
    major, minor, _ = defaults["CUDA"].split(".")
    assert defaults["TORCH_INDEX"].endswith(f"/cu{major}{minor}")
    # CUDA 13 left out what came before Turing.
    assert int(major) < 13 or min(map(int, defaults["ARCHITECTURES"].strip('"').split(";"))) >= 75


def test_a_build_without_docker_runs_every_line_in_order_in_its_own_roots(tmp_path: Path):
    class Recording(Build):
        ran: tuple[tuple[str, str, str, str], ...] = ()

        def _run(self, command, user):
            self.ran += ((self.root.name, self.folder, user, command[-1]),)
            if command[-1].endswith("venv /opt/venv"):
                (self.root / "opt/venv/bin").mkdir(parents=True)

    (tmp_path / "base/etc").mkdir(parents=True)
    image = ROOT / "docker" / "cpu.Dockerfile"
    build = Recording(Namespace(root=tmp_path, build_arg=["TORCH_INDEX=https://example.org"]))
    for instruction, rest in instructions(image):
        build.carry_out(instruction, rest)
    expected = [rest for name, rest in instructions(image) if name == "RUN"]
    assert [line for *_, line in build.ran] == expected
    assert [place for place, *_ in build.ran] == ["build"] * 4 + ["image"] * 2
    assert (tmp_path / "build/src/resfields_ngp/cli.py").is_file()
    assert (tmp_path / "image/opt/venv/bin").is_dir() and not (tmp_path / "image/src").exists()
    build.start(["doctor"])
    assert build.ran[-1] == ("image", "/runs", "1000:1000", "doctor")
    assert build.variables["PATH"].startswith("/opt/venv/bin:/usr/local/sbin:")
    assert build.variables["REVISION"] == "unknown"


def test_architectures_are_written_as_torch_wants_them():
    text = (ROOT / "docker" / "gpu.Dockerfile").read_text()
    (command,) = re.findall(r"sed -E '[^']+'", text)
    done = subprocess.run(
        ["bash", "-c", f"echo '75;90;120' | {command}"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "7.5;9.0;12.0"


def test_compose_names_images_that_are_there_mounts_and_a_gpu():
    folder = ROOT / "docker"
    compose = yaml.safe_load((folder / "compose.yaml").read_text())
    assert set(compose["services"]) == {"gpu", "cpu"}
    for service in compose["services"].values():
        context = (folder / service["build"]["context"]).resolve()
        assert context == ROOT and (context / service["build"]["dockerfile"]).is_file()
        mounts = {mount["target"]: mount for mount in service["volumes"]}
        assert set(mounts) == {"/data", "/runs", "/cache"} and mounts["/data"]["read_only"]
        assert mounts["/cache"]["source"] in compose["volumes"]
        assert service["stop_grace_period"] == "2m" and service["init"] is True
    devices = compose["services"]["gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert devices == [{"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}]
    assert "deploy" not in compose["services"]["cpu"]


def test_sigterm_to_the_entrypoint_saves_and_ends_with_143(tmp_path: Path):
    entrypoint = json.loads(only(ROOT / "docker" / "cpu.Dockerfile", "ENTRYPOINT"))
    assert entrypoint == ["resfields-ngp"]
    program = [sys.executable, "-m", "resfields_ngp"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    capture, run = tmp_path / "capture", tmp_path / "run"
    small = ["--n-frames", "1", "--n-cameras", "3", "--size", "24", "--synthetic.n-points", "9"]
    subprocess.run([*program, "synth", str(capture), *small], env=environment, check=True)
    network = ["--encoder.n-levels", "4", "--training.samples-per-batch", "256"]
    command = [*program, "train", str(capture), "--out", str(run), "--seconds", "600", *network]
    child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        metrics, deadline = run / "metrics.jsonl", time.monotonic() + 240
        while not metrics.exists() and time.monotonic() < deadline and child.poll() is None:
            time.sleep(0.2)
        child.send_signal(signal.SIGTERM)
        assert child.wait(timeout=120) == 128 + signal.SIGTERM
    finally:
        child.kill()
    assert list((run / "checkpoints").glob("*.safetensors"))
