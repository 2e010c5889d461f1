#!/usr/bin/env python
"""Builds docker/cpu.Dockerfile without a Docker engine: its RUN lines in a fresh Debian root.

Every stage begins as debootstrap leaves it; ARG, ENV, WORKDIR, COPY and RUN are carried out in
order, and at the end the entrypoint runs as the image's user. Needs root (chroot, debootstrap).

    sudo python scripts/try_image.py --root /var/tmp/image -- synth /tmp/figure --n-frames 1

What pip needs besides (an index of one's own, certificates) goes in by ``--pass`` and ``--share``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
IMAGE = ROOT / "docker" / "cpu.Dockerfile"


def main(arguments: Sequence[str] | None = None) -> int:
    """Builds the image, runs its entrypoint, and returns the first exit code that is not 0."""
    options = _parser().parse_args(arguments)
    base, build = options.root / "base", Build(options)
    try:
        if not (base / "etc/debian_version").is_file():
            suite = re.findall(r"^FROM debian:(\w+)", IMAGE.read_text(), re.MULTILINE)[0]
            timed(["debootstrap", "--variant=minbase", suite, str(base)])
        for instruction, rest in instructions(IMAGE):
            build.carry_out(instruction, rest)
        for command in (["doctor"], options.command):
            if command:
                build.start(command)
    except subprocess.CalledProcessError as error:
        print(f"try_image: exit code {error.returncode}", file=sys.stderr)
        return error.returncode
    return 0


class Build:
    """The stages of an image so far, each a folder that is a root."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.arguments = dict(pair.split("=", 1) for pair in options.build_arg)
        self.stages: dict[str, Path] = {}
        self.root, self.folder, self.user = options.root, "/", "0:0"
        self.variables: dict[str, str] = {}
        self.entrypoint: list[str] = []

    def carry_out(self, instruction: str, rest: str) -> None:
        """Does what a line of the Dockerfile says."""
        if instruction == "FROM":
            self._begin(rest.split()[-1] if " AS " in rest else "image")
        elif instruction == "ARG":
            name, _, default = rest.partition("=")
            self.variables[name] = self.arguments.get(name, self._expanded(default))
        elif instruction == "ENV":
            for pair in shlex.split(rest):
                name, _, value = pair.partition("=")
                self.variables[name] = self._expanded(value)
        elif instruction == "WORKDIR":
            self.folder = rest
            (self.root / rest[1:]).mkdir(parents=True, exist_ok=True)
        elif instruction == "COPY":
            self._copy(rest)
        elif instruction == "USER":
            self.user = rest
        elif instruction == "ENTRYPOINT":
            self.entrypoint = json.loads(rest)
        elif instruction == "RUN":
            self._run(["bash", "-o", "pipefail", "-c", rest], self.user)

    def start(self, command: Sequence[str]) -> None:
        """Runs the entrypoint with arguments, as the image's user."""
        self._run([*self.entrypoint, *command], self.user)

    def _begin(self, name: str) -> None:
        self.root = self.stages[name] = self.options.root / name
        self.folder, self.user = "/", "0:0"
        self.variables = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        if self.root.exists():
            shutil.rmtree(self.root)
        subprocess.run(["cp", "-a", str(self.options.root / "base"), str(self.root)], check=True)

    def _copy(self, rest: str) -> None:
        *sources, target = [word for word in rest.split() if not word.startswith("--")]
        stage = re.search(r"--from=(\S+)", rest)
        origin = self.stages[stage[1]] if stage else ROOT
        into = self.root / os.path.join(self.folder, target)[1:]
        for source in sources:
            path = origin / source.lstrip("/")
            if path.is_dir():
                shutil.copytree(path, into, symlinks=True, dirs_exist_ok=True)
            else:
                shutil.copy2(path, into / path.name if into.is_dir() else into)

    def _run(self, command: list[str], user: str) -> None:
        given = {name: os.environ[name] for name in self.options.passed if name in os.environ}
        variables = [f"{name}={value}" for name, value in (given | self.variables).items()]
        inside = f"cd {shlex.quote(self.folder)} && exec {shlex.join(command)}"
        with shared(self.options.share, self.root):
            timed(
                ["chroot", f"--userspec={user}", str(self.root), "env", "-i", *variables]
                + ["bash", "-c", inside]
            )

    def _expanded(self, text: str) -> str:
        return re.sub(r"\$\{?(\w+)\}?", lambda found: self.variables.get(found[1], ""), text)


@contextlib.contextmanager
def shared(paths: Sequence[Path], root: Path) -> Iterator[None]:
    """Shows files and folders of this machine in a root, to be read, and /dev, /proc and the names
    of the network."""
    mounted: list[Path] = []
    try:
        for path in [Path("/dev"), Path("/proc"), Path("/etc/resolv.conf"), *paths]:
            target = root / str(path)[1:]
            if path.is_dir():
                target.mkdir(parents=True, exist_ok=True)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.touch()
            subprocess.run(["mount", "--bind", str(path), str(target)], check=True)
            mounted.append(target)
            if path in paths:  # what the image's packages install is not to reach this machine
                subprocess.run(["mount", "-o", "remount,bind,ro", str(target)], check=True)
        yield
    finally:
        for target in reversed(mounted):
            subprocess.run(["umount", "--lazy", str(target)], check=True)


def timed(command: Sequence[str]) -> None:
    """Runs a command, and says what it was and how long it took."""
    begun = time.monotonic()
    subprocess.run(command, check=True)
    shown = command[-1] if command[0] == "chroot" else shlex.join(command)
    print(f"try_image: {time.monotonic() - begun:6.1f} s  {shown[:160]}", flush=True)


def instructions(path: Path) -> list[tuple[str, str]]:
    """Returns (instruction, arguments) of a Dockerfile, its continued lines joined."""
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    pairs = (line.partition(" ") for line in joined.splitlines() if line.strip())
    return [(name, rest.strip()) for name, _, rest in pairs]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, required=True, help="folder of the roots, 6 GB")
    parser.add_argument("--build-arg", action="append", default=[], help="NAME=VALUE, as docker's")
    parser.add_argument(
        "--pass", dest="passed", action="append", default=[], help="an environment variable"
    )
    parser.add_argument(
        "--share", type=Path, action="append", default=[], help="a file or folder, read there too"
    )
    parser.add_argument("command", nargs="*", help="for the entrypoint, after doctor")
    return parser


if __name__ == "__main__":
    sys.exit(main())
