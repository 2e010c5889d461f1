"""The Triton kernels compile for GPUs, and fit: the compiler and ptxas need no GPU for it.

The interpreter takes what the compiler does not, and knows no registers.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

if importlib.util.find_spec("triton") is None:
    pytest.skip("triton is not installed", allow_module_level=True)

CAPABILITIES = (90, 80, 120)
"""H100, A100, GeForce RTX 50."""
TURING = 75
"""T4, GeForce RTX 20: on their tensor cores Triton does not multiply."""
SPILLED = {"wide": 768, "four layers": 320}
"""Bytes that a thread may move to memory for want of registers; 64 where nothing else is said."""
SLOPED_SPILLED = SPILLED | {"two layers": 256, "narrow": 208}
"""The same of `sloped_backward`."""
SHARED = 99 << 10
"""Bytes of shared memory that a program has on any GPU since the GeForce RTX 30."""


@pytest.fixture(scope="module")
def kernels() -> list[dict]:
    """Returns what each kernel needs on each compute capability."""
    script = Path(__file__).with_name("ahead_of_time.py")
    command = [sys.executable, str(script), *map(str, (*CAPABILITIES, TURING))]
    environment = os.environ | {"TRITON_INTERPRET": "0", "PYTHONPATH": str(script.parents[2])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def test_every_kernel_compiles(kernels: list[dict]):
    from resfields_ngp.backends.triton import (
        grid_kernels,
        mlp_kernels,
        ray_kernels,
        sloped_kernels,
    )

    defined = {
        name
        for module in (grid_kernels, mlp_kernels, ray_kernels, sloped_kernels)
        for name, value in vars(module).items()
        if hasattr(value, "run") and not isinstance(value, type) and not name.startswith("_")
        if value.fn.__module__ == module.__name__
    }
    for capability in CAPABILITIES:
        compiled = {e["kernel"] for e in kernels if e["capability"] == capability}
        assert compiled == defined, capability


def test_registers_suffice(kernels: list[dict]):
    allowed = {"sloped_backward": SLOPED_SPILLED}
    excessive = [
        each
        for each in kernels
        if each["spilled"] > allowed.get(each["kernel"], SPILLED).get(each["case"], 64)
        and not each["tiling"]  # one that spills is measured, and not taken
    ]
    assert not excessive, excessive


def test_every_other_way_to_share_rows_compiles(kernels: list[dict]):
    networks = {"mlp_forward", "mlp_backward", "sloped_forward", "sloped_backward"}
    for kernel in networks:
        found = [e for e in kernels if e["kernel"] == kernel and e["tiling"]]
        cases = {"geometry", "two layers"} | ({"colour"} if kernel.startswith("mlp") else set())
        assert {e["case"] for e in found} == cases
        others = 2 * len(cases) - 1 if kernel.endswith("backward") else 3 * len(cases)
        assert len({(e["case"], e["tiling"]) for e in found}) == others


def test_a_program_fits_into_a_multiprocessor(kernels: list[dict]):
    for each in kernels:
        assert each["shared"] <= SHARED, each
        assert each["registers"] * each["threads"] <= 1 << 16, each
