#!/usr/bin/env python
"""Checks and measures the GPU backends on this machine: one JSON, one page, under eight minutes.

Parts: parity (values and gradients against `reference`; a field that each backend learnt a little,
seen by all of them), kernels (ms, samples/s, floors), step (a
whole training step, its waits for the device), training (60 s of a capture: PSNR, Chamfer, peak
memory, the checkpoint's picture on every backend). What is done is kept, whatever happens later.
``--interpret`` runs everything tiny on a CPU, in Triton's interpreter; its times mean nothing.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
import warnings
from argparse import Namespace
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarking import ROOT

SHARES = {"parity": 0.15, "kernels": 0.35, "step": 0.15, "training": 1.0}
"""Parts of the check, and of the time that each may take; the last takes what is left."""
PARTS = tuple(SHARES)
SIZES = [(1 << power, frames) for power in (16, 18, 20) for frames in (1, 4, 16)] + [(1 << 18, 8)]
"""Rows and frames; the last is the size that design figures are given for."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the parts and returns 0 where all of them ran and every kernel agrees, else 1.

    Returns 4 without a device.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    parts = options.parts.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"--parts: unknown {', '.join(unknown)}; allowed: {', '.join(PARTS)}")
    if options.interpret:
        os.environ["TRITON_INTERPRET"] = "1"
    import torch

    if not options.interpret and not torch.cuda.is_available():
        print("gpu_check: error: torch sees no CUDA GPU here; --interpret tries it on a CPU")
        return 4
    check = Check(options)
    for part in parts:
        check.run(part)
    if options.page and not options.interpret:
        options.page.write_text(page(check.found))
    print(page(check.found))
    return 0 if check.is_fine() else 1


class Check:
    """What was found so far, in a file."""

    def __init__(self, options: Namespace) -> None:
        import torch

        from resfields_ngp.backends import BackendUnavailable

        self.options, self.begun = options, time.monotonic()
        self.device = torch.device("cpu" if options.interpret else "cuda")
        self.found: dict[str, Any] = machine(self.device) | {"missing": [], "errors": []}
        self.backends: list[Any] = []
        names = ["triton"] if options.interpret else options.backends.split(",")
        for name in names:
            try:
                self.backends.append(_opened(name, self.device))
            except BackendUnavailable as error:
                self.found["missing"].append(str(error))
        self.save()

    def run(self, part: str) -> None:
        """Runs a part as far as the time allows; an error ends the part only."""
        limit = self.options.limit
        until = min(time.monotonic() + limit * SHARES[part], self.begun + limit)
        try:
            for entry in getattr(self, f"_{part}")():
                self.found.setdefault(part, []).append(entry)
                self.save()
                if time.monotonic() > until:
                    self.found["errors"].append(f"{part}: out of time")
                    break
        except Exception as error:  # the other parts still say something
            self.found["errors"].append(f"{part}: {type(error).__name__}: {error}")
        self.found["seconds"] = round(time.monotonic() - self.begun, 1)
        self.save()

    def is_fine(self) -> bool:
        """Returns whether nothing failed and every kernel agrees."""
        return not self.found["errors"] and all(e["agrees"] for e in self.found.get("parity", []))

    def save(self) -> None:
        """Writes what is there."""
        self.options.out.parent.mkdir(parents=True, exist_ok=True)
        self.options.out.write_text(json.dumps(self.found, indent=1))

    def _parity(self):
        from benchmarking.gpu_kernels import parity
        from benchmarking.gpu_training import pictures

        yield from parity(self.backends, self.device, self.options.interpret)
        yield from pictures(self.options, self.backends, self.device)

    def _kernels(self):
        from benchmarking.gpu_kernels import times

        from resfields_ngp.backends import open_backend

        small = self.options.interpret
        plain = [open_backend("reference", self.device.type)]
        yield from times(self.backends + plain, self.device, [(64, 2)] if small else SIZES, small)

    def _step(self):
        import torch

        from resfields_ngp.training import Trainer, compile_kernels

        for backend in self.backends:
            if self.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            trainer: Trainer = _trainer(self.options, backend)
            if not self.options.interpret:
                compile_kernels(trainer)
            n_warm, n_steps = (0, 1) if self.options.interpret else (60, 30)
            for _ in range(n_warm):
                trainer.advance()
            _wait(self.device)
            begun, samples, losses = time.perf_counter(), 0, {}
            for _ in range(n_steps):
                result = trainer.advance()
                samples, losses = samples + result.n_samples, result.losses
            _wait(self.device)
            seconds = (time.perf_counter() - begun) / n_steps
            entry = {"backend": backend.name, "ms_per_step": round(1e3 * seconds, 3)}
            entry |= {"samples_per_step": round(samples / n_steps), "waits": _waits(trainer)}
            entry["losses"] = ", ".join(losses)
            if self.device.type == "cuda":
                entry["peak_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
            yield entry

    def _training(self):
        if self.options.interpret:
            return
        from benchmarking.gpu_training import trained

        yield trained(self.options, [backend.name for backend in self.backends])


def _opened(name: str, device: Any) -> Any:
    """Returns a backend; interpreted, Triton's runs on the CPU too."""
    from resfields_ngp.backends import open_backend

    if device.type == "cuda":
        return open_backend(name, "cuda")
    from resfields_ngp.backends.triton import TritonBackend

    return TritonBackend(device)


def _trainer(options: Namespace, backend: Any) -> Any:
    from benchmarking.gpu_training import trainer_on

    return trainer_on(options, backend)


def _wait(device: Any) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize()


def _waits(trainer: Any) -> int | None:
    """Returns how often a step waits for the device, as torch counts; None without one."""
    import torch

    if trainer.task.field.backend.device.type != "cuda":
        return None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        trainer.advance()
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in caught)


