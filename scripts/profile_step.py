#!/usr/bin/env python
"""Says where a training step spends its time late in training: ms per stage, on each backend.

The weights are those of a run (``--run``), or of a short training on the cpu backend. Each backend
then takes up the same state in a process of its own. Settings are given as to ``resfields-ngp``:
``--training.samples-per-batch 8192``.
"""

from __future__ import annotations

import argparse
import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarking import ROOT

OUT = ROOT / "runs" / "benchmarks"

WARM_STEPS = 4
"""Steps before the clock starts: kernels compile, memory settles."""

_FAR = 1_000_000
"""Steps of a schedule so long that it stands still while a few are measured."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the profile and returns the exit code, that of ``resfields-ngp`` for the same error."""
    from resfields_ngp.arguments import split_settings
    from resfields_ngp.cli import describe, exit_code

    given, settings = split_settings(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(given)
    try:
        _profile(options, settings)
    except (ValueError, OSError) as error:
        code = exit_code(error)
        print(f"profile_step: error: {describe(error, code)}", file=sys.stderr)
        return code
    return 0


def _profile(options: Namespace, settings: dict[str, Any]) -> None:
    """Profiles a step on each backend, writes the table and prints it."""
    from benchmarking.results import Ledger

    ledger = Ledger(options.table, describe_profile)
    run = options.run or _trained(options, settings)
    for backend in options.backend.split(","):
        task = (run, backend, options.fraction, options.measured, options.threads)
        # A process each, so that one's memory does not count as the other's.
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            ledger.add(pool.submit(profile, *task).result())
    rows = ledger.rows()
    print(describe_profile(rows))
    print(json.dumps(rows[-1]))


def _trained(options: Namespace, settings: dict[str, Any]) -> Path:
    """Returns the folder of a short run on the capture."""
    from benchmarking.measuring import capture_at, configured

    from resfields_ngp.config_tree import to_table
    from resfields_ngp.datasets import load_capture
    from resfields_ngp.options import UsageError
    from resfields_ngp.reconstruction import train
    from resfields_ngp.run_folder import RunFolder

    if options.capture is None:
        raise UsageError("no capture; pass its folder, or --run with a run folder")
    given = {"training.steps": options.steps, "training.threads": options.threads, **settings}
    config = configured(capture_at(options.capture, OUT), given, options.scene)
    run = RunFolder.create(options.out, to_table(config), overwrite=True)
    train(config, load_capture(config.capture), run)
    return run.path


def profile(run: Path, backend: str, fraction: float, n_steps: int, threads: int) -> dict[str, Any]:
    """Takes a run's training up on a backend and measures a few steps.

    Args:
        run: A run folder with a checkpoint and its capture still there.
        backend: Name of the backend.
        fraction: Fraction of training at which the schedules stand.
        n_steps: Steps measured; stages that are not in every step are spread over all.
        threads: CPU threads; 0 takes all.

    Returns:
        Mean ms of a step and of each stage, samples per ray, rays and samples per second, peak
        memory in GiB, and the machine.
    """
    from benchmarking.results import machine, peak_memory
    from benchmarking.stopwatch import Stopwatch, timed_steps

    from resfields_ngp.reconstruction import use_threads

    use_threads(threads)
    watch = Stopwatch()
    name, trainer = _resumed(run, backend, fraction, watch)
    for _ in range(WARM_STEPS):
        trainer.advance()
    watch.seconds.clear()
    with timed_steps(trainer, watch):
        results = [trainer.advance() for _ in range(n_steps)]
    seconds = sum(watch.seconds.values())
    n_rays = sum(result.n_rays for result in results)
    n_samples = sum(result.n_samples for result in results)
    return {
        **machine(),
        "capture": name,
        "run": str(run),
        "backend": backend,
        "fraction": fraction,
        "steps": n_steps,
        "ms_per_step": round(1e3 * seconds / n_steps, 3),
        "stages": {name: round(1e3 * s / n_steps, 3) for name, s in watch.seconds.items()},
        "rays_per_step": round(n_rays / n_steps),
        "samples_per_ray": round(n_samples / max(n_rays, 1), 2),
        "rays_per_second": round(n_rays / seconds),
        "samples_per_second": round(n_samples / seconds),
        "peak_memory_gib": peak_memory(),
    }


def _resumed(run_path: Path, backend: str, fraction: float, watch: Any) -> tuple[str, Any]:
    """Returns the capture's name and a trainer with the run's state whose schedules stand still."""
    import dataclasses

    import torch
    from benchmarking.stopwatch import TimedBackend

    from resfields_ngp.backends import open_backend
    from resfields_ngp.config import Config
    from resfields_ngp.config_tree import apply_table
    from resfields_ngp.datasets import load_capture
    from resfields_ngp.field import Field
    from resfields_ngp.hull import build_hull, with_doubts
    from resfields_ngp.occupancy import Occupancy
    from resfields_ngp.pixels import PixelSource
    from resfields_ngp.run_folder import RunFolder
    from resfields_ngp.tasks.capture import CaptureTask
    from resfields_ngp.trainer import Trainer

    run = RunFolder.open(run_path)
    tensors, state = run.trained()
    config = apply_table(Config(), run.settings(), str(run.config_path))
    capture = load_capture(config.capture)
    hull = build_hull(capture, config.hull)
    doubted = with_doubts(capture, config.hull)
    parts = (config.encoder, config.network, config.head, config.residual)
    kernels = TimedBackend(open_backend(backend, "cpu"), watch)
    field = Field(*parts, capture.n_frames, torch.Generator(), kernels, config.motion)
    occupancy = Occupancy(hull, config.occupancy, capture.has_masks)
    source = PixelSource(doubted, hull.space, doubted.views, config.capture.use_depth)
    training = dataclasses.replace(config.training, steps=_FAR)
    task = CaptureTask(training, config.losses, field, occupancy, source, capture.n_frames)
    trainer = Trainer(training, task)
    trainer.restore(tensors, {**state, "step": round(fraction * _FAR)})
    return capture.name, trainer


def describe_profile(rows: list[dict[str, Any]]) -> str:
    """Returns the Markdown of the newest profile of each run and backend, side by side."""
    from benchmarking.results import machine_line, markdown_table
    from benchmarking.stopwatch import STAGES

    runs: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for row in rows:
        runs.setdefault((row["capture"], row["run"]), {})[row["backend"]] = row
    parts = ["# A training step\n"]
    for (capture, run), by_backend in runs.items():
        shown = list(by_backend.values())
        header = ["ms per step", *(f"{name} (share)" for name in by_backend)]
        lines = [[stage, *(_with_share(row, stage) for row in shown)] for stage in STAGES]
        lines.append(["**step**", *(row["ms_per_step"] for row in shown)])
        facts = ("samples_per_ray", "rays_per_step", "rays_per_second", "samples_per_second")
        for name in (*facts, "peak_memory_gib"):
            lines.append([name.replace("_", " ").replace("gib", "GiB"), *(r[name] for r in shown)])
        title = f"## {capture}, at {shown[-1]['fraction']:.0%} of training ({run})\n"
        parts += [title, markdown_table(header, lines), machine_line(shown[-1])]
    return "\n".join(parts)


def _with_share(row: dict[str, Any], stage: str) -> str:
    spent = row["stages"].get(stage, 0.0)
    return f"{spent:.1f} ({spent / row['ms_per_step']:.0%})"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("capture", nargs="?", help="folder of the capture, or synthetic or synthetic-white")
    add("--run", type=Path, help="take the weights and settings of this run")
    add("--steps", type=int, default=400, help="steps of training where there is no run (400)")
    add("--fraction", type=float, default=0.9, help="where the schedules stand, 0 to 1 (0.9)")
    add("--measured", type=int, default=32, help="steps measured, best a multiple of 16 (32)")
    add("--backend", default="cpu,reference", help="separated by commas (cpu,reference)")
    add("--threads", type=int, default=0, help="CPU threads; 0 takes all (0)")
    add("--scene", type=Path, help="scene file (scenes/<capture's name>.toml)")
    add("--out", type=Path, default=OUT / "profile", help="run folder (runs/benchmarks/profile)")
    add("--table", type=Path, default=OUT / "profile.md", help="(runs/benchmarks/profile.md)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
