"""What of the program can run on this machine, and the line that mends what cannot."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .extras import EXTRAS

_TINYCUDANN = (
    "git+https://github.com/NVlabs/tiny-cuda-nn/@6ee3546bda615f51abe684ce9edefeb414689135"
    "#subdirectory=bindings/torch"
)
_NERFACC_LINE = (
    "import importlib.util as u, shutil, nerfacc; "
    "assert u.find_spec('nerfacc.csrc') or shutil.which('nvcc'), "
    "'its CUDA code is not compiled, and there is no nvcc'; print('fine')"
)
"""Its import alone says nothing: the CUDA code is built, or missed, when it is first called."""
_NERFACC = "git+https://github.com/nerfstudio-project/nerfacc.git@v0.5.3"

COMPILER_LINE = "apt-get install gcc libc6-dev python3-dev"
"""The command that installs what Triton builds its launchers with."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    """What it is."""
    verdict: Literal["works", "missing", "unneeded"]
    """Whether it works, is wanted but does not, or would be of no use here."""
    detail: str
    """Version, device or reason."""
    remedy: str = ""
    """The command that mends it; empty where there is nothing to mend."""
    is_essential: bool = False
    """True where reconstruction on the CPU needs it."""


@dataclass(frozen=True)
class _Gpu:
    name: str
    capability: str
    """Major and minor version without a dot, ``86``, as compilers of CUDA code want it."""


def diagnose() -> list[Finding]:
    """Looks at everything the program can make use of; never raises, whatever is missing."""
    gpu, gpu_finding = _gpu()
    return [
        _python(),
        *_essentials(),
        _numba(),
        gpu_finding,
        *_cuda_packages(gpu),
        *_extras(),
    ]


def can_run_on_cpu(findings: list[Finding]) -> bool:
    """Returns whether everything that the CPU path needs works."""
    return all(finding.verdict == "works" for finding in findings if finding.is_essential)


def tell() -> int:
    """Prints what there is, and what mends the rest; returns 0, or 4 where not even the CPU serves.

    It needs no package, or it could not say which is missing.
    """
    findings = diagnose()
    width = max(len(finding.name) for finding in findings)
    for each in findings:
        print(f"{each.name:{width}}  {_coloured(each.verdict)}  {each.detail}")
    print()
    for each in findings:
        if each.remedy:
            print(f"to mend {each.name}: {each.remedy}")
    if can_run_on_cpu(findings):
        print("Reconstruction on the CPU works here.")
        return 0
    print("resfields-ngp: error: the CPU path needs what is missing above", file=sys.stderr)
    return 4


def _coloured(verdict: str) -> str:
    """Returns a verdict as wide as the longest, in colour on a terminal that has some."""
    padded = f"{verdict:8}"
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return padded
    code = {"works": 32, "missing": 31, "unneeded": 2}[verdict]
    return f"\033[{code}m{padded}\033[0m"


def _python() -> Finding:
    is_new_enough = sys.version_info >= (3, 11)
    found = f"{platform.python_version()}, {os.cpu_count()} CPU threads, {platform.machine()}"
    verdict = "works" if is_new_enough else "missing"
    return Finding("python", verdict, found, "" if is_new_enough else "install Python 3.11", True)


def _essentials() -> Iterator[Finding]:
    """Yields one finding for each base package but numba."""
    for package, module in (
        ("torch", "torch"),
        ("numpy", "numpy"),
        ("scipy", "scipy"),
        ("opencv-python-headless", "cv2"),
        ("av", "av"),
        ("trimesh", "trimesh"),
        ("PyMCubes", "mcubes"),
        ("safetensors", "safetensors"),
        ("threadpoolctl", "threadpoolctl"),
        ("xatlas", "xatlas"),
        ("fast-simplification", "fast_simplification"),
        ("rich", "rich"),
        ("tyro", "tyro"),
    ):
        finding = _package(package, module, f"{sys.executable} -m pip install {package}")
        yield Finding(finding.name, finding.verdict, finding.detail, finding.remedy, True)


def _numba() -> Finding:
    """Compiles a function, as the cpu backend will."""
    line = "import numba; assert numba.njit(lambda x: x + 1)(1) == 2; print(numba.__version__)"
    is_fine, output = _attempt(line)
    remedy = "" if is_fine else f"{sys.executable} -m pip install --force-reinstall numba"
    detail = f"{output}, compiles" if is_fine else output
    return Finding("numba", "works" if is_fine else "missing", detail, remedy, True)


def _gpu() -> tuple[_Gpu | None, Finding]:
    """Returns the first CUDA device that torch can use, and what there is to say about it."""
    try:
        import torch

        if torch.cuda.is_available():
            major, minor = torch.cuda.get_device_capability(0)
            gpu = _Gpu(torch.cuda.get_device_name(0), f"{major}{minor}")
            memory = torch.cuda.get_device_properties(0).total_memory / 2**30
            detail = f"{gpu.name}, compute capability {major}.{minor}, {memory:.0f} GiB"
            return gpu, Finding("CUDA GPU", "works", f"{detail}, CUDA {torch.version.cuda}")
        built_for = torch.version.cuda
    except Exception as error:  # a broken driver may raise anything, and the doctor goes on
        return None, Finding("CUDA GPU", "missing", _first_line(str(error)))
    if shutil.which("nvidia-smi") is None:
        return None, Finding("CUDA GPU", "unneeded", "none found; the cpu backend is used")
    if built_for is None:
        remedy = f"{sys.executable} -m pip install --force-reinstall torch"
        return None, Finding("CUDA GPU", "missing", "driver found, torch is a CPU build", remedy)
    return None, Finding("CUDA GPU", "missing", "driver found, torch cannot use it", "nvidia-smi")


def tinycudann_line(capability: str) -> str:
    """Returns the command that builds tinycudann for a compute capability, such as ``86``."""
    architecture = f"TCNN_CUDA_ARCHITECTURES={capability} " if capability else ""
    pip = f"{sys.executable} -m pip install --no-build-isolation --force-reinstall --no-deps"
    return f"{architecture}{pip} {_TINYCUDANN}"


def nerfacc_line(capability: str) -> str:
    """Returns the command that builds nerfacc for a compute capability, such as ``86``."""
    architecture = (
        f"TORCH_CUDA_ARCH_LIST={capability[:-1]}.{capability[-1:]} " if capability else ""
    )
    pip = f"{sys.executable} -m pip install --no-build-isolation --force-reinstall --no-deps"
    return f"{architecture}{pip} {_NERFACC}"


def missing_compiler() -> str:
    """Returns what Triton lacks to build its launchers, at a kernel's first run; empty: nothing."""
    compiler = os.environ.get("CC") or next(filter(shutil.which, ("clang", "gcc", "cc")), "")
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if not compiler:
        return "no C compiler"
    if not shutil.which(compiler):
        return f"CC names {compiler}, which is not there"
    return "" if header.is_file() else f"{header} is not there"