def machine(device: Any) -> dict[str, Any]:
    """Returns device, versions, date and commit."""
    import torch

    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    )
    name = platform.processor() or platform.machine()
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        name = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
        name += f", compute capability {properties.major}.{properties.minor}"
    return {
        "device": name,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "driver": _driver() if device.type == "cuda" else None,
        **{package: _version(package) for package in ("triton", "tinycudann", "nerfacc")},
        "python": platform.python_version(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "commit": commit.stdout.strip() or "unknown",
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _driver() -> str | None:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.splitlines()[0].strip()


def page(found: dict[str, Any]) -> str:
    """Returns a page of Markdown: what ran, in tables."""
    head = ("device", "date", "commit", "torch", "triton", "tinycudann", "nerfacc", "cuda")
    head += ("driver", "python")
    lines = ["# GPU", "", ", ".join(f"{name} {found[name]}" for name in head), ""]
    lines += [f"- {text}" for text in found["missing"] + found["errors"]]
    for part in PARTS:
        entries = found.get(part, [])
        if entries:
            columns = list(dict.fromkeys(name for entry in entries for name in entry))
            lines += ["", f"## {part.capitalize()}", "", "| " + " | ".join(columns) + " |"]
            lines.append("|" + "---|" * len(columns))
            for entry in entries:
                lines.append("| " + " | ".join(str(entry.get(name, "")) for name in columns) + " |")
    return "\n".join(lines) + "\n"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", default=",".join(PARTS), help="what to run, by commas")
    parser.add_argument("--backends", default="triton,tcnn", help="which backends, by commas")
    parser.add_argument("--capture", type=Path, help="a capture; by default a synthetic one")
    parser.add_argument("--seconds", type=float, default=60.0, help="of the training part")
    parser.add_argument("--limit", type=float, default=460.0, help="seconds for all parts")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "gpu_check.json")
    parser.add_argument("--page", type=Path, help="where the page goes: docs/gpu.md")
    parser.add_argument("--interpret", action="store_true", help="tiny, on a CPU, interpreted")
    return parser


if __name__ == "__main__":
    sys.exit(main())
