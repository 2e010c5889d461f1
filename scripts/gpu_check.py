#!/usr/bin/env python
"""Checks and measures the GPU backends on this machine: one JSON, one page, under eight minutes.

Parts: parity (values and gradients against `reference`; a field that each backend learnt a little,
seen by all of them), kernels (ms, samples/s, floors), step (a
whole training step, its waits for the device), training (60 s of a capture: PSNR, Chamfer, peak
memory, the checkpoint's picture on every backend) and, where asked for, tilings (which tiles suit
the networks' kernels here). Every part runs in a process of its own, and
for each backend apart: a kernel that crashes, hangs or loses the device ends that one only. What
is done is kept, whatever happens later.
``--interpret`` runs everything tiny on a CPU, in Triton's interpreter; its times mean nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import warnings
from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarking import ROOT

SHARES = {"parity": 0.4, "kernels": 0.25, "step": 0.09, "training": 0.26, "tilings": 0.35}
"""Parts of the check, and of the time that each may take; what one leaves is the next one's."""
OPTIONAL_PARTS = ("tilings",)
"""Those for whoever tunes the kernels; they run where they are named."""
PARTS = tuple(part for part in SHARES if part not in OPTIONAL_PARTS)
SIZES = ("18x8", "16x1", "16x4", "16x16", "18x1", "18x4", "18x16", "20x1", "20x4", "20x16")
"""Rows, as a power of two, and frames; the first is the size that design figures are given for."""
STEP_SECONDS = 4.0
"""Of steps, warming up and again while they are measured; a hundred at most."""
GRACE = 20.0
"""Seconds after its time is up until a process is ended: it may be within one long entry."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the parts and returns 0 where all of them ran and every kernel agrees, else 1.

    Returns 4 without a device.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    parts = options.parts.split(",")
    if unknown := set(parts) - set(SHARES):
        parser.error(f"--parts: unknown {', '.join(unknown)}; allowed: {', '.join(SHARES)}")
    if options.interpret:
        os.environ["TRITON_INTERPRET"] = "1"
        if not options.alone:
            options.backends = "triton"
    import torch
    from benchmarking.gpu_report import page

    if not options.interpret and not torch.cuda.is_available():
        print("gpu_check: error: torch sees no CUDA GPU here; --interpret tries it on a CPU")
        return 4
    if options.alone:
        check = Check(options)
        check.run(options.alone)
        found = check.found
    else:
        found = gathered(options, parts)
    text = page(found, SHARES)
    if options.page and not options.interpret:
        options.page.write_text(text)
    print(text)
    return 0 if is_fine(found) else 1


def is_fine(found: dict[str, Any]) -> bool:
    """Returns whether nothing failed and every kernel agrees."""
    entries = [entry for part in SHARES for entry in found.get(part, [])]
    agree = all(entry["agrees"] for entry in found.get("parity", []))
    return agree and not found["errors"] and not any("error" in entry for entry in entries)


def gathered(options: Namespace, parts: Sequence[str]) -> dict[str, Any]:
    """Runs the parts in processes of their own and returns what they found; it is saved as well."""
    begun, until = time.monotonic(), 0.0
    found: dict[str, Any] = {"missing": [], "errors": [], "took": {}}
    for part in parts:
        groups = _groups(part, options.backends)
        share = SHARES[part] / sum(SHARES[each] for each in parts) / len(groups)
        for backends in groups:
            until += options.limit * share
            started = time.monotonic()
            own = _apart(options, part, backends, max(0.0, begun + until - started))
            found["took"][f"{part} on {backends}"] = round(time.monotonic() - started, 1)
            errors, missing = own.pop("errors"), own.pop("missing")
            found["errors"] += errors
            found["missing"] += [text for text in missing if text not in found["missing"]]
            for each in set(SHARES) & set(own):
                found[each] = found.get(each, []) + own.pop(each)
            found |= own | {"seconds": round(time.monotonic() - begun, 1)}
            _save(options.out, found)
    return found


def _groups(part: str, backends: str) -> list[str]:
    """Returns the backends of each process; plain torch is measured besides."""
    if part == "training":
        return [backends]
    if part == "tilings":
        return ["triton"]
    return backends.split(",") + (["reference"] if part == "kernels" else [])


def _apart(options: Namespace, part: str, backends: str, limit: float) -> dict[str, Any]:
    """Runs a part on some backends in a process of its own; returns what it found, errors too."""
    out = options.out.with_suffix(f".{part}.{backends.replace(',', '-')}.json")
    out.unlink(missing_ok=True)
    command = [sys.executable, __file__, "--alone", part, "--backends", backends]
    command += ["--limit", str(limit), "--seconds", str(options.seconds), "--out", str(out)]
    command += ["--capture", str(options.capture)] if options.capture else []
    command += ["--interpret"] if options.interpret else []
    command += ["--sizes", *(f"{power}x{frames}" for power, frames in options.sizes)]
    fault = ""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit + GRACE)
        if done.returncode not in (0, 1) or not out.exists():
            last = (done.stderr.strip().splitlines() or [""])[-1]
            fault = f"{part} on {backends}: ended with {done.returncode}: {last}"
    except subprocess.TimeoutExpired:
        fault = f"{part} on {backends}: did not end in time"
    found = {"missing": [], "errors": []}
    if out.exists():
        found |= json.loads(out.read_text())
        out.unlink()
    found["errors"] += [fault] if fault else []
    return found


class Check:
    """One part of the check, in this process, and what it found, in a file."""

    def __init__(self, options: Namespace) -> None:
        import torch
        from benchmarking.gpu_report import machine

        from resfields_ngp.backends import BackendUnavailable

        self.options, self.begun = options, time.monotonic()
        self.device = torch.device("cpu" if options.interpret else "cuda")
        self.found: dict[str, Any] = machine(self.device) | {"missing": [], "errors": []}
        self.backends: list[Any] = []
        for name in options.backends.split(","):
            try:
                self.backends.append(_opened(name, self.device))
            except BackendUnavailable as error:
                self.found["missing"].append(str(error))
        _save(options.out, self.found)

    def run(self, part: str) -> None:
        """Runs a part as far as the time allows; what it had found when it failed is kept."""
        try:
            for entry in getattr(self, f"_{part}")() if self.backends else ():
                self.found.setdefault(part, []).append(entry)
                _save(self.options.out, self.found)
                if time.monotonic() > self.begun + self.options.limit:
                    self.found["errors"].append(f"{part}: out of time")
                    break
        except Exception as error:
            self.found["errors"].append(f"{part}: {type(error).__name__}: {error}")
        _save(self.options.out, self.found)

    def _parity(self) -> Iterator[dict[str, Any]]:
        from benchmarking.gpu_kernels import parity
        from benchmarking.gpu_training import pictures

        yield from parity(self.backends, self.device, self.options.interpret)
        yield from pictures(self.options, self.backends, self.device)

    def _kernels(self) -> Iterator[dict[str, Any]]:
        from benchmarking.gpu_kernels import times

        small = self.options.interpret
        sizes = [(1 << power, frames) for power, frames in self.options.sizes]
        yield from times(self.backends, self.device, [(64, 2)] if small else sizes, small)

    def _step(self) -> Iterator[dict[str, Any]]:
        import torch
        from benchmarking.gpu_training import trainer_on

        from resfields_ngp.trainer import Trainer
        from resfields_ngp.training import compile_kernels

        for backend in self.backends:
            if self.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            trainer: Trainer = trainer_on(self.options, backend)
            if not self.options.interpret:
                compile_kernels(trainer)
            recorder = trainer.recorder
            yield {"backend": backend.name, "recorded": recorder is not None} | self._timed(trainer)
            if recorder is not None:
                recorder.is_given_up = True
                yield {"backend": backend.name, "recorded": False} | self._timed(trainer)

    def _timed(self, trainer: Any) -> dict[str, Any]:
        """Returns how long a step takes; a recording is made anew as rays become more."""
        from benchmarking.gpu_report import memory

        n_warm, most = (0, 1) if self.options.interpret else (100, 100)
        begun = time.perf_counter()
        for _ in range(n_warm):
            trainer.advance()
            if time.perf_counter() > begun + STEP_SECONDS:
                break
        _wait(self.device)
        begun, n_steps, samples, losses = time.perf_counter(), 0, 0, {}
        while n_steps < most and time.perf_counter() < begun + STEP_SECONDS:
            result = trainer.advance()
            n_steps, samples, losses = n_steps + 1, samples + result.n_samples, result.losses
        _wait(self.device)
        entry = {"ms_per_step": round(1e3 * (time.perf_counter() - begun) / n_steps, 3)}
        entry |= {"samples_per_step": round(samples / n_steps), "waits": _waits(trainer)}
        return entry | {"losses": ", ".join(losses)} | memory(self.device)

    def _tilings(self) -> Iterator[dict[str, Any]]:
        from benchmarking.gpu_tilings import tilings

        yield from tilings(self.device, self.options.interpret)

    def _training(self) -> Iterator[dict[str, Any]]:
        from benchmarking.gpu_training import trained

        yield trained(self.options, [backend.name for backend in self.backends], self.device)


def _opened(name: str, device: Any) -> Any:
    """Returns a backend; interpreted, Triton's runs on the CPU too."""
    from resfields_ngp.backends import open_backend

    if device.type == "cuda" or name != "triton":
        return open_backend(name, device.type)
    from resfields_ngp.backends.triton import TritonBackend

    return TritonBackend(device)


