"""Compiles the Triton kernels as a launch on a GPU would, without one, and prints what each needs.

A process of its own: kernels that are interpreted cannot be compiled. ``ahead_of_time.py 80 90``
prints one JSON list of kernels for those compute capabilities; options that no default takes are
compiled for the first of them only, and only the usual networks for those without tensor cores.
"""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from resfields_ngp.backends import GridSpec, MlpSpec
from resfields_ngp.backends.triton import grid, ray_kernels, rays
from resfields_ngp.backends.triton.tilings import Tiling
from resfields_ngp.records import FrameSlices, Rays

# The package gives the function of this name.
mlp = importlib.import_module("resfields_ngp.backends.triton.mlp")

SLICES = FrameSlices((0, 1), (0, 40, 100))
NETWORKS = {
    "geometry": (MlpSpec(32, 16, 64, 1), 3, "float16"),
    "bfloat16": (MlpSpec(32, 16, 64, 1), 3, "bfloat16"),
    "two layers": (MlpSpec(32, 16, 64, 2), 3, "float16"),
    "four layers": (MlpSpec(32, 16, 64, 4), 3, "float16"),
    "colour": (MlpSpec(18, 3, 64, 1, "relu"), 0, "float16"),
    "wide": (MlpSpec(32, 16, 128, 2), 3, "float16"),
}
WITH_TENSOR_CORES = 80
"""The first compute capability whose tensor cores Triton multiplies on."""
TRIED = ("geometry", "two layers", "colour")
"""Networks of which every tiling is compiled."""
OPTIONAL_NETWORKS = {
    "narrow": (MlpSpec(32, 16, 16, 2, "relu"), 3, "float16"),
    "softplus": (MlpSpec(27, 17, 48, 1, "softplus"), 3, "bfloat16"),
    "no hidden layer": (MlpSpec(32, 16, 64, 0), 3, "float16"),
}
GRIDS = {
    "residuals": (GridSpec(12, 2, 4, 15, 8, 1.35), 3),
    "40 frames": (GridSpec(12, 2, 11, 15, 8, 1.35), 3),
    "100 frames": (GridSpec(12, 2, 16, 15, 8, 1.35), 3),
    "time slices": (GridSpec(12, 2, 1, 17, 8, 1.35, (2,) * 12), 0),
}
OPTIONAL_GRIDS = {
    "normals of time slices": (GridSpec(12, 2, 1, 17, 8, 1.35, (2,) * 12), 3),
    "one level": (GridSpec(1, 2, 4, 15, 8, 1.35), 3),
}


class NoDriver:
    """Stands for a GPU of a compute capability, as far as compiling asks for it."""

    def __init__(self, capability: int) -> None:
        self.target = GPUTarget("cuda", capability, 32)

    def get_current_target(self) -> GPUTarget:
        return self.target

    def get_current_device(self) -> int:
        return self.target.arch

    def get_current_stream(self, device: int) -> int:
        return 0


class Compiler:
    """Takes the place of `launch`: compiles and keeps what it finds."""

    def __init__(self, capability: int, tries: tuple[str, ...]) -> None:
        self.capability, self.tries, self.case, self.tiling = capability, tries, "", ""
        self.found: list[dict[str, Any]] = []

    def __call__(self, kernel: Any, grid: tuple[int, ...], *arguments: Any, **constants: Any):
        compiled = kernel.run(*arguments, grid=grid, warmup=True, **constants)
        entry = {"capability": self.capability, "case": self.case, "kernel": kernel.__name__}
        entry["tiling"] = self.tiling
        shared = {"shared": compiled.metadata.shared, "threads": 32 * constants.get("num_warps", 4)}
        self.found.append(entry | shared | assembled(compiled.asm["ptx"], self.capability))
        if kernel is ray_kernels.march and not constants["WRITES"]:
            arguments[7].fill_(1)  # counts: one sample a ray, so that they are written

    def fastest(
        self, kind: object, tilings: Sequence[Tiling], start: Callable, results: object, n_rows: int
    ) -> Tiling:
        """Takes the place of `tilings.fastest`: compiles all, and returns the first."""
        for tiling in tilings[1:] if self.case in self.tries else ():
            self.tiling = str(tiling)
            start(tiling, results)
        self.tiling = ""
        return tilings[0]