def _compiler(gpu: _Gpu | None) -> Finding:
    reason = missing_compiler()
    if not reason:
        return Finding("C compiler", "works", "for Triton's launchers")
    if gpu is None:
        return Finding("C compiler", "unneeded", "Triton builds its launchers with one, on a GPU")
    return Finding("C compiler", "missing", f"{reason}; for Triton's launchers", COMPILER_LINE)


def _cuda_packages(gpu: _Gpu | None) -> Iterator[Finding]:
    """Yields what the GPU backends are made of."""
    yield _compiler(gpu)
    capability = gpu.capability if gpu else ""
    for package, module, remedy in (
        ("triton", "triton", f"{sys.executable} -m pip install triton"),
        ("nerfacc", "nerfacc", nerfacc_line(capability)),
        ("tinycudann", "tinycudann", tinycudann_line(capability)),
    ):
        finding = _package(package, module, remedy)
        if gpu is None and finding.verdict == "missing":
            yield Finding(package, "unneeded", "not installed; it needs a CUDA GPU")
        else:
            yield finding


def _extras() -> Iterator[Finding]:
    """Yields the conveniences that are used where they are there."""
    embree = ("embreex", "embreex", "meshes as pictures for prepare; not on ARM", "embreex")
    others = ((name, each.package, each.purpose, each.requirement) for name, each in EXTRAS.items())
    for extra in (embree, *others):
        yield _optional(*extra)


def _optional(module: str, package: str, purpose: str, requirement: str) -> Finding:
    finding = _package(package, module, f'{sys.executable} -m pip install "{requirement}"')
    if finding.verdict == "works":
        return finding
    return Finding(package, "unneeded", f"not installed; {purpose}", finding.remedy)


def _package(package: str, module: str, remedy: str) -> Finding:
    """Returns whether a package is installed and its import succeeds."""
    if importlib.util.find_spec(module) is None:
        return Finding(package, "missing", "not installed", remedy)
    line = _NERFACC_LINE if module == "nerfacc" else f"import {module}; print('fine')"
    is_fine, output = _attempt(line)
    if not is_fine:
        return Finding(package, "missing", f"installed, but: {output}", remedy)
    return Finding(package, "works", _version(package))


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "version unknown"


def _attempt(line: str) -> tuple[bool, str]:
    """Runs a line of Python in a process of its own: a broken extension may end the interpreter."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", line], capture_output=True, text=True, timeout=120, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        return False, _first_line(str(error))
    if done.returncode == 0:
        return True, done.stdout.strip()
    return False, done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "it crashed"


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else "unknown error"