def _save(out: Path, found: dict[str, Any]) -> None:
    """Writes what is there."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(found, indent=1))


def _wait(device: Any) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize()


def _waits(trainer: Any) -> int | None:
    """Returns how often a step waits for the device, as torch counts; None without one.

    The median of some: now and then one looks at its losses, or is recorded anew.
    """
    import torch

    if trainer.task.field.backend.device.type != "cuda":
        return None
    found = []
    for _ in range(5):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            trainer.advance()
            torch.cuda.set_sync_debug_mode("default")
        found.append(sum("synchroniz" in str(warning.message) for warning in caught))
    return sorted(found)[2]


def _size(text: str) -> tuple[int, int]:
    power, frames = text.split("x")
    return int(power), int(frames)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", default=",".join(PARTS), help="what to run, by commas")
    parser.add_argument("--backends", default="triton,tcnn", help="which backends, by commas")
    parser.add_argument(
        "--sizes",
        nargs="+",
        type=_size,
        default=[_size(text) for text in SIZES],
        help="of the kernels part: power of two of the rows, x, frames",
    )
    parser.add_argument("--capture", type=Path, help="a capture; by default a synthetic one")
    parser.add_argument("--seconds", type=float, default=60.0, help="of the training part")
    parser.add_argument("--limit", type=float, default=460.0, help="seconds for all parts")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "gpu_check.json")
    parser.add_argument("--page", type=Path, help="where the page goes: docs/gpu.md")
    parser.add_argument("--interpret", action="store_true", help="tiny, on a CPU, interpreted")
    parser.add_argument("--alone", choices=SHARES, help="one part, in this process")
    return parser


if __name__ == "__main__":
    sys.exit(main())