def assembled(ptx: str, capability: int) -> dict[str, int]:
    """Returns registers of a thread, and bytes that it stores to spill others."""
    tool = knobs.nvidia.ptxas_blackwell if capability >= 100 else knobs.nvidia.ptxas
    name = f"sm_{capability}" + ("a" if capability >= 90 else "")
    with tempfile.NamedTemporaryFile("w", suffix=".ptx") as file:
        file.write(ptx)
        file.flush()
        command = [tool.path, "-v", f"--gpu-name={name}", file.name, "-o", "/dev/null"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    patterns = {"registers": r"Used (\d+) registers", "spilled": r"(\d+) bytes spill stores"}
    return {key: int(re.findall(pattern, done.stderr)[0]) for key, pattern in patterns.items()}


def run_networks(compiler: Compiler, with_options: bool) -> None:
    networks = NETWORKS | (OPTIONAL_NETWORKS if with_options else {})
    if compiler.capability < WITH_TENSOR_CORES:
        networks = {name: NETWORKS[name] for name in TRIED}
    for name, (spec, n_tangents, precision) in networks.items():
        compiler.case = name
        jets = torch.zeros(SLICES.n_rows, 1 + n_tangents, spec.n_inputs, requires_grad=True)
        weights = torch.zeros(2, spec.n_weights, requires_grad=True)
        mlp.mlp(jets, SLICES, weights, spec, precision).sum().backward()
        if n_tangents:
            # Features and positions; a motion asks for gradients by these.
            features = torch.zeros(SLICES.n_rows, 4, spec.n_inputs - 8, requires_grad=True)
            others = torch.zeros(SLICES.n_rows, 4, 3, requires_grad=name in OPTIONAL_NETWORKS)
            found = mlp.sloped_mlp(features, others, SLICES, weights, spec, precision)
            torch.cat(found, dim=1).sum().backward()


def run_grids(compiler: Compiler, with_options: bool) -> None:
    grids = GRIDS | (OPTIONAL_GRIDS if with_options else {})
    for name, (spec, n_tangents) in grids.items():
        compiler.case = name
        # A motion asks for gradients by positions.
        positions = torch.zeros(SLICES.n_rows, 3, requires_grad=name in OPTIONAL_GRIDS)
        shape = (2, spec.n_levels, spec.n_lookups * spec.n_channels)
        slots = torch.zeros(shape[:2] + (2,), dtype=torch.int64) if spec.time_resolutions else None
        coefficients, table = torch.zeros(shape), torch.zeros(spec.table_shape)
        leaves = (coefficients.requires_grad_(), table.requires_grad_())
        arguments = (positions, SLICES, leaves[0], slots, leaves[1], spec, n_tangents)
        grid.hash_grid(*arguments).sum().backward()


def run_rays(compiler: Compiler, with_options: bool) -> None:
    compiler.case = "rays"
    some = Rays(torch.zeros(100, 3), torch.ones(100, 3), SLICES)
    distances = torch.zeros(2, 8, 8, 8)
    if with_options:
        rays.march(some, distances.half(), 0.1, 0.05, 3.0, None)
    samples = rays.march(some, distances, 0.1, 0.05, 3.0, torch.rand(100))
    rays.interpolate(distances, torch.zeros(100, 3), SLICES)
    alphas = torch.zeros(samples.n_samples, requires_grad=True)
    indices = torch.arange(100)
    rays.composite(alphas, indices, 100).sum().backward()
    for n_values in (1, 7) if with_options else (7,):
        values = torch.zeros(samples.n_samples, n_values)
        rays.accumulate(alphas, values, indices, 100).sum().backward()


def _from_ampere_on(capability: int, device: torch.device) -> bool:
    """Takes the place of `launching.has_tensor_cores`."""
    return capability >= WITH_TENSOR_CORES


def main() -> None:
    found = []
    for index, capability in enumerate(int(text) for text in sys.argv[1:]):
        driver.set_active(NoDriver(capability))  # pyright: ignore - it is asked for no more
        compiler = Compiler(capability, tries=TRIED if index == 0 else ())
        for module in (grid, mlp, rays):
            module.launch = compiler
        mlp.fastest = compiler.fastest
        mlp.has_tensor_cores = partial(_from_ampere_on, capability)
        every = (run_networks, run_grids, run_rays)
        for run in every if capability >= WITH_TENSOR_CORES else every[:1]:
            run(compiler, with_options=index == 0)
        found += compiler.found
    print(json.dumps(found))


if __name__ == "__main__":
    main()
